/** Names as they are spoken. */
import { describe, expect, it } from "vitest"
import { withArticle } from "../../src/protocol/Text.js"

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
