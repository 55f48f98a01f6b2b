/** Two clients with one saved session: a duplicated tab, two processes with one file. Each has a session of its own. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as ClientState from "../../../src/layers/client/ClientState.js"
import { startOf } from "../../../src/layers/client/holding.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { runtime } from "../../support/Wire.js"

/** Counts to 3, goes on when it is let, and counts to 6. */
const makeSteps = () => {
  const gate = Effect.unsafeMakeLatch(false)
  const Steps = Agent.make("steps", { version: "1.0.0", input: Schema.Null, output: Schema.Number })
  const steps = Agent.handle(Steps, () =>
    Effect.gen(function* () {
      const job = yield* Job
      const say = (from: number, to: number) =>
        Effect.forEach(
          Array.from({ length: to - from + 1 }, (_, i) => from + i),
          (n) => job.log("info", String(n)),
          { discard: true }
        )
      yield* say(1, 3)
      yield* gate.await
      yield* say(4, 6)
      return 6
    })
  )
  return { Steps, steps, go: gate.open }
}

/** A store that can be looked into, and copied. */
const makeStore = (from: ReadonlyMap<string, string> = new Map()) => {
  const values = new Map(from)
  const store: ClientState.StateStore = {
    get: (key) => Effect.sync(() => Option.fromNullable(values.get(key))),
    set: (key, value) => Effect.sync(() => void values.set(key, value))
  }
  return { values, store }
}

/** A client, how often it was told that the session is held, and its end. */
const start = (
  store: ClientState.StateStore,
  more: ClientState.StoreOptions & Pick<ArcpClient.Options, "held" | "resume"> = {}
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const told = { times: 0 }
    const { held, resume, ...options } = more
    const client = yield* ArcpClient.make({
      token: Redacted.make("alice"),
      reconnect: Schedule.recurs(20),
      held,
      resume,
      state: ClientState.keyValueStore(store, "arcp", {
        onHeld: Effect.sync(() => void told.times++),
        ...options
      })
    }).pipe(Effect.provideService(Scope.Scope, scope))
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const id = Effect.map(client.resumeState, ({ sessionId }) => sessionId)
    const submit = (agent: Agent.Contract<null, null, number, number, never, never>) =>
      Effect.provideService(client.submit(agent, null), Scope.Scope, scope)
    return { client, told, id, submit, end: Scope.close(scope, Exit.void) }
  })

const said = (events: Chunk.Chunk<ArcpClient.JobEvent>) =>
  Chunk.toReadonlyArray(events).flatMap((event) =>
    event.kind === "log" ? [event.body.message] : event.kind === "gap" ? [event.body.reason] : []
  )

describe("a copy of the saved session", () => {
  const { Steps, go, steps } = makeSteps()
  it.scoped(
    "is left alone while its holder lives; whoever has the copy keeps a session of its own in it",
    () =>
      Effect.gen(function* () {
        const original = makeStore()
        const first = yield* start(original.store, { copied: true })
        const job = yield* first.submit(Steps)
        const reading = yield* Effect.fork(Stream.runCollect(job.events))
        yield* first.client.ping
        const copy = makeStore(original.values)
        const second = yield* start(copy.store, { copied: true })
        assert.strictEqual(second.told.times, 1)
        assert.notStrictEqual(yield* second.id, yield* first.id)
        assert.deepStrictEqual(yield* second.client.restored, [])
        yield* go
        assert.deepStrictEqual(said(yield* Fiber.join(reading)), ["1", "2", "3", "4", "5", "6"])
        assert.strictEqual(first.told.times, 0)
        const own = yield* second.id
        yield* second.end
        const third = yield* start(copy.store, { copied: true })
        assert.strictEqual(yield* third.id, own)
        assert.strictEqual(third.told.times, 0)
      }).pipe(Effect.provide(runtime([steps])))
  )
})

describe("a store that two clients use", () => {
  const { Steps, go, steps } = makeSteps()
  it.scoped("is the first one's as long as that lives, and the next one's after that", () =>
    Effect.gen(function* () {
      const { store, values } = makeStore()
      const first = yield* start(store)
      const job = yield* first.submit(Steps)
      yield* first.client.ping
      const second = yield* start(store)
      assert.strictEqual(second.told.times, 1)
      yield* second.client.ping
      assert.include([...values.values()].join(), yield* first.id)
      assert.notInclude([...values.values()].join(), yield* second.id)
      yield* second.end
      const was = yield* first.id
      yield* first.end
      yield* go
      const third = yield* start(store)
      assert.strictEqual(yield* third.id, was)
      assert.strictEqual(yield* (yield* third.client.attach(job.jobId)).result, 6)
    }).pipe(Effect.provide(runtime([steps])))
  )

  it.scoped("is no place any more for whom another has taken it from, who could not know", () =>
    Effect.gen(function* () {
      const { store, values } = makeStore()
      const first = yield* start(store)
      const other = JSON.stringify({ id: "another machine's", since: 0 })
      values.set("arcp.owner", other)
      const before = values.get("arcp")
      yield* first.submit(Steps)
      yield* first.end
      assert.strictEqual(values.get("arcp"), before)
      assert.strictEqual(values.get("arcp.owner"), other)
      assert.strictEqual(first.told.times, 1)
    }).pipe(Effect.provide(runtime([steps])))
  )
})

describe("a page that may take no lock", () => {
  const { Steps, go, steps } = makeSteps()
  it.scoped("goes on with its saved session, and says why nothing holds it", () =>
    Effect.gen(function* () {
      const { store } = makeStore()
      const first = yield* start(store, { copied: true })
      const job = yield* first.submit(Steps)
      const before = yield* first.id
      yield* first.end
      const logged: Array<string> = []
      const logger = Logger.make(({ cause, message }) =>
        logged.push(`${String(message)} ${Cause.pretty(cause)}`)
      )
      const request = () => Promise.reject(new DOMException("not in this frame", "SecurityError"))
      vi.stubGlobal("navigator", { locks: { request } })
      const second = yield* start(store, { copied: true }).pipe(
        Effect.ensuring(Effect.sync(() => vi.unstubAllGlobals())),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      assert.strictEqual(second.told.times, 0)
      assert.strictEqual(yield* second.id, before)
      assert.strictEqual((yield* second.client.restored)[0]?.jobId, job.jobId)
      assert.include(logged.join("\n"), "the browser gives no lock here")
      assert.include(logged.join("\n"), "not in this frame")
      yield* go
    }).pipe(Effect.provide(runtime([steps])))
  )
})

describe("two that come at the same time", () => {
  const { Steps, go, steps } = makeSteps()
  it.scoped("are told apart before either has shown the session to the runtime", () =>
    Effect.gen(function* () {
      const { store, values } = makeStore()
      const first = yield* start(store)
      const was = yield* first.client.resumeState
      yield* first.end
      // The other one has looked for an owner before this one was noted, and is noted after it.
      const other = JSON.stringify({ id: "another process's", since: 0 })
      const raced = yield* start({
        get: store.get,
        set: (key, value) =>
          Effect.zipRight(
            store.set(key, value),
            Effect.sync(() => {
              if (key === "arcp.owner") values.set(key, other)
            })
          )
      })
      assert.notStrictEqual(yield* raced.id, was.sessionId)
      assert.strictEqual(raced.told.times, 1)
      assert.deepStrictEqual(yield* raced.client.restored, [])
      const winner = yield* start(makeStore().store, { resume: was })
      assert.strictEqual(yield* winner.id, was.sessionId)
    }).pipe(Effect.provide(runtime([steps])))
  )

  it.scoped("one that leaves while the next one looks has its last words read", () =>
    Effect.gen(function* () {
      const { store } = makeStore()
      const first = yield* start(store)
      const was = yield* first.id
      const jobs: Array<string> = []
      const leave = Effect.gen(function* () {
        if (jobs.length > 0) return
        const { jobId } = yield* first.submit(Steps).pipe(Effect.orDie)
        jobs.push(jobId)
        yield* first.end
      })
      const next = yield* start({
        get: (key) => (key === "arcp.owner" ? Effect.zipRight(leave, store.get(key)) : store.get(key)),
        set: store.set
      })
      assert.strictEqual(yield* next.id, was)
      assert.deepStrictEqual(
        (yield* next.client.restored).map(({ jobId }) => jobId),
        jobs
      )
      yield* go
    }).pipe(Effect.provide(runtime([steps])))
  )
})

describe("an owner in another process", () => {
  const child = Effect.acquireRelease(
    Effect.promise(async () => {
      const made = spawn(process.execPath, ["-e", "process.stdout.write('up'); setInterval(() => {}, 1e6)"], {
        stdio: ["ignore", "pipe", "ignore"]
      })
      await once(made.stdout, "data")
      return made
    }),
    (made) => kill(made)
  )
  const kill = (made: ChildProcess) =>
    Effect.promise(async () => {
      if (made.exitCode !== null || made.signalCode !== null) return
      const exit = once(made, "exit")
      made.kill("SIGKILL")
      await exit
    })
  const { steps } = makeSteps()

  it.scopedLive("holds the place while it runs, and not after a crash, or as somebody else's number", () =>
    Effect.gen(function* () {
      const { store, values } = makeStore()
      const first = yield* start(store)
      const was = yield* first.id
      yield* first.end
      const other = yield* child
      const pid = other.pid as number
      const resumes = (owner: Record<string, unknown>) =>
        Effect.gen(function* () {
          values.set("arcp.owner", JSON.stringify({ id: "theirs", since: Date.now(), ...owner }))
          const next = yield* start(store)
          const same = (yield* next.id) === was
          assert.strictEqual(next.told.times, same ? 0 : 1)
          yield* next.end
          return same
        })
      assert.isFalse(yield* resumes({ pid, started: startOf(pid) }))
      assert.isTrue(yield* resumes({ pid, started: "another/process" }))
      assert.isTrue(
        yield* resumes({ pid, started: startOf(pid), since: 1_000 }),
        "before the machine was started"
      )
      assert.isTrue(yield* resumes({ pid: process.pid, started: startOf(process.pid) }))
      // As whoever writes it otherwise may have it: text is the number that it says, and what is none is nobody's.
      assert.isFalse(yield* resumes({ pid: `${pid}`, started: startOf(pid) }))
      assert.isTrue(yield* resumes({ pid: `${process.pid}`, started: startOf(process.pid) }))
      for (const none of [0, -1, -process.pid, 1.5, "", "self", true, [pid], { pid }])
        assert.isTrue(yield* resumes({ pid: none }), `${JSON.stringify(none)} is no process`)
      yield* kill(other)
      assert.isTrue(yield* resumes({ pid, started: startOf(pid) }))
    }).pipe(Effect.provide(runtime([steps])))
  )
})

describe("a session that another connection has taken all the same", () => {
  const { Steps, go, steps } = makeSteps()
  it.scoped("is replaced by one of its own, where it was kept; its jobs go on with a gap", () =>
    Effect.gen(function* () {
      const first = yield* start(makeStore().store)
      const job = yield* first.submit(Steps)
      const third = yield* Effect.makeLatch()
      const reading = yield* job.events.pipe(
        Stream.tap((event) =>
          event.kind === "log" && event.body.message === "3" ? third.open : Effect.void
        ),
        Stream.runCollect,
        Effect.fork
      )
      yield* third.await
      const was = yield* first.client.resumeState
      const thief = yield* start(makeStore().store, { resume: was })
      assert.strictEqual(yield* thief.id, was.sessionId)
      while ((yield* first.id) === was.sessionId || (yield* first.client.status.get)._tag !== "Connected")
        yield* eventLoop.next
      yield* first.client.ping
      yield* go
      assert.deepStrictEqual(said(yield* Fiber.join(reading)), ["1", "2", "3", "session_lost", "4", "5", "6"])
      assert.strictEqual(yield* job.result, 6)
      // Nobody takes anything from anybody again.
      assert.strictEqual(yield* thief.id, was.sessionId)
      assert.strictEqual((yield* thief.client.status.get)._tag, "Connected")
    }).pipe(Effect.provide(runtime([steps])))
  )
})

describe("a result that is read slower than the events, in a session that another connection takes", () => {
  const gate = Effect.unsafeMakeLatch(false)
  const parts = Array.from({ length: 30 }, (_, i) => `${i} `)
  const Parts = Agent.make("parts", { version: "1.0.0", input: Schema.Null })
  const agent = Agent.handle(Parts, () =>
    Effect.flatMap(Job, (job) =>
      job.streamResult(
        Stream.concat(
          Stream.fromIterable(parts.slice(0, 20)),
          Stream.fromIterable(parts.slice(20)).pipe(Stream.tap(() => gate.await))
        ).pipe(Stream.rechunk(1)),
        "utf8"
      )
    )
  )
  it.scoped("is whole, and no event comes twice", () =>
    Effect.gen(function* () {
      const first = yield* start(makeStore().store, { held: { events: 4 } })
      const job = yield* first.client.submit(Parts, null)
      const disk = yield* Effect.makeLatch()
      const chunks = yield* Effect.fork(Stream.runCollect(Stream.tap(job.chunks, () => disk.await)))
      const seen: Array<number> = []
      const reading = yield* job.events.pipe(
        Stream.runForEach((event) =>
          Effect.sync(() => {
            if (event.kind === "result_chunk") seen.push(event.body.chunk_seq)
          })
        ),
        Effect.fork
      )
      // The reader of the chunks is waited for, and then left behind.
      while (seen.length < 20) yield* Effect.zipRight(TestClock.adjust("250 millis"), eventLoop.next)
      const was = yield* first.client.resumeState
      yield* start(makeStore().store, { resume: was })
      while ((yield* first.id) === was.sessionId || (yield* first.client.status.get)._tag !== "Connected")
        yield* eventLoop.next
      yield* disk.open
      yield* gate.open
      const text = [...(yield* Fiber.join(chunks))].map((bytes) => new TextDecoder().decode(bytes)).join("")
      assert.strictEqual(text, parts.join(""))
      yield* Fiber.join(reading)
      assert.deepStrictEqual(
        seen.filter((seq) => seq < parts.length),
        parts.map((_, i) => i)
      )
    }).pipe(Effect.provide(runtime([agent])))
  )
})
