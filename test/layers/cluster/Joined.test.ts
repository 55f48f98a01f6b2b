/** A job of another node that a session is made an observer of, when another session of this node looks at it already. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Op } from "../../../src/services/store/Store.js"
import { asked, seconds } from "../../support/asking.js"
import { cluster } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"
import { aJob, someEvents } from "../store/fixtures.js"

it.scoped("is seen by both: by its owner too, which learns of it from the store", () =>
  Effect.gen(function* () {
    const { disk, idle, start } = yield* cluster
    yield* idle("a")
    const b = yield* start("b", [])
    const owner = yield* b.run(open())
    const other = yield* b.run(open())
    const { sessionId } = owner
    const job = (jobId: string, parentJobId?: string) =>
      Op.PutJob({ job: { ...aJob(jobId, { parentJobId, node: "a" }), sessionId } })
    const events = (jobId: string, from: number, to: number) =>
      Op.Append({ jobId, events: someEvents(from, to) })
    const commit = (...ops: ReadonlyArray<Op>) => disk.store.commit({ ops, owners: [] })
    yield* commit(job("job_above"), events("job_above", 1, 1))
    yield* asked(owner, "job.subscribe", { history: true }, "job_above")
    yield* seconds(3)
    // Its node delegates; before this one looks, somebody who has found it in a listing subscribes to it.
    yield* commit(
      job("job_below", "job_above"),
      Op.Observe({ sessionId, jobId: "job_below", cursor: 0 }),
      events("job_below", 1, 1)
    )
    yield* asked(other, "job.subscribe", { history: true }, "job_below")
    yield* seconds(3)
    yield* commit(events("job_below", 2, 3), events("job_above", 2, 2))
    yield* seconds(3)
    for (const session of [owner, other]) {
      yield* session.next(({ event_seq }) => event_seq === (session === owner ? 5 : 3))
      const below = session.seen.filter(({ job_id, type }) => type === "job.event" && job_id === "job_below")
      assert.lengthOf(below, 3)
    }
  })
)
