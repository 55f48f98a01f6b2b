/** Taking jobs of nodes that are gone: by families, and each once. */
import { assert, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { familiesOf, movableOf, openJobs, take, takeable } from "../../../src/layers/jobs/Moving.js"
import { sweep } from "../../../src/layers/jobs/Sweeping.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import type { SeenNode } from "../../../src/services/cluster/Nodes.js"
import { Turn } from "../../../src/services/runtime/Turn.js"
import { type Batch, type JobRecord, Op, Store, StoreError } from "../../../src/services/store/Store.js"
import { aJob, aSession } from "../store/fixtures.js"

const tree: ReadonlyArray<JobRecord> = [
  aJob("job_child", { parentJobId: "job_root" }),
  aJob("job_alone"),
  aJob("job_grandchild", { parentJobId: "job_child" }),
  aJob("job_root"),
  aJob("job_orphan", { parentJobId: "job_gone" }),
  aJob("job_circle", { parentJobId: "job_ring" }),
  aJob("job_ring", { parentJobId: "job_circle" })
].map((record) => ({ ...record, node: "a" }))

const idsOf = (records: ReadonlyArray<Pick<JobRecord, "jobId">>) => records.map(({ jobId }) => jobId).sort()

it("families are whole, whatever comes first; what is above itself comes to an end", () => {
  const families = familiesOf(tree).map(idsOf)
  assert.deepInclude(families, ["job_child", "job_grandchild", "job_root"])
  assert.deepInclude(families, ["job_alone"])
  assert.deepInclude(families, ["job_orphan"])
  assert.lengthOf(families.flat(), tree.length)
})

it.effect(
  "what is above itself, or below what is damaged, is left, with what is below that; all others are taken",
  () =>
    Effect.gen(function* () {
      const store = yield* Store
      const all = [
        ...tree,
        aJob("job_below", { parentJobId: "job_ring" }),
        aJob("job_kept", { parentJobId: "job_damaged" }),
        aJob("job_kept_too", { parentJobId: "job_kept" })
      ]
      const damaged: typeof store = {
        ...store,
        job: (jobId) =>
          jobId === "job_damaged"
            ? new StoreError({ message: "it is damaged", damaged: {} })
            : store.job(jobId)
      }
      const taken = yield* takeable({ store: damaged }, familiesOf(all.map(movableOf)))
      assert.deepStrictEqual(taken.flatMap(idsOf).sort(), [
        ...["job_alone", "job_child", "job_grandchild", "job_orphan", "job_root"]
      ])
      const away = { ...store, job: () => new StoreError({ message: "not reached" }) }
      assert.isTrue(
        Exit.isFailure(yield* Effect.exit(takeable({ store: away }, familiesOf(all.map(movableOf)))))
      )
    }).pipe(Effect.provide(StoreMemory.layer()))
)

it.effect("jobs are read in pages, and a family that is on several of them is one", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const jobs = Array.from({ length: 1_201 }, (_, i) =>
      aJob(`job_${String(i).padStart(4, "0")}`, {
        node: "a",
        createdAt: i,
        parentJobId: i > 0 && i % 600 === 0 ? "job_0000" : undefined
      })
    )
    yield* store.commit({ ops: jobs.map((job) => Op.PutJob({ job })), owners: [] })
    const limits: Array<number> = []
    const counted: typeof store = {
      ...store,
      jobs: (filter) => {
        limits.push(filter.limit)
        return store.jobs(filter)
      }
    }
    const families = familiesOf(yield* openJobs({ store: counted }, "a"))
    assert.lengthOf(families, 1_199)
    assert.deepInclude(families.map(idsOf), ["job_0000", "job_0600", "job_1200"])
    assert.isAtLeast(limits.length, 3)
    assert.isAtMost(Math.max(...limits), 500)
  }).pipe(Effect.provide(StoreMemory.layer()))
)

it.effect("what is found to be damaged when it is taken keeps nobody from the rest", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const jobs = [aJob("job_a", { node: "a" }), aJob("job_b", { node: "a" })]
    yield* store.commit({ ops: jobs.map((job) => Op.PutJob({ job })), owners: [] })
    const damaged: typeof store = {
      ...store,
      job: (jobId) =>
        jobId === "job_a" ? new StoreError({ message: "it is damaged", damaged: {} }) : store.job(jobId)
    }
    const families = familiesOf(yield* openJobs({ store }, "a"))
    assert.deepStrictEqual(idsOf(yield* take({ store: damaged }, families, "b")), ["job_b"])
  }).pipe(Effect.provide(StoreMemory.layer()))
)

it.effect("of two that take the same family one has all of it, the other what is left", () =>
  Effect.gen(function* () {
    const store = yield* Store
    yield* store.commit({ ops: tree.slice(0, 5).map((job) => Op.PutJob({ job })), owners: [] })
    const families = familiesOf(
      (yield* store.jobs({ principals: "everyone", node: "a", limit: 9 })).map(movableOf)
    )
    const family = families.filter((jobs) => jobs.length === 3)
    const first = yield* take({ store }, family, "b")
    assert.deepStrictEqual(idsOf(first), ["job_child", "job_grandchild", "job_root"])
    assert.isTrue(first.every(({ epoch, node }) => epoch === 2 && node === "b"))
    assert.deepStrictEqual(idsOf(yield* take({ store }, families, "c")), ["job_alone", "job_orphan"])
    assert.deepStrictEqual(yield* store.jobNodes, ["b", "c"])
    assert.deepStrictEqual(yield* take({ store }, families, "c"), [])
    // Whoever had it writes to it no more; whoever has it does.
    const record = { ...aJob("job_root"), node: "a" }
    const late = store.commit({ ops: [Op.PutJob({ job: record })], owners: [{ job: "job_root", epoch: 1 }] })
    assert.strictEqual((yield* Effect.flip(late))._tag, "Fenced")
  }).pipe(Effect.provide(StoreMemory.layer()))
)

it.effect(
  "what its node has written of a job since it was looked at stays, and what has ended is not taken",
  () =>
    Effect.gen(function* () {
      const store = yield* Store
      const open = { ...aJob("job_open"), node: "a", epoch: 1 }
      const over = { ...aJob("job_over"), node: "a", epoch: 1 }
      const commit = (...jobs: ReadonlyArray<JobRecord>) =>
        store.commit({ ops: jobs.map((job) => Op.PutJob({ job })), owners: [] })
      yield* commit(open, over)
      const families = familiesOf(
        (yield* store.jobs({ principals: "everyone", node: "a", limit: 9 })).map(movableOf)
      )
      // It was taken for gone, and is back under its name.
      const spent = { ...open, budget: { USD: "4.48" } }
      const ended = { ...over, status: "success", endedAt: 9 } as const
      yield* commit(spent, ended)
      const cancelRequested = { reason: "enough", at: 5 }
      const taken = yield* take({ store }, families, "b", {
        cancels: new Map([["job_open", cancelRequested]])
      })
      assert.deepStrictEqual(taken, [{ ...spent, node: "b", epoch: 2, cancelRequested }])
      assert.deepStrictEqual(yield* store.job("job_open"), taken[0])
      assert.deepStrictEqual(yield* store.job("job_over"), ended)
    }).pipe(Effect.provide(StoreMemory.layer()))
)

it.effect(
  "sessions whose node is gone are dropped when their window has passed, by the oldest node only",
  () =>
    Effect.gen(function* () {
      const store = yield* Store
      const turn = yield* Turn
      const at = 10_000_000
      const seen = (name: string, startedAt: number, silentFor: number): SeenNode => ({
        name,
        address: undefined,
        version: "",
        startedAt,
        silentFor,
        isAlive: silentFor < 6_000
      })
      const list = Effect.succeed([
        seen("a", 2, 0),
        seen("b", 1, 0),
        seen("c", 0, 400_000),
        seen("d", 0, 900_000)
      ])
      const session = (sessionId: string, node: string, lastSeenAt: number, attached: boolean) =>
        Op.PutSession({ session: { ...aSession(sessionId), node, lastSeenAt, attached, features: [] } })
      yield* store.commit({
        ops: [
          session("sess_own", "b", 0, false),
          session("sess_alive", "a", 0, false),
          session("sess_left", "c", at - 500_000, false),
          session("sess_over", "c", at - 700_000, false),
          // Seen for as long as its node was.
          session("sess_was_attached", "c", 0, true),
          session("sess_gone", "d", 0, true),
          // Its node could not store that it was detached, and left.
          session("sess_was_attached_too", "e", 0, true),
          session("sess_forgotten", "z", at - 700_000, true)
        ],
        owners: []
      })
      const dropped: Array<string> = []
      const parts = {
        now: () => at,
        store: {
          ...store,
          lives: Effect.succeed(
            new Map([
              ["c", at - 400_000],
              ["d", at - 900_000],
              ["e", at - 400_000]
            ])
          )
        },
        turn,
        options: { resumeWindow: Duration.minutes(10) },
        log: {
          dropView: ({ sessionId }: { readonly sessionId: string }) =>
            Effect.sync(() => {
              dropped.push(sessionId)
            })
        }
      }
      const nodes = (node: string) => ({
        node,
        nodes: {
          ...{ list, time: Clock.currentTimeMillis },
          ...{ join: () => Effect.die("not here"), bury: () => Effect.die("not here") }
        }
      })
      yield* sweep(parts, nodes("a"))
      assert.deepStrictEqual(dropped, [])
      yield* sweep(parts, nodes("b"))
      assert.deepStrictEqual(dropped.sort(), ["sess_forgotten", "sess_gone", "sess_over"])
    }).pipe(Effect.provide(StoreMemory.layer()))
)

it.effect("what cannot be swept of one kind keeps nothing of another from being swept", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const wish = { jobId: "job_gone", kind: "cancel", body: "{}", at: 0 }
    yield* store.commit({ ops: [Op.PutWish({ wish: { ...wish, id: "wish_1", from: "gone" } })], owners: [] })
    const node: SeenNode = {
      ...{ name: "a", address: undefined, version: "", startedAt: 1 },
      ...{ silentFor: 0, isAlive: true }
    }
    const fails = new StoreError({ message: "not now" })
    const parts = {
      now: () => 10_000_000,
      store: { ...store, sessionPage: () => fails },
      turn: yield* Turn,
      options: { resumeWindow: Duration.minutes(10) },
      log: { dropView: () => Effect.void }
    }
    const nodes = {
      ...{ list: Effect.succeed([node]), time: Clock.currentTimeMillis },
      ...{ join: () => Effect.die("not here"), bury: () => Effect.die("not here") }
    }
    yield* sweep(parts, { node: "a", nodes })
    assert.deepStrictEqual(yield* store.wishes(undefined, 9), [])
  }).pipe(Effect.provide(StoreMemory.layer()))
)

it.effect("when nodes have lived of which no session can be resumed is forgotten", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const at = 10_000_000
    const node: SeenNode = {
      ...{ name: "a", address: undefined, version: "", startedAt: 1 },
      ...{ silentFor: 0, isAlive: true }
    }
    let lives = new Map([
      ["a", at],
      ["b", at - 600_000],
      ["c", at - 1_300_000]
    ])
    const parts = {
      now: () => at,
      store: {
        ...store,
        lives: Effect.sync(() => lives),
        commit: ({ ops }: Batch) =>
          Effect.sync(() => {
            for (const op of ops)
              if (op._tag === "ForgetLives") lives = new Map([...lives].filter(([, at]) => at >= op.before))
          })
      },
      turn: yield* Turn,
      options: { resumeWindow: Duration.minutes(10) },
      log: { dropView: () => Effect.void }
    }
    const nodes = {
      ...{ list: Effect.succeed([node]), time: Clock.currentTimeMillis },
      ...{ join: () => Effect.die("not here"), bury: () => Effect.die("not here") }
    }
    yield* sweep(parts, { node: "a", nodes })
    assert.deepStrictEqual([...lives.keys()], ["a", "b"])
  }).pipe(Effect.provide(StoreMemory.layer()))
)
