/** What `arcp jobs` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { connect } from "../client.js"
import type { JobsFlags } from "../commands.js"

export const run = (flags: JobsFlags) =>
  Effect.gen(function* () {
    const client = yield* connect(flags)
    const filter = {
      ...(flags.status.length === 0 ? {} : { status: flags.status }),
      ...(Option.isNone(flags.agent) ? {} : { agent: flags.agent.value }),
      ...(Option.isNone(flags.after) ? {} : { created_after: flags.after.value }),
      ...(Option.isNone(flags.before) ? {} : { created_before: flags.before.value })
    }
    yield* client
      .list(filter)
      .pipe(
        Stream.runForEach((job) =>
          Console.log(
            flags.json
              ? JSON.stringify(job)
              : `${job.job_id}  ${job.status.padEnd(9)}  ${job.created_at}  ${job.agent}`
          )
        )
      )
  }).pipe(Effect.scoped)
