/** An application of a user's, bundled with this package: what of it cannot be inside. */
import { execFileSync } from "node:child_process"
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { expect, it } from "vitest"

const root = fileURLToPath(new URL("../../", import.meta.url))

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
        yield* store.commit({ ops: [Op.Alive({ at: 5 })], owners: [] })
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

it("the package is required from CommonJS, and is the same package", () => {
  const asks = `
    const names = ["effect-arcp", "effect-arcp/promise", "effect-arcp/node"]
    const same = (name) => import(name).then((imported) => Object.keys(require(name)).every((key) => require(name)[key] === imported[key]))
    Promise.all(names.map(same)).then((all) => console.log(all.join(" ")))`
  const said = execFileSync(process.execPath, ["--input-type=commonjs", "-e", asks], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"]
  })
  expect(said.trim()).toBe("true true true")
})
