/** The program as the build bundles it: what a start has to find and read, which is most of what it costs. */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"

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
