/** What `arcp db sweep` does. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { freed } from "../../../layers/runtime/atRest/forget.js"
import { sweep } from "../../../layers/runtime/atRest/sweep.js"
import { owning } from "../../../layers/store/care/ours.js"
import { trying } from "../../../layers/store/care/trial.js"
import type { SweepFlags } from "../db.js"
import { fileOf } from "../db-flags.js"
import { json } from "../text.js"
import { optionsFrom } from "./limits.js"
import { filesOnly } from "./stored.js"
import { sweptLines } from "./sweptText.js"

export const run = (flags: SweepFlags) =>
  Effect.gen(function* () {
    yield* filesOnly(flags, "arcp db sweep", "a runtime on it forgets by itself what is due")
    const options = yield* optionsFrom(flags.limit)
    const now = yield* Clock.currentTimeMillis
    const filename = fileOf(flags.db)
    const swept = flags.dryRun
      ? yield* trying(filename, (store) => sweep(store, options, now))
      : yield* owning({ filename, compact: true }, (store) =>
          Effect.zipLeft(sweep(store, options, now), freed(store))
        )
    if (flags.json) {
      const forgotten = !flags.dryRun
      for (const { jobId, principal, why } of swept.jobs)
        yield* Console.log(json({ job_id: jobId, principal, why, forgotten }))
      for (const { events, id, principal, why } of swept.logs)
        yield* Console.log(json({ job_id: id, principal, events, why, forgotten }))
      for (const { principal, sessionId } of swept.sessions)
        yield* Console.log(json({ session_id: sessionId, principal, why: "resumeWindow", forgotten }))
      for (const { events, id, principal, why } of swept.views)
        yield* Console.log(json({ session_id: id, principal, events, why, forgotten }))
      return yield* Console.log(json({ kept: swept.kept }))
    }
    for (const line of sweptLines(swept, now, flags.dryRun ? "due" : "forgotten")) yield* Console.log(line)
  })
