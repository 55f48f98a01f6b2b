/** Resume tokens (§6.3): made, checked and rotated here, and kept as digests only. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { constantTimeEqual, type Secrets } from "../../services/runtime/Secrets.js"
import type { SessionRecord } from "../../services/store/Store.js"

/** How many tokens that are issued and not confirmed hold; more than a client that loses connections needs at once. */
const maxIssuedTokens = 16

const noDigest = "-".repeat(64)

/** Returns whether a token may resume the session. Compares as often whatever there is to compare with, also with nothing. */
export const mayResume = (record: SessionRecord | undefined, digest: string): boolean => {
  const held = constantTimeEqual(digest, record?.tokenDigest ?? noDigest)
  let issued = false
  for (let i = 0; i < maxIssuedTokens; i++)
    if (constantTimeEqual(digest, record?.issuedTokenDigests?.[i] ?? noDigest)) issued = true
  return held || issued
}

/** Returns the tokens that hold after one more was issued to whoever presented `held`, which the client then has. */
export const issuing = (record: SessionRecord, held: string, fresh: string) => ({
  tokenDigest: held,
  issuedTokenDigests:
    held === record.tokenDigest
      ? [...(record.issuedTokenDigests ?? []), fresh].slice(-maxIssuedTokens)
      : [fresh]
})

/** Makes a resume token, and what is stored of it. */
export const freshToken = (secrets: Secrets["Type"]) =>
  Effect.gen(function* () {
    const token = yield* secrets.resumeToken
    return { token, digest: yield* secrets.digest(Redacted.value(token)) }
  })
