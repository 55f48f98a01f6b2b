import { readdirSync, readFileSync } from "node:fs"
import { expect, it } from "vitest"
import { requirements } from "./requirements.js"

const directory = new URL(".", import.meta.url)

const verified = readdirSync(directory)
  .filter((name) => name.endsWith(".test.ts"))
  .flatMap((name) => [...readFileSync(new URL(name, directory), "utf8").matchAll(/verifies\(([^)]*)\)/g)])
  .flatMap((call) => [...(call[1] ?? "").matchAll(/"([^"]+)"/g)].map((literal) => literal[1]))

it("every requirement is verified by a test", () => {
  expect(Object.keys(requirements).filter((id) => !verified.includes(id))).toEqual([])
})

it("every id a test names is a requirement", () => {
  expect(verified.filter((id) => !Object.keys(requirements).includes(id ?? ""))).toEqual([])
})
