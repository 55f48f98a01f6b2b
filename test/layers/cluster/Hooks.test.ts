/** Calls of hooks that a node owes which is gone. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type { HookCall, Hooks } from "../../../src/services/jobs/Hooks.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Op } from "../../../src/services/store/Store.js"
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
