import { expect, it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import * as Option from "effect/Option"
import * as AgentRef from "../../src/protocol/AgentRef.js"

const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,20}$/)
const version = fc.stringMatching(/^[a-zA-Z0-9.+_-]{1,20}$/)

it.prop("what is formatted parses back", [name, version], ([name, version]) => {
  expect(AgentRef.parse(AgentRef.format({ name, version }))).toEqual(Option.some({ name, version }))
  expect(AgentRef.parse(name)).toEqual(Option.some({ name, version: undefined }))
})

it("refuses what the grammar does not know", () => {
  const bad = [
    "",
    "@",
    "a@",
    "@1",
    "A",
    "_a",
    "-a",
    ".a",
    "a b",
    "a@1@2",
    "a@1 2",
    "ä",
    "a/b",
    "a\n",
    "a@1\n"
  ]
  for (const text of [...bad, "a".repeat(257), `a@${"1".repeat(257)}`])
    expect(Option.isNone(AgentRef.parse(text))).toBe(true)
})

it("orders versions as SemVer 2.0 does", () => {
  const ascending = [
    "0.0.1",
    "0.9.0",
    "1.0.0-0",
    "1.0.0-2",
    "1.0.0-10",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0"
  ]
  ascending.forEach((a, i) =>
    ascending.forEach((b, j) => {
      expect(Math.sign(AgentRef.compareVersions(a, b) ?? NaN)).toBe(Math.sign(i - j))
    })
  )
  expect(AgentRef.compareVersions("1.0.0+a", "1.0.0+b")).toBe(0)
  for (const other of ["1", "1.0", "v1.0.0", "01.0.0", "latest", "1.0.0.0"])
    expect(AgentRef.compareVersions(other, "1.0.0")).toBeUndefined()
})

it("a bare name means the default, the only, the highest, else the last version", () => {
  expect(AgentRef.defaultVersion(["1.0.0", "2.0.0"], "1.0.0")).toBe("1.0.0")
  expect(AgentRef.defaultVersion(["x"])).toBe("x")
  expect(AgentRef.defaultVersion(["1.9.0", "1.10.0", "1.2.0"])).toBe("1.10.0")
  expect(AgentRef.defaultVersion(["2.0.0-rc.1", "1.0.0"])).toBe("2.0.0-rc.1")
  expect(AgentRef.defaultVersion(["2.0.0", "nightly", "1.0.0"])).toBe("1.0.0")
  expect(AgentRef.defaultVersion([])).toBeUndefined()
})
