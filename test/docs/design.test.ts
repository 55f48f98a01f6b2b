/** docs/design.md names modules that there are, and every folder of src. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"

const root = fileURLToPath(new URL("../..", import.meta.url))
const design = readFileSync(join(root, "docs/design.md"), "utf8")
const named = [...design.matchAll(/`([^`\n]+)`|\*\*(\w+\.ts)\*\*/g)].map(
  ([, quoted = "", strong]) => strong ?? quoted
)

const below = (folder: string) =>
  readdirSync(join(root, folder), { recursive: true, withFileTypes: true }).map((entry) => ({
    path: join(entry.parentPath, entry.name).slice(root.length),
    isFolder: entry.isDirectory()
  }))
const all = ["src", "test", ".ci", "docs", "bench"].flatMap(below)

it("names modules and folders that there are", () => {
  const sources = named.filter((name) => /^[\w./-]+\.(ts|mjs)$/.test(name) || /^[\w./-]+\/$/.test(name))
  const missing = sources.filter((name) => {
    const path = `/${name.replace(/\/$/, "")}`
    return !all.some((each) => `/${each.path}`.endsWith(path))
  })
  expect(sources.length).toBeGreaterThan(60)
  expect(missing).toEqual([])
})

it("names every folder of src", () => {
  const [rooms = ""] = /have the same rooms.*?\n\n/s.exec(design) ?? []
  const names = new Set([...named.map((name) => name.replace(/\/$/, "")), ...(rooms.match(/\w+/g) ?? [])])
  const unnamed = all
    .filter(({ isFolder, path }) => isFolder && path.startsWith("src/"))
    .map(({ path }) => path.split("/").slice(1))
    .filter((parts) => !parts.some((_, i) => names.has(parts.slice(i).join("/"))))
  expect(unnamed.map((parts) => parts.join("/"))).toEqual([])
})
