import { expect, it, vi } from "vitest"
import { mayResume } from "../../../src/layers/session/resumeTokens.js"
import type { SessionRecord } from "../../../src/services/store/Store.js"

const digest = (character: string) => character.repeat(64)
const record = (tokenDigest: string, ...issuedTokenDigests: ReadonlyArray<string>) =>
  ({ tokenDigest, issuedTokenDigests }) as Partial<SessionRecord> as SessionRecord

it("is compared as often, whatever there is to compare it with", () => {
  const looks = vi.spyOn(String.prototype, "charCodeAt")
  try {
    const looked = (of: SessionRecord | undefined, may: boolean) => {
      looks.mockClear()
      const said = mayResume(of, digest("a"))
      const n = looks.mock.calls.length
      expect(said).toBe(may)
      return n
    }
    const held = looked(record(digest("a")), true)
    expect(held).toBeGreaterThan(64)
    expect(looked(undefined, false)).toBe(held)
    expect(looked(record(digest("b")), false)).toBe(held)
    expect(looked(record(digest("b"), digest("a")), true)).toBe(held)
    expect(looked(record(digest("b"), ...Array.from({ length: 16 }, () => digest("a"))), true)).toBe(held)
    expect(looked(record(`${digest("a").slice(1)}b`), false)).toBe(held)
  } finally {
    looks.mockRestore()
  }
})
