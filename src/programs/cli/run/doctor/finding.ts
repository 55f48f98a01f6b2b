/** What a check comes to. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { fileProblem } from "../../../../services/runtime/fileProblem.js"

/** One line of `arcp doctor`. */
export interface Finding {
  readonly check: string
  readonly level: "ok" | "warn" | "fail"
  readonly said: string
  /** What to do about it; of everything that is not well. */
  readonly todo?: string | undefined
}

/** Makes the findings of one check. */
export const findings = (check: string) => ({
  ok: (said: string): Finding => ({ check, level: "ok", said }),
  warn: (said: string, todo: string): Finding => ({ check, level: "warn", said, todo }),
  fail: (said: string, todo: string): Finding => ({ check, level: "fail", said, todo })
})

/** What to do about what this user may not look at. */
export const asOwner = "run this as the user whose it is, or let this user in there"

/** Makes a finding of a check that the system does not let look, so that the others are made all the same. */
export const guarded = <A, R>(
  check: string,
  what: string,
  look: Effect.Effect<A, never, R>
): Effect.Effect<A | Finding, never, R> =>
  Effect.catchAllCause(look, (cause) =>
    Cause.isInterrupted(cause)
      ? Effect.failCause(cause)
      : Effect.succeed(
          findings(check).fail(`${what} cannot be looked at: ${fileProblem(Cause.squash(cause))}`, asOwner)
        )
  )

/** What is found about a store, and who on this machine has it, as a sentence. */
export interface StoreFindings {
  readonly found: ReadonlyArray<Finding>
  readonly holder: string | undefined
}
