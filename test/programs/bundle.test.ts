/** The program as the build bundles it: what a start has to find and read, which is most of what it costs. */
import { readdirSync, readFileSync } from "node:fs"
import { isBuiltin } from "node:module"
import { join, posix } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"

const programs = fileURLToPath(new URL("../../dist/programs/", import.meta.url))

/** What a module imports, and what a script loads in place of that. */
const imports =
  /^(?:import|export)\b[^"'()]*?"([^"]+)";?$|\$script\.(?:load|builtin)\((?:new URL\()?"([^"]+)"/gm

/** What is loaded with these, in or outside of the bundle. */
const loaded = (bundle: "bundle" | "shared", ...begin: ReadonlyArray<string>) => {
  const folder = join(programs, bundle, "/")
  const files = readdirSync(folder)
  const seen = new Set<string>()
  const outside = new Set<string>()
  let bytes = 0
  const walk = (name: string) => {
    if (seen.has(name)) return
    seen.add(name)
    const text = readFileSync(folder + name, "utf8")
    bytes += text.length
    for (const [, imported, from = ""] of text.matchAll(imports)) {
      const source = imported ?? from
      source.startsWith(".") ? walk(posix.join(posix.dirname(name), source)) : outside.add(source)
    }
  }
  for (const name of begin) walk(files.find((file) => file.startsWith(name)) ?? name)
  return { bytes, files: seen.size, outside: [...outside].filter((name) => !isBuiltin(name)) }
}

it.each([
  // Not Effect, which is 0.5 MB.
  ["a mistake or a question", "bundle", ["program.js", "line-"], 6, 0.1],
  ["arcp serve --memory", "bundle", ["program.js", "line-", "start-", "serve-"], 23, 1.8],
  ["arcp serve on a file", "bundle", ["program.js", "line-", "start-", "serve-", "StoreSqlite-"], 32, 1.9],
  [
    "arcp serve with a module of agents",
    "shared",
    ["start.js", "serve-", "effect/dist/esm/index.js"],
    40,
    3.5
  ],
  ["a command of a client", "bundle", ["program.js", "line-", "start-", "clients-"], 15, 1.2]
] as const)(
  "%s needs few files, and nothing of node_modules but what is native",
  (_, bundle, begin, most, megabytes) => {
    const found = loaded(bundle, ...begin)
    expect(found.outside.filter((name) => name !== "@photostructure/sqlite")).toEqual([])
    expect(found.files).toBeLessThanOrEqual(most)
    expect(found.bytes).toBeLessThan(megabytes * 1e6)
  }
)

it("names what is inside, with its licence", () => {
  for (const bundle of ["bundle", "shared"]) {
    const notices = readFileSync(join(programs, bundle, "NOTICES.txt"), "utf8")
    for (const name of ["effect", "ws", "jose", "@effect/platform", "undici"])
      expect(notices).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+$`, "m"))
    expect(notices).toMatch(/MIT License/)
  }
})
