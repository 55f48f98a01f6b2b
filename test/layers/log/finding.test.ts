/** What is found of a principal that wants to be forgotten, and what that takes. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { find } from "../../../src/layers/log/retention/finding.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import * as Turn from "../../../src/services/runtime/Turn.js"
import { Store } from "../../../src/services/store/Store.js"
import { aJob, put } from "../store/fixtures.js"

it.effect("a principal's jobs are read once, however many they are", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const jobs = Array.from({ length: 1_201 }, (_, i) => aJob(`job_${i}`, { createdAt: i, endedAt: i }))
    const refused = aJob("job_refused", { endedAt: 1, rejected: true, status: "error" })
    yield* store.commit({ ops: [...jobs, refused].map(put), owners: [] })
    let reads = 0
    const counted: typeof store = {
      ...store,
      jobs: (filter) => {
        reads++
        return store.jobs(filter)
      },
      job: (jobId) => {
        reads++
        return store.job(jobId)
      }
    }
    const found = yield* find(counted, { principal: "alice" })
    assert.lengthOf(found.jobs, 1_202)
    assert.lengthOf(found.unfinished, 0)
    assert.isAtMost(reads, 4)
  }).pipe(Effect.provide(StoreMemory.layer()))
)

it.effect("a principal's jobs, and submits that were refused, are read in turns with everybody else", () => {
  let turns = 0
  const turn = Turn.make((callback) => {
    turns++
    callback()
    return () => {}
  })
  return Effect.gen(function* () {
    const store = yield* Store
    const jobs = Array.from({ length: 2_000 }, (_, i) => aJob(`job_${i}`, { createdAt: i, endedAt: i }))
    const refused = Array.from({ length: 640 }, (_, i) =>
      aJob(`job_refused_${i}`, { endedAt: 1, rejected: true, status: "error" })
    )
    yield* store.commit({ ops: [...jobs, ...refused].map(put), owners: [] })
    turns = 0
    const paged: typeof store = { ...store, surplus: () => Effect.succeed([]) }
    assert.lengthOf((yield* find(paged, { principal: "alice" })).jobs, 2_000)
    assert.isAtLeast(turns, 4)
    turns = 0
    const ended = yield* store.surplus({ principal: "alice", limit: Number.MAX_SAFE_INTEGER, needed: true })
    assert.lengthOf(ended, 2_640)
    assert.isAtLeast(turns, 5)
    assert.lengthOf(yield* store.surplus({ principal: "alice", limit: 600, needed: true }), 600)
    turns = 0
    const found = yield* find({ ...store, surplus: () => Effect.succeed(ended) }, { principal: "alice" })
    assert.lengthOf(found.jobs, 2_640)
    assert.isAtLeast(turns, 4 + 10)
  }).pipe(Effect.provide(StoreMemory.layer()), Effect.provideService(Turn.Turn, turn))
})

it.effect("what a job has delegated to comes before it, whichever was stored first", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const at = (jobId: string, createdAt: number, parentJobId?: string, endedAt: number | undefined = 9) =>
      put(aJob(jobId, { createdAt, parentJobId, ...(endedAt > 0 ? { endedAt, status: "success" } : {}) }))
    yield* store.commit({
      ops: [
        // It was stored by a node whose clock is behind.
        at("job_leaf", 1, "job_middle"),
        at("job_root", 2, undefined, 0),
        at("job_middle", 3, "job_root"),
        at("job_alone", 4),
        // Above each other, which nothing that is written is.
        at("job_ring", 5, "job_circle"),
        at("job_circle", 6, "job_ring")
      ],
      owners: []
    })
    const { jobs, unfinished } = yield* find(store, { principal: "alice" })
    const ids = jobs.map(({ jobId }) => jobId)
    assert.deepStrictEqual([...ids].sort(), [
      ...["job_alone", "job_circle", "job_leaf", "job_middle", "job_ring", "job_root"]
    ])
    const place = (jobId: string) => ids.indexOf(jobId)
    assert.isBelow(place("job_leaf"), place("job_middle"))
    assert.isBelow(place("job_middle"), place("job_root"))
    assert.deepStrictEqual(
      unfinished.map(({ jobId }) => jobId),
      ["job_root"]
    )
  }).pipe(Effect.provide(StoreMemory.layer()))
)
