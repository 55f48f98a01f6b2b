/** What `arcp cancel` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { connect } from "../client.js"
import { defaultUrl } from "../client-flags.js"
import type { CancelFlags } from "../commands.js"
import * as Detached from "../detached.js"
import { attended } from "../lost.js"

/**
 * Opens the session that cancels a job: the one that submitted it when it is remembered here and still there, else one of
 * its own, which the runtime lets cancel when the job's session is gone, or to whom its policy allows it.
 */
const sessionFor = (flags: CancelFlags, jobId: string) =>
  Effect.gen(function* () {
    const state = yield* Detached.load(jobId)
    const url = Option.getOrElse(flags.url, () => state?.url ?? defaultUrl)
    if (state === undefined) return yield* connect({ ...flags, url })
    return yield* connect({ ...flags, url }, state).pipe(
      // The session has a new token now; without this a second try would be refused.
      Effect.tap((client) =>
        Effect.flatMap(client.resumeState, (resume) => Detached.save(jobId, { url, ...resume }))
      ),
      // It has gone, or is not this token's.
      Effect.catchTag("ResumeWindowExpired", () => connect({ ...flags, url }))
    )
  })

export const run = (flags: CancelFlags, jobId: string) =>
  Effect.gen(function* () {
    const client = yield* sessionFor(flags, jobId)
    yield* client.cancel(jobId, Option.getOrUndefined(flags.reason)).pipe(attended(client, flags))
    yield* Detached.forget(jobId)
    yield* flags.json
      ? Console.log(JSON.stringify({ job_id: jobId, cancelled: true }))
      : Console.log(`${jobId} is being cancelled`)
  }).pipe(Effect.scoped)
