/** What `arcp db sweep` does. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Due from "../../../layers/runtime/atRest/due.js"
import { forget } from "../../../layers/runtime/atRest/forget.js"
import { owning } from "../../../layers/store/care/ours.js"
import * as StoreSqlite from "../../../layers/store/StoreSqlite.js"
import { Store } from "../../../services/store/Store.js"
import type { SweepFlags } from "../db.js"
import { json } from "../text.js"
import { dueLines } from "./dueText.js"
import { optionsFrom } from "./limits.js"
import { filesOnly } from "./stored.js"

export const run = (flags: SweepFlags) =>
  Effect.gen(function* () {
    yield* filesOnly(flags, "arcp db sweep", "a runtime on it forgets by itself what is due")
    const options = yield* optionsFrom(flags.limit)
    const now = yield* Clock.currentTimeMillis
    const filename = flags.db
    const due = flags.dryRun
      ? yield* Effect.flatMap(Store, (store) => Due.due(store, options, now)).pipe(
          Effect.provide(StoreSqlite.layerReadOnly({ filename }))
        )
      : yield* owning({ filename, compact: true }, (store) =>
          Effect.tap(Due.due(store, options, now), ({ jobs, sessions }) =>
            forget(
              store,
              {
                jobIds: jobs.map(({ jobId }) => jobId),
                sessionIds: sessions.map(({ sessionId }) => sessionId)
              },
              "keep"
            )
          )
        )
    if (flags.json) {
      for (const { jobId, principal, why } of due.jobs)
        yield* Console.log(json({ job_id: jobId, principal, why, forgotten: !flags.dryRun }))
      for (const { principal, sessionId } of due.sessions)
        yield* Console.log(
          json({ session_id: sessionId, principal, why: "resumeWindow", forgotten: !flags.dryRun })
        )
      return yield* Console.log(json({ kept: due.kept }))
    }
    for (const line of dueLines(due, now, flags.dryRun ? "due" : "forgotten")) yield* Console.log(line)
  })
