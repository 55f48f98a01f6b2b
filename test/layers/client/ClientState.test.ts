/** What a client that keeps its state writes, and what the next process finds of it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as ClientState from "../../../src/layers/client/ClientState.js"
import { open } from "../../../src/layers/client/savedState.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { agentsForClients, Count } from "../../support/agents.js"
import { runtime } from "../../support/Wire.js"

/** A store that counts what is written, and may break at any write. */
class Writes {
  readonly values = new Map<string, string>()
  writes = 0
  bytes = 0
  /** Called before each write; says what becomes of it. */
  fate: (key: string) => "whole" | "torn" | "fails" = () => "whole"

  readonly store: ClientState.StateStore = {
    get: (key) => Effect.sync(() => Option.fromNullable(this.values.get(key))),
    set: (key, value) =>
      Effect.suspend(() => {
        const fate = this.fate(key)
        if (fate === "fails") return Effect.fail("the disk is full")
        this.writes++
        this.bytes += key.length + value.length
        this.values.set(key, fate === "torn" ? value.slice(0, value.length / 2) : value)
        return Effect.void
      })
  }
  /** The same as a process found it that begins now. */
  copy(): Writes {
    const other = new Writes()
    for (const [key, value] of this.values) other.values.set(key, value)
    return other
  }
}

/** A client whose end is the caller's. */
const start = (writes: Writes) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const client = yield* ArcpClient.make({
      token: "alice",
      reconnect: Schedule.recurs(20),
      state: ClientState.keyValueStore(writes.store)
    }).pipe(Scope.extend(scope))
    const submit = (to: number) => Scope.extend(client.submit(Count, { to }), scope)
    return { client, submit, end: Scope.close(scope, Exit.void) }
  })
const settle = Effect.repeatN(eventLoop.next, 20)

describe("the state of a client with many handles", () => {
  it.scoped("costs as much to keep for each of three hundred as for each of ten", () =>
    Effect.gen(function* () {
      const perSubmit: Array<number> = []
      const perEvent: Array<number> = []
      for (const handles of [10, 300]) {
        const writes = new Writes()
        const { end, submit } = yield* start(writes)
        const jobs: Array<Effect.Effect.Success<ReturnType<typeof submit>>> = []
        for (let i = 0; i < handles; i++) jobs.push(yield* submit(3))
        perSubmit.push(writes.bytes / handles)
        // One job is read, an event a second.
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* settle
        const before = writes.bytes
        yield* Stream.runForEach(jobs[handles - 1]?.events ?? Stream.empty, () =>
          Effect.zipRight(TestClock.adjust("1 second"), settle)
        )
        perEvent.push((writes.bytes - before) / 4)
        yield* end
      }
      for (const each of [perSubmit, perEvent]) {
        const [few = 0, many = Infinity] = each
        assert.isAbove(few, 0)
        assert.isBelow(many, 3 * few, `${each}`)
        assert.isBelow(many, 10_000)
      }
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )
})

const job = (n: number, eventsAfter: number): ClientState.SavedJob => ({
  jobId: `job_${n}`,
  agent: "count@1.0.0",
  lease: {},
  eventsAfter,
  chunksAfter: 0
})
/** What a client says of itself after its `n`th change: jobs come, are read, and go; once the session is another one. */
const states: ReadonlyArray<ClientState.Saved> = Array.from({ length: 36 }, (_, n) => {
  const jobs = Array.from({ length: Math.min(n, 24) }, (_, i) => job(i, (n - i) * 2)).filter(
    (_, i) => i >= n - 15 || i % 7 === 0
  )
  return { sessionId: n < 18 ? "sess_1" : "sess_2", resumeToken: `rt_${n}`, lastEventSeq: n, jobs }
})
/** As a process finds it: who holds it is another matter (ArcpClient.holders.test.ts). */
const opened = (writes: Writes) => open(writes.store, "arcp")
const sorted = (saved: ClientState.Saved | undefined) => ({
  sessionId: saved?.sessionId,
  resumeToken: saved?.resumeToken,
  lastEventSeq: saved?.lastEventSeq,
  jobs: [...(saved?.jobs ?? [])].sort((a, b) => a.jobId.localeCompare(b.jobId))
})

describe("what is kept of a client", () => {
  it.effect("is what it was when it was saved last", () =>
    Effect.gen(function* () {
      const writes = new Writes()
      for (const state of states) {
        const { save, saved } = yield* opened(writes)
        yield* save(() => saved ?? state)
        yield* save(() => state)
        const { bytes } = writes
        yield* save(() => state)
        assert.strictEqual(writes.bytes, bytes)
        assert.deepStrictEqual(sorted((yield* opened(writes)).saved), sorted(state))
      }
    })
  )

  it.effect("says of each job whether it has been found again in the session that there is now", () =>
    Effect.gen(function* () {
      const writes = new Writes()
      const { save } = yield* opened(writes)
      const said = [
        [{ lost: true }, { lost: true, rebased: true }, {}],
        [{ rebased: true, gap: true }, { lost: true }, {}],
        [{ rebased: true }, {}, {}]
      ] as const
      for (const each of said) {
        const jobs = each.map((more, n) => ({ ...job(n, 7), ...more }))
        const state = { sessionId: "sess_2", resumeToken: "rt", lastEventSeq: 0, jobs }
        yield* save(() => state)
        assert.deepStrictEqual(sorted((yield* opened(writes)).saved), state)
      }
    })
  )

  it.effect("may be of an earlier version, with a place before the first event", () =>
    Effect.gen(function* () {
      const writes = new Writes()
      const state = { sessionId: "sess_2", resumeToken: "rt", lastEventSeq: 0, jobs: [job(0, -1), job(1, 7)] }
      yield* (yield* opened(writes)).save(() => state)
      assert.deepStrictEqual(sorted((yield* opened(writes)).saved), {
        ...state,
        jobs: [job(0, 0), job(1, 7)]
      })
    })
  )

  it.effect("survives an end of the process at any write, whole or torn", () =>
    Effect.gen(function* () {
      for (const fate of ["torn", "fails"] as const)
        for (let end = 0; ; end++) {
          const writes = new Writes()
          let count = 0
          writes.fate = () => (count++ < end ? "whole" : count === end + 1 ? fate : "fails")
          const { save } = yield* opened(writes)
          let done: ClientState.Saved | undefined
          let doing = states[0] as ClientState.Saved
          for (doing of states) {
            yield* save(() => doing)
            if (count > end) break
            done = doing
          }
          if (count <= end) break
          const { saved: found } = yield* opened(writes.copy())
          if (done === undefined) {
            assert.isUndefined(found)
            continue
          }
          // The place is that of the last save, with its session; the jobs are at least as far read, and none is missing.
          assert.deepStrictEqual(
            { ...found, jobs: undefined, version: undefined, records: undefined },
            { ...done, jobs: undefined, version: undefined, records: undefined }
          )
          const positions = new Map(found?.jobs.map(({ jobId, eventsAfter }) => [jobId, eventsAfter]))
          const after = new Map(doing.jobs.map(({ jobId, eventsAfter }) => [jobId, eventsAfter]))
          for (const { eventsAfter, jobId } of done.jobs)
            if (after.has(jobId)) {
              assert.isAtLeast(positions.get(jobId) ?? -1, eventsAfter, `${fate} ${end} ${jobId}`)
              assert.isAtMost(positions.get(jobId) ?? Infinity, after.get(jobId) ?? -1)
            }
        }
    })
  )

  it.effect("is the newest also of a record that was dropped, by a process before, and is used again", () =>
    Effect.gen(function* () {
      const writes = new Writes()
      const state = (jobs: number, read: number): ClientState.Saved => ({
        sessionId: "sess_1",
        resumeToken: "rt_1",
        lastEventSeq: read,
        jobs: Array.from({ length: jobs }, (_, i) => job(i, read))
      })
      const first = yield* opened(writes)
      for (const read of [1, 2, 3, 4]) yield* first.save(() => state(20, read))
      yield* first.save(() => state(10, 5))
      const second = yield* opened(writes)
      for (const read of [6, 7, 8]) {
        yield* second.save(() => state(20, read))
        assert.deepStrictEqual(sorted((yield* opened(writes)).saved), sorted(state(20, read)))
      }
    })
  )

  it.effect("is saved again when the store works again", () =>
    Effect.gen(function* () {
      const writes = new Writes()
      const { save } = yield* opened(writes)
      for (const [n, state] of states.entries()) {
        writes.fate = () => (n % 3 === 1 ? "fails" : "whole")
        yield* save(() => state)
        if (n % 3 !== 1) assert.deepStrictEqual(sorted((yield* opened(writes)).saved), sorted(state))
      }
    })
  )
})
