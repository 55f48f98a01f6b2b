/** Taking jobs of nodes that are gone: by families, and each once. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { familiesOf, put } from "../../../src/layers/jobs/Takeover.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { type JobRecord, Op, Store } from "../../../src/services/store/Store.js"
import { aJob } from "../store/fixtures.js"

const tree: ReadonlyArray<JobRecord> = [
  aJob("job_child", { parentJobId: "job_root" }),
  aJob("job_alone"),
  aJob("job_grandchild", { parentJobId: "job_child" }),
  aJob("job_root"),
  aJob("job_orphan", { parentJobId: "job_gone" }),
  aJob("job_circle", { parentJobId: "job_ring" }),
  aJob("job_ring", { parentJobId: "job_circle" })
].map((record) => ({ ...record, node: "a" }))

const idsOf = (records: ReadonlyArray<JobRecord>) => records.map(({ jobId }) => jobId).sort()

it("families are whole, whatever comes first; what is above itself comes to an end", () => {
  const families = familiesOf(tree).map(idsOf)
  assert.deepInclude(families, ["job_child", "job_grandchild", "job_root"])
  assert.deepInclude(families, ["job_alone"])
  assert.deepInclude(families, ["job_orphan"])
  assert.lengthOf(families.flat(), tree.length)
})

it.effect("of two that take the same family one has all of it, the other what is left", () =>
  Effect.gen(function* () {
    const store = yield* Store
    yield* store.commit({ ops: tree.slice(0, 5).map((job) => Op.PutJob({ job })), owners: [] })
    const families = familiesOf(yield* store.jobs({ principals: "everyone", node: "a", limit: 9 }))
    const family = families.filter((jobs) => jobs.length === 3)
    const first = yield* put({ store }, family, "b")
    assert.deepStrictEqual(idsOf(first), ["job_child", "job_grandchild", "job_root"])
    assert.isTrue(first.every(({ epoch, node }) => epoch === 2 && node === "b"))
    assert.deepStrictEqual(idsOf(yield* put({ store }, families, "c")), ["job_alone", "job_orphan"])
    assert.deepStrictEqual(yield* store.jobNodes, ["b", "c"])
    assert.deepStrictEqual(yield* put({ store }, families, "c"), [])
    // Whoever had it writes to it no more; whoever has it does.
    const record = { ...aJob("job_root"), node: "a" }
    const late = store.commit({ ops: [Op.PutJob({ job: record })], owners: [{ job: "job_root", epoch: 1 }] })
    assert.strictEqual((yield* Effect.flip(late))._tag, "Fenced")
    // Left to whoever comes.
    yield* put({ store }, [first], undefined)
    assert.deepStrictEqual(yield* store.jobNodes, ["", "c"])
  }).pipe(Effect.provide(StoreMemory.layer()))
)
