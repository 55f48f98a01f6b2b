/** What is found of a principal that wants to be forgotten, and what that takes. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { find } from "../../../src/layers/log/retention/finding.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
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
