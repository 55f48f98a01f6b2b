/** What `arcp cancel` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ArcpClientService } from "../../../services/client/ArcpClient.js"
import { connect, connectTo, passing } from "../client.js"
import type { CancelFlags } from "../commands.js"
import * as Detached from "../detached.js"
import { attended } from "../lost.js"
import { targetOf } from "../target.js"
import { json } from "../text.js"

/**
 * Opens the session that cancels a job: the one that submitted it when it is remembered here and still there, else one of
 * its own, which the runtime lets cancel when the job's session is gone, or to whom its policy allows it.
 */
const sessionFor = (flags: CancelFlags, jobId: string) =>
  Effect.gen(function* () {
    const state = yield* Detached.load(jobId)
    if (state === undefined) return yield* connect(flags, passing)
    // The session is where the job was submitted, unless this command line says otherwise.
    const url = flags.url ?? (flags.context === undefined ? { value: state.url, from: "flag" } : undefined)
    const target = yield* targetOf({ ...flags, url })
    return yield* connectTo(target, state).pipe(
      // The session has a new token now; without this a second try would be refused.
      Effect.tap((client) =>
        Effect.flatMap(client.resumeState, (resume) => Detached.save(jobId, { url: target.url, ...resume }))
      ),
      // It has gone, or is not this token's.
      Effect.catchTag("ResumeWindowExpired", () => connectTo(target, undefined, passing))
    )
  })

/** Returns how a job has ended; `undefined` when it has not, or when it is not this token's to see. */
const ended = (client: ArcpClientService, jobId: string) =>
  client.subscribe(jobId, { history: false }).pipe(
    Effect.map(({ subscribed: { current_status: status } }) =>
      status === "pending" || status === "running" ? undefined : status
    ),
    // Whoever may not see it may still be one who may cancel it, and is told if not.
    Effect.catchTags({
      PermissionDenied: () => Effect.succeed(undefined),
      JobNotFound: () => Effect.succeed(undefined)
    }),
    Effect.scoped
  )

export const run = (flags: CancelFlags, jobId: string) =>
  Effect.gen(function* () {
    const client = yield* sessionFor(flags, jobId)
    const status = yield* ended(client, jobId).pipe(attended(client, flags))
    if (status !== undefined) {
      yield* Detached.forget(jobId)
      return yield* flags.json
        ? Console.log(json({ job_id: jobId, cancelled: status === "cancelled", status }))
        : Console.log(`${jobId} has ended already: ${status}`)
    }
    // What is remembered of it stays until it has ended: a second cancel is no mistake.
    yield* client.cancel(jobId, Option.getOrUndefined(flags.reason)).pipe(attended(client, flags))
    yield* flags.json
      ? Console.log(json({ job_id: jobId, cancelled: true }))
      : Console.log(`${jobId} is being cancelled`)
  }).pipe(Effect.scoped)
