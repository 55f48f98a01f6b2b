/** What tests of several nodes ask of jobs, and what they look at. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { eventLoop } from "../../src/services/runtime/Turn.js"
import type { JobRecord } from "../../src/services/store/Store.js"
import type { Disk } from "./Rig.js"
import type { Frame, open } from "./Wire.js"

/** A session that is open. */
export type Opened = Effect.Effect.Success<ReturnType<typeof open>>

/** Lets go on whatever waits for nothing but its turn. */
export const settle = Effect.repeatN(eventLoop.next, 60)

/** Lets time go on, by the second. */
export const seconds = (n: number) =>
  Effect.repeatN(Effect.zipRight(TestClock.adjust("1 second"), settle), n - 1)

/** Asks for something, and gives what it is answered with. */
export const asked = (session: Opened, type: string, payload: object, jobId: string) =>
  Effect.gen(function* () {
    const id = yield* session.request(type, payload, { job_id: jobId })
    return yield* session.next(
      ({ payload }: Frame) => payload.request_id === id || payload.details?.request_id === id
    )
  })

export const recordOf = (disk: Disk, jobId: string): Effect.Effect<JobRecord> =>
  Effect.flatMap(Effect.orDie(disk.store.job(jobId)), (record) =>
    record === undefined ? Effect.dieMessage(`${jobId} is gone`) : Effect.succeed(record)
  )
export const statusOf = (disk: Disk, jobId: string) =>
  Effect.map(recordOf(disk, jobId), ({ status }) => status)

/** How often the log of a job says that it has ended. */
export const endsOf = (disk: Disk, jobId: string) =>
  Effect.map(
    Effect.orDie(disk.store.events(jobId, 1, 9_999)),
    (events) => events.filter(({ type }) => type !== "job.event").length
  )

/** Nothing is left of what nodes have wanted. */
export const nothingLeft = (disk: Disk) =>
  Effect.map(Effect.orDie(disk.store.wishes(undefined, 9_999)), (wishes) =>
    assert.deepStrictEqual(wishes, [])
  )
