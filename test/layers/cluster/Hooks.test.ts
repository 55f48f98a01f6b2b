/** Calls of hooks that a node owes which is gone, and what keeps its jobs from being taken. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type { HookCall, Hooks } from "../../../src/services/jobs/Hooks.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type JobFilter, Op, StoreError } from "../../../src/services/store/Store.js"
import { cluster } from "../../support/Nodes.js"
import { aJob, append } from "../store/fixtures.js"

const settle = Effect.repeatN(eventLoop.next, 60)

it.scoped("are made once: by who takes the job, and of jobs that have ended by one for all", () =>
  Effect.gen(function* () {
    const { disk, idle, start } = yield* cluster
    const calls: Array<string> = []
    const take = (by: string) => (call: HookCall) =>
      Effect.sync(() => void calls.push(`${by}: ${call.jobId} ${call.kind}`))
    const hooks = (by: string): Hooks["Type"] => ({ onEnded: take(by), onWaiting: take(by) })
    const gone = yield* Scope.make()
    yield* Scope.extend(idle("gone"), gone)
    yield* start("b", [], { hooks: hooks("b") })
    yield* TestClock.adjust("1 second")
    yield* start("c", [], { hooks: hooks("c") })
    const facts = { at: 0, agent: "echo@1.0.0", principal: "alice", traceId: "t" }
    const owed = (jobId: string, more: object) =>
      Op.PutHookEvent({ event: { jobId, seq: 1, text: JSON.stringify({ ...facts, ...more }) } })
    const ended = { kind: "ended", status: "success", createdAt: 0 }
    yield* disk.store.commit({
      ops: [
        Op.PutJob({ job: aJob("job_open", { node: "gone" }) }),
        append("job_open", 1, 1),
        owed("job_open", { kind: "waiting", inputId: "in_1" }),
        Op.PutJob({ job: aJob("job_done", { node: "gone", status: "success", endedAt: 1 }) }),
        append("job_done", 1, 1),
        owed("job_done", ended),
        owed("job_dropped", ended)
      ],
      owners: []
    })
    yield* TestClock.adjust("3 seconds")
    yield* settle
    // What a node owes that is there it may be about to do.
    assert.deepStrictEqual(
      calls.filter((call) => !call.includes("dropped")),
      []
    )
    yield* Scope.close(gone, Exit.void)
    for (let i = 0; i < 3; i++) yield* Effect.zipRight(TestClock.adjust("1 second"), settle)
    const of = (what: string) => calls.filter((call) => call.endsWith(what))
    assert.lengthOf(of("job_open waiting"), 1)
    // It is not durable, so it ends where it was taken.
    assert.lengthOf(of("job_open ended"), 1)
    assert.deepStrictEqual(of("job_done ended"), ["b: job_done ended"])
    assert.deepStrictEqual(of("job_dropped ended"), ["b: job_dropped ended"])
    assert.deepStrictEqual(yield* disk.store.hookEvents({ jobId: "", seq: 0 }, 9), [])
  })
)

it.scoped("are made also when what is owed cannot be read at first", () =>
  Effect.gen(function* () {
    const { disk, idle, start } = yield* cluster
    const calls: Array<string> = []
    const take = ({ jobId, kind }: HookCall) => Effect.sync(() => void calls.push(`${jobId} ${kind}`))
    const gone = yield* Scope.make()
    yield* Scope.extend(idle("gone"), gone)
    yield* start("b", [], { hooks: { onEnded: take, onWaiting: take } })
    yield* TestClock.adjust("1 second")
    const facts = { at: 0, agent: "echo@1.0.0", principal: "alice", traceId: "t" }
    const owed = (jobId: string, more: object) =>
      Op.PutHookEvent({ event: { jobId, seq: 1, text: JSON.stringify({ ...facts, ...more }) } })
    yield* disk.store.commit({
      ops: [
        Op.PutJob({ job: aJob("job_open", { node: "gone" }) }),
        append("job_open", 1, 1),
        owed("job_open", { kind: "waiting", inputId: "in_1" }),
        owed("job_dropped", { kind: "ended", status: "success", createdAt: 0 })
      ],
      owners: []
    })
    disk.onRead = (name) => (name === "hookEvents" ? new StoreError({ message: "not now" }) : undefined)
    yield* Scope.close(gone, Exit.void)
    for (let i = 0; i < 12; i++) yield* Effect.zipRight(TestClock.adjust("1 second"), settle)
    assert.deepStrictEqual(
      calls.filter((call) => call !== "job_open ended"),
      []
    )
    disk.onRead = undefined
    for (let i = 0; i < 12; i++) yield* Effect.zipRight(TestClock.adjust("1 second"), settle)
    assert.includeMembers(calls, ["job_open waiting", "job_dropped ended"])
  })
)

it.scoped("a node whose jobs cannot be taken keeps nobody from those of another", () =>
  Effect.gen(function* () {
    const { disk, start } = yield* cluster
    yield* start("b", [])
    disk.onRead = (name, [filter]) =>
      name === "jobs" && (filter as JobFilter).node === "gone_1"
        ? new StoreError({ message: "not now" })
        : undefined
    yield* disk.store.commit({
      ops: [
        Op.PutJob({ job: aJob("job_1", { node: "gone_1" }) }),
        Op.PutJob({ job: aJob("job_2", { node: "gone_2" }) })
      ],
      owners: []
    })
    const nodes = () =>
      Effect.forEach(["job_1", "job_2"], (jobId) =>
        Effect.map(disk.store.job(jobId), (record) => record?.node)
      )
    for (let i = 0; i < 3; i++) yield* Effect.zipRight(TestClock.adjust("1 second"), settle)
    assert.deepStrictEqual(yield* nodes(), ["gone_1", "b"])
    disk.onRead = undefined
    for (let i = 0; i < 3; i++) yield* Effect.zipRight(TestClock.adjust("1 second"), settle)
    assert.deepStrictEqual(yield* nodes(), ["b", "b"])
  })
)
