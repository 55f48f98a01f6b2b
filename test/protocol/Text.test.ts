/** Text that is cut, and names as they are spoken. */
import { describe, expect, it } from "vitest"
import { cut, withArticle } from "../../src/protocol/Text.js"

describe("cut", () => {
  it("gives the beginning of a text, and no half of a surrogate pair", () => {
    expect([cut("abc", 3), cut("abcd", 3), cut("", 3), cut("abc", 0)]).toEqual(["abc", "abc", "", ""])
    expect([cut("ab😀", 3), cut("ab😀", 4), cut("a😀c", 3), cut("😀", 1)]).toEqual(["ab", "ab😀", "a😀", ""])
  })
})

describe("withArticle", () => {
  it("gives a name its article, by how it sounds", () => {
    const names = [
      "AsyncGenerator",
      "Error",
      "Intl.DateTimeFormat",
      "input",
      "artifact_ref",
      "Unknown",
      "x-vendor.a"
    ]
    for (const name of names) expect(withArticle(name)).toBe(`an ${name}`)
    for (const name of ["Promise", "Uint8Array", "URLSearchParams", "step", "union", "user"])
      expect(withArticle(name)).toBe(`a ${name}`)
  })
})
