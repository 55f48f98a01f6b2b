/** The program as the build bundles it: what a start has to find and read, which is most of what it costs. */
import { execFileSync } from "node:child_process"
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { expect, it } from "vitest"

const root = fileURLToPath(new URL("../../", import.meta.url))
const folder = fileURLToPath(new URL("../../dist/programs/bundle/", import.meta.url))
const files = readdirSync(folder)

/** What is loaded with these, in or outside of the bundle. */
const loaded = (...begin: ReadonlyArray<string>) => {
  const seen = new Set<string>()
  const outside = new Set<string>()
  const walk = (name: string) => {
    if (seen.has(name)) return
    seen.add(name)
    const text = readFileSync(folder + name, "utf8")
    for (const [, from = ""] of text.matchAll(/^(?:import|export)\b[^"'()]*?"([^"]+)";?$/gm))
      from.startsWith("./") ? walk(from.slice(2)) : outside.add(from)
  }
  for (const name of begin) walk(files.find((file) => file.startsWith(name)) ?? name)
  return { files: seen.size, outside: [...outside].filter((name) => !name.startsWith("node:")) }
}

it.each([
  ["a mistake or a question", ["program.js"], 4],
  ["arcp serve --memory", ["program.js", "start-", "serve-"], 35],
  ["arcp serve on a file", ["program.js", "start-", "serve-", "RuntimeSqlite-"], 40],
  ["a command of a client", ["program.js", "start-", "clients-"], 25]
])("%s needs few files, and nothing of node_modules but what is native", (_, begin, most) => {
  const found = loaded(...begin)
  expect(found.outside.filter((name) => name !== "@photostructure/sqlite")).toEqual([])
  expect(found.files).toBeLessThanOrEqual(most)
})

it("names what is inside, with its licence", () => {
  const notices = readFileSync(`${folder}NOTICES.txt`, "utf8")
  for (const name of ["effect", "ws", "jose", "@effect/platform"])
    expect(notices).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+$`, "m"))
  expect(notices).toMatch(/MIT License/)
})

it("an application that is bundled takes its thread along, or says that it has none and does without", async () => {
  const apart = mkdtempSync(join(tmpdir(), "arcp-bundled-"))
  try {
    const modules = join(root, "node_modules")
    mkdirSync(join(apart, "node_modules"))
    // What is never bundled: the SQLite of Node that has none of its own.
    symlinkSync(join(modules, "@photostructure"), join(apart, "node_modules/@photostructure"))
    const entry = join(apart, "entry.mjs")
    const [effect, node, store] = [
      join(modules, "effect/dist/esm/index.js"),
      join(root, "dist/node.js"),
      join(root, "dist/public/Store.js")
    ].map((file) => JSON.stringify(file))
    writeFileSync(
      entry,
      `import { Effect } from ${effect}
      import { StoreSqlite } from ${node}
      import { Op, Store } from ${store}
      const worker = process.argv[2] === undefined ? undefined : new URL(process.argv[2], import.meta.url)
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.commit([Op.Alive({ at: 5 })])
        console.log(yield* store.aliveAt, store.died === undefined ? "alone" : "with a thread")
      }).pipe(Effect.provide(StoreSqlite.layer({ filename: "bundled.db", worker })), Effect.scoped, Effect.runPromise)`
    )
    await build({
      entryPoints: [entry],
      outfile: join(apart, "bundled.mjs"),
      bundle: true,
      platform: "node",
      format: "esm",
      external: ["@photostructure/sqlite"],
      banner: {
        js: `import { createRequire } from "node:module"; const require = createRequire(import.meta.url)`
      }
    })
    copyFileSync(join(root, "dist/sqlite-worker.js"), join(apart, "copied.mjs"))
    const run = (...args: ReadonlyArray<string>) =>
      execFileSync(process.execPath, ["bundled.mjs", ...args], { cwd: apart, encoding: "utf8" })
    const alone = run()
    expect(alone).toMatch(/level=WARN.*no thread can be had.*effect-arcp\/sqlite-worker.*option worker/)
    expect(alone).toMatch(/^5 alone$/m)
    expect(run("./copied.mjs").trim()).toBe("5 with a thread")
  } finally {
    rmSync(apart, { recursive: true })
  }
})
