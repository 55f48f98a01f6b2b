/** Jobs that are deleted from a store at rest, when whoever deletes them dies in the middle. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { find } from "../../../src/layers/log/retention/finding.js"
import { forget } from "../../../src/layers/runtime/atRest/forget.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { commitUnowned } from "../../../src/layers/store/unowned.js"
import { Op, Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { aJob, put } from "../store/fixtures.js"

it.effect("what was delegated goes first: asked again, all of it is found", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const ended = { status: "success", endedAt: 1 } as const
    yield* commitUnowned(store, [
      put(aJob("job_parent", ended)),
      ...Array.from({ length: 600 }, (_, i) =>
        put(aJob(`job_${i}`, { ...ended, parentJobId: "job_parent" }))
      ),
      Op.PutHookEvent({ event: { jobId: "job_parent", seq: 1, text: "{}" } })
    ])
    let commits = 0
    const dying: StoreService = {
      ...store,
      commit: (batch) =>
        ++commits === 2 ? new StoreError({ message: "the process died" }) : store.commit(batch)
    }
    const deleted = (which: StoreService) =>
      Effect.flatMap(find(store, { jobIds: ["job_parent"] }), ({ jobs }) =>
        forget(which, { jobIds: jobs.map(({ jobId }) => jobId), sessionIds: [] }, "drop")
      )
    yield* Effect.flip(deleted(dying))
    assert.strictEqual((yield* find(store, { jobIds: ["job_parent"] })).jobs.length, 601 - 256)
    yield* deleted(store)
    assert.deepStrictEqual(yield* store.jobs({ principals: "everyone", limit: 10 }), [])
    assert.deepStrictEqual(yield* store.hookEvents({ jobId: "", seq: 0 }, 10), [])
  }).pipe(Effect.provide(StoreMemory.layer()))
)
