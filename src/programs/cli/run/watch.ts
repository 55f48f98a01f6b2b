/** What `arcp watch` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { whileAsked } from "../asking.js"
import { connect } from "../client.js"
import type { WatchFlags } from "../commands.js"
import * as Detached from "../detached.js"
import { attended, whileThere } from "../lost.js"
import { inLine } from "../text.js"
import { show } from "../view.js"

export const run = (flags: WatchFlags, jobId: string) =>
  Effect.gen(function* () {
    const client = yield* connect(flags)
    const job = yield* client.subscribe(jobId, { history: !flags.noHistory }).pipe(attended(client, flags))
    if (!flags.json)
      yield* Console.error(inLine(`${job.agent} ${job.jobId} ${job.subscribed.current_status}`))
    yield* whileAsked(client, job, flags, ({ isAsking: _, ...asking }) =>
      show(client, job, {
        ...flags,
        ...asking,
        // With history the costs so far are among the events.
        left: flags.noHistory ? job.subscribed.budget : undefined
      }).pipe(whileThere(client, flags))
    )
    // Its end was seen: there is nothing left to cancel.
    yield* Detached.forget(jobId)
  }).pipe(Effect.scoped)
