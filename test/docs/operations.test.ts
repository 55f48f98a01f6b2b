/** What docs/operations.md says of options and flags is what there is. */
import { readFileSync } from "node:fs"
import * as Duration from "effect/Duration"
import { expect, it } from "vitest"
import { serve } from "../../src/programs/cli/serve.js"
import * as RuntimeOptions from "../../src/services/runtime/RuntimeOptions.js"

const page = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8")

/** The rows of the table under a heading: names of the first cell, and the second cell. */
const rows = (heading: string): ReadonlyMap<string, string> => {
  const section = page.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? ""
  const cells = section
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
  return new Map(
    cells.flatMap(([, names = "", value = ""]) =>
      [...names.matchAll(/`(-*[\w-]+)[^`]*`/g)].map(([, name = ""]) => [name, value] as const)
    )
  )
}

const units: Readonly<Record<string, number>> = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }
/** A cell such as `1 000`, `64 KiB`, `10 minutes` or `false`, as an option is held. */
const value = (cell: string): unknown => {
  const [, number, unit] = /^([\d ]*\d)(?: ([A-Za-z]+))?$/.exec(cell) ?? []
  if (number === undefined) return cell === "true" || (cell === "false" ? false : cell)
  const amount = Number(number.replaceAll(" ", ""))
  if (unit === undefined) return amount
  return unit in units ? amount * (units[unit] as number) : Duration.decode(cell as Duration.DurationInput)
}

const defaults = Object.entries(RuntimeOptions.make())
const limits = rows("Limits")

it("has a row for every option of the runtime, and for no other", () => {
  expect([...limits.keys()].sort()).toEqual(defaults.map(([name]) => name).sort())
})

it.each(defaults.filter(([name]) => !["name", "version", "workspace"].includes(name)))(
  "says what %s is by default",
  (name, actual) => {
    const said = value(limits.get(name) ?? "")
    if (Duration.isDuration(actual))
      expect(Duration.toMillis(said as Duration.Duration)).toBe(Duration.toMillis(actual))
    else expect(said).toBe(actual)
  }
)

it("has a row for every flag of arcp serve, and for no other", () => {
  const flags = new Set(Object.values(serve.flags).map(({ name }) => `--${name}`))
  expect(flags.size).toBeGreaterThan(20)
  expect([...rows("arcp serve").keys()].sort()).toEqual([...flags].sort())
})
