/** What a client does when its session, its connection or its token becomes another one. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import type * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { keptJobs, type Saved } from "../../../src/layers/client/ClientState.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { scripted } from "./scripted.js"

const { event, message, result, sessionError, subscribed, welcome } = ScriptedRuntime

/** Everything that is ready happens. */
const settle = Effect.repeatN(Effect.yieldNow(), 100)
const typesOf = (server: ScriptedRuntime.Scripted) =>
  Effect.gen(function* () {
    yield* server.send(message("session.ping", { nonce: "last", sent_at: "" }))
    const types: Array<string> = []
    while (types[types.length - 1] !== "session.pong")
      types.push(...(yield* server.received).map(({ type }) => type))
    return types.slice(0, -1)
  })

describe("a session that changes hands", () => {
  it.scoped("is not taken back from whoever has resumed it", () =>
    Effect.gen(function* () {
      const { dialled, open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.connection.close(4001, "resumed on another transport")
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "ResumeWindowExpired")
      yield* settle
      assert.strictEqual(yield* dialled, 1)
      assert.strictEqual((yield* client.status.get)._tag, "Closed")
    })
  )

  it.scoped("is taken back from a hello of its own that came late, once", () =>
    Effect.gen(function* () {
      const { dialled, greeted, open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.drop
      // A connection ends before its welcome; the next is welcomed, and then the hello of that one arrives.
      yield* Effect.flatMap(greeted, ({ server }) => server.drop)
      const third = yield* greeted
      yield* third.server.send(welcome([], { resume_token: "rt_third" }))
      yield* third.server.connection.close(4001, "resumed on another transport")
      const { hello, server: fourth } = yield* greeted
      assert.deepInclude(hello.payload["resume"] as object, { resume_token: "rt_third" })
      yield* fourth.send(welcome([]))
      yield* fourth.connection.close(4001, "resumed on another transport")
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "ResumeWindowExpired")
      assert.strictEqual(yield* dialled, 4)
    })
  )

  it.scoped("a resume that is answered with another session is the runtime's mistake", () =>
    Effect.gen(function* () {
      const { greeted, open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.drop
      const second = yield* greeted
      yield* second.server.send(welcome([], { session_id: "sess_2" }))
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "ProtocolViolation")
    })
  )

  it.scoped("a submit without a key is not sent to another session, where it could run a second time", () =>
    Effect.gen(function* () {
      const { open, replaced } = yield* scripted
      const { client, server } = yield* open()
      const submitting = yield* Effect.fork(Effect.flip(client.submit("x", 1)))
      const keyed = yield* Effect.fork(client.submit("x", 1, { idempotencyKey: "k" }))
      yield* server.expect("job.submit")
      yield* server.expect("job.submit")
      const other = yield* replaced(server)
      assert.strictEqual((yield* Fiber.join(submitting))._tag, "ResumeWindowExpired")
      yield* other.accept()
      yield* Fiber.join(keyed)
      assert.notInclude(yield* typesOf(other), "job.submit")
    })
  )

  for (const [what, features, status] of [
    ["from a runtime that would start another run", ["subscribe"], "running"],
    ["when it has ended", ["subscribe", Vendor.requests], "error"]
  ] as const)
    it.scoped(`a job is not taken over ${what}`, () =>
      Effect.gen(function* () {
        const { open, replaced, submitted } = yield* scripted
        const { client, server } = yield* open(welcome(features))
        const job = yield* submitted(client, server, { idempotencyKey: "k" })
        yield* server.send(event(1))
        const other = yield* replaced(server, features)
        const { id } = yield* other.expect("job.subscribe")
        const answer = JSON.parse(subscribed(id, 0)) as { readonly payload: object }
        // Its end is some frames later.
        yield* other.send(
          JSON.stringify({ ...answer, payload: { ...answer.payload, current_status: status } }),
          event(1)
        )
        assert.deepStrictEqual(yield* typesOf(other), [])
        yield* other.send(ScriptedRuntime.jobError(2, "INTERNAL_ERROR", true))
        assert.strictEqual((yield* Effect.flip(job.result))._tag, "InternalError")
      })
    )

  it.scoped("jobs are looked for all at once: until then they are in no session", () =>
    Effect.gen(function* () {
      const { open, replaced } = yield* scripted
      const features = ["subscribe", Vendor.requests]
      const { client, server } = yield* open(welcome(features))
      for (let i = 1; i <= 20; i++) {
        const submitting = yield* Effect.fork(client.submit("x", 1))
        yield* server.accept(`job_${i}`)
        yield* Fiber.join(submitting)
      }
      const other = yield* replaced(server, features)
      const asked: Array<unknown> = []
      for (let i = 1; i <= 20; i++) asked.push((yield* other.expect("job.subscribe")).job_id)
      assert.strictEqual(new Set(asked).size, 20)
    })
  )

  it.scoped("jobs that had not been found again when the process ended are looked for by the next one", () =>
    Effect.gen(function* () {
      const { connecting, greeted, open, replaced, submitted } = yield* scripted
      const features = ["subscribe", Vendor.requests]
      let kept: Saved | undefined
      const stateOf = (saved: Saved | undefined) =>
        Effect.succeed({
          saved,
          jobs: keptJobs(saved),
          save: (current: () => Saved) =>
            Effect.sync(() => {
              kept = current()
            })
        })
      const { client, server } = yield* open(welcome(features), { state: stateOf(undefined) })
      const job = yield* submitted(client, server)
      yield* server.send(event(1))
      yield* Stream.runHead(job.events)
      const other = yield* replaced(server, features)
      yield* other.expect("job.subscribe")
      // The process ends here.
      const connected = yield* connecting({ state: stateOf(kept) })
      const { hello, server: next } = yield* greeted
      assert.deepInclude(hello.payload["resume"], { session_id: "sess_2" })
      yield* next.send(welcome(features, { session_id: "sess_2" }))
      const again = yield* Effect.flatMap(Fiber.join(connected), (client) => client.attach("job_1"))
      const { id, payload } = yield* next.expect("job.subscribe")
      assert.deepInclude(payload, { job_id: "job_1", history: true })
      yield* next.send(subscribed(id, 0), event(1), result(2))
      assert.strictEqual(yield* again.result, 7)
      assert.deepStrictEqual(
        [...(yield* Stream.runCollect(again.events))].map(({ kind }) => kind),
        ["gap", "log"]
      )
    })
  )

  it.scoped("a job is taken over where it cannot be subscribed to, and goes on live", () =>
    Effect.gen(function* () {
      const { open, replaced, submitted } = yield* scripted
      const { client, server } = yield* open(welcome([Vendor.requests]))
      const job = yield* submitted(client, server)
      yield* server.send(event(1))
      const other = yield* replaced(server, [Vendor.requests])
      const { extensions, id } = yield* other.expect("job.submit")
      assert.deepStrictEqual(extensions, { [Vendor.adopt]: "job_1" })
      yield* other.send(ScriptedRuntime.accepted(id), event(1), result(2))
      assert.deepStrictEqual(
        [...(yield* Stream.runCollect(job.events))].map(({ kind }) => kind),
        ["log", "gap", "log"]
      )
      assert.strictEqual(yield* job.result, 7)
    })
  )

  it.scoped("a hello for the session that was lost is not one of its own in the next", () =>
    Effect.gen(function* () {
      const { dialled, greeted, open } = yield* scripted
      const { client, server } = yield* open()
      yield* server.drop
      yield* Effect.flatMap(greeted, ({ server }) => server.drop)
      yield* Effect.flatMap(greeted, ({ server }) => server.send(sessionError("RESUME_WINDOW_EXPIRED")))
      const { server: other } = yield* greeted
      yield* other.send(welcome([], { session_id: "sess_2" }))
      yield* other.connection.close(4001, "resumed on another transport")
      yield* settle
      assert.strictEqual(yield* dialled, 4)
      assert.strictEqual((yield* client.status.get)._tag, "Closed")
    })
  )

  it.scoped("one that somebody else took is followed by one that knows its own late hello too", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const state = Effect.succeed({ saved: undefined, jobs: keptJobs(undefined), save: () => Effect.void })
      const { client, server } = yield* open(undefined, { state })
      const second = { session_id: "sess_2" }
      yield* server.connection.close(4001, "resumed on another transport")
      const { hello, server: other } = yield* greeted
      assert.isUndefined(hello.payload["resume"])
      yield* other.send(welcome([], second))
      yield* other.drop
      yield* Effect.flatMap(greeted, ({ server }) => server.drop)
      const { server: third } = yield* greeted
      yield* third.send(welcome([], second))
      yield* third.connection.close(4001, "resumed on another transport")
      const again = yield* greeted
      assert.deepInclude(again.hello.payload["resume"] as object, second)
      yield* again.server.send(welcome([], second))
      yield* settle
      assert.strictEqual((yield* client.resumeState).sessionId, "sess_2")
    })
  )

  it.scoped(
    "a job followed from a second session is followed live from a third: its numbers are not known",
    () =>
      Effect.gen(function* () {
        const { greeted, open, replaced, submitted } = yield* scripted
        const { client, server } = yield* open(welcome(["subscribe"]))
        yield* submitted(client, server)
        yield* server.send(event(1))
        const second = yield* replaced(server, ["subscribe"])
        const subscribe = yield* second.expect("job.subscribe")
        assert.deepInclude(subscribe.payload, { history: true, from_event_seq: 1 })
        yield* second.send(subscribed(subscribe.id, 0), event(1, "new"))
        yield* typesOf(second)
        yield* second.drop
        const refused = yield* greeted
        yield* refused.server.send(ScriptedRuntime.sessionError("RESUME_WINDOW_EXPIRED"))
        const third = yield* greeted
        yield* third.server.send(welcome(["subscribe"], { session_id: "sess_3" }))
        const again = yield* third.server.expect("job.subscribe")
        assert.deepInclude(again.payload, { job_id: "job_1", history: false })
      })
  )
})

describe("a result whose reader was behind that of the events when its session was lost", () => {
  const part = (seq: number, chunk_seq: number, more = true) =>
    event(seq, { result_id: "r", chunk_seq, data: `${chunk_seq}`, encoding: "utf8", more }, "result_chunk")
  /** Chunks 0 to 2 are held, 3 and 4 were skipped; all are among the events that were read. */
  const behind = (features: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const { greeted, open, submitted } = yield* scripted
      const { client, server } = yield* open(welcome(features), { held: { events: 2 } })
      const job = yield* submitted(client, server)
      const disk = yield* Deferred.make<void>()
      const chunks = yield* Effect.fork(Stream.runCollect(Stream.tap(job.chunks, () => Deferred.await(disk))))
      const events = yield* Effect.fork(Stream.runCollect(job.events))
      yield* settle
      yield* server.send(part(1, 0))
      yield* settle
      yield* server.send(part(2, 1), part(3, 2))
      yield* settle
      // As long as a reader is waited for.
      yield* TestClock.adjust("250 millis")
      yield* server.send(part(4, 3), event(5), part(6, 4))
      yield* settle
      yield* server.drop
      const asked: Array<unknown> = []
      let last = yield* greeted
      for (; last.hello.payload["resume"] !== undefined; last = yield* greeted) {
        asked.push((last.hello.payload["resume"] as { last_event_seq: number }).last_event_seq)
        yield* last.server.send(sessionError("RESUME_WINDOW_EXPIRED"))
      }
      // Perhaps only what was skipped is gone.
      assert.deepStrictEqual(asked, [3, 6])
      const other = last.server
      yield* other.send(welcome(features, { session_id: "sess_2" }))
      return { job, other, disk: Deferred.succeed(disk, undefined), chunks, events }
    })
  const said = (events: Iterable<ArcpClient.JobEvent>) =>
    [...events].map(({ body, kind }) => (kind === "result_chunk" ? body.chunk_seq : kind))

  it.scoped("is whole, and no event comes twice: each has a replay of its own", () =>
    Effect.gen(function* () {
      const { chunks, disk, events, job, other } = yield* behind(["subscribe", Vendor.requests])
      yield* disk
      yield* settle
      const first = yield* other.expect("job.subscribe")
      assert.deepInclude(first.payload, { history: true, from_event_seq: 3 })
      yield* other.send(subscribed(first.id, 0), part(1, 3))
      const second = yield* other.expect("job.subscribe")
      assert.deepInclude(second.payload, { history: true, from_event_seq: 6 })
      yield* other.send(event(2), subscribed(second.id, 3))
      yield* other.accept()
      yield* other.send(part(3, 4))
      yield* other.send(event(4, { text: "new" }, "thought"), part(5, 5, false))
      yield* other.send(result(6, { result_id: "r", result_size: 6 }))
      assert.deepStrictEqual(said(yield* Fiber.join(events)), [0, 1, 2, 3, "log", 4, "gap", "thought", 5])
      const text = [...(yield* Fiber.join(chunks))].map((bytes) => new TextDecoder().decode(bytes)).join("")
      assert.strictEqual(text, "012345")
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "InvalidRequest")
    })
  )

  it.scoped("fails where there is one replay only, without blaming the runtime, and the events go on", () =>
    Effect.gen(function* () {
      const { chunks, disk, events, other } = yield* behind(["subscribe"])
      yield* disk
      const { id, payload } = yield* other.expect("job.subscribe")
      assert.deepInclude(payload, { history: true, from_event_seq: 6 })
      yield* other.send(subscribed(id, 0), part(1, 5, false), result(2, { result_id: "r", result_size: 6 }))
      assert.deepStrictEqual(said(yield* Fiber.join(events)), [0, 1, 2, 3, "log", 4, "gap", 5])
      assert.strictEqual((yield* Effect.flip(Fiber.join(chunks)))._tag, "ResumeWindowExpired")
    })
  )
})

describe("a submit that is given up", () => {
  it.scoped("before there was a connection for it is never sent", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { client, server } = yield* open()
      yield* server.drop
      const { server: second } = yield* greeted
      const submitting = yield* Effect.fork(client.submit("x", 1, { idempotencyKey: "k" }))
      yield* settle
      yield* Fiber.interrupt(submitting)
      yield* second.send(welcome())
      assert.deepStrictEqual(yield* typesOf(second), [])
    })
  )

  it.scoped("when it may have arrived is sent again, to be cancelled, but not to another session", () =>
    Effect.gen(function* () {
      const { greeted, open, replaced } = yield* scripted
      const { client, server } = yield* open()
      const submitting = yield* Effect.fork(client.submit("x", 1, { idempotencyKey: "k" }))
      const { id } = yield* server.expect("job.submit")
      yield* Fiber.interrupt(submitting)
      yield* server.drop
      const { server: second } = yield* greeted
      yield* second.send(welcome())
      assert.strictEqual((yield* second.expect("job.submit")).id, id)
      const other = yield* replaced(second)
      assert.deepStrictEqual(yield* typesOf(other), [])
    })
  )

  it.scoped("shortly before an answer would be waited for no longer is cancelled when that comes", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open()
      const submitting = yield* Effect.fork(client.submit("x", 1))
      const { id } = yield* server.expect("job.submit")
      yield* TestClock.adjust("29 seconds")
      yield* Fiber.interrupt(submitting)
      yield* TestClock.adjust("29 seconds")
      yield* server.send(ScriptedRuntime.accepted(id))
      assert.deepStrictEqual(yield* typesOf(server), ["job.cancel"])
    })
  )

  it.scoped("is cancelled however late it is accepted", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome([Vendor.requests]))
      const submitting = yield* Effect.fork(client.submit("x", 1))
      const { id } = yield* server.expect("job.submit")
      yield* Fiber.interrupt(submitting)
      yield* TestClock.adjust("10 minutes")
      yield* server.send(ScriptedRuntime.accepted(id))
      assert.deepStrictEqual(yield* typesOf(server), ["job.cancel"])
    })
  )

  it.scoped("holds back what it is closed by; a subscription does not, and has the time of an answer", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome([Vendor.requests, "subscribe"]))
      const subscribing = yield* Effect.fork(client.subscribe("job_2"))
      const { id } = yield* server.expect("job.subscribe")
      yield* Fiber.interrupt(subscribing)
      yield* TestClock.adjust("31 seconds")
      // Nobody has it left any more: it is as if it was never asked for.
      yield* server.send(subscribed(id, 0, "job_2"))
      assert.deepStrictEqual(yield* typesOf(server), [])
      const another = yield* Effect.fork(client.subscribe("job_2"))
      yield* server.expect("job.subscribe")
      yield* Fiber.interrupt(another)
      yield* client.close
      assert.deepStrictEqual(
        (yield* server.received).map(({ type }) => type),
        ["session.close"]
      )
    })
  )

  it.scoped("shortly before the session is closed is cancelled first", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open()
      const submitting = yield* Effect.fork(client.submit("x", 1))
      const { id } = yield* server.expect("job.submit")
      yield* Fiber.interrupt(submitting)
      const closing = yield* Effect.fork(client.close)
      yield* settle
      yield* server.send(ScriptedRuntime.accepted(id))
      yield* Fiber.join(closing)
      const said = yield* server.received
      assert.deepStrictEqual(
        said.map(({ type }) => type),
        ["job.cancel", "session.close"]
      )
    })
  )

  for (const [what, options, cancelled] of [
    ["cancelled", {}, ["job.cancel"]],
    ["left alone when it is detached", { onInterrupt: "detach" }, []]
  ] as const)
    it.scoped(`after it was accepted, while that is being saved, is ${what}`, () =>
      Effect.gen(function* () {
        const { open } = yield* scripted
        let gate = Effect.void
        const state = Effect.succeed({
          saved: undefined,
          jobs: keptJobs(undefined),
          save: () => Effect.suspend(() => gate)
        })
        const { client, server } = yield* open(undefined, { state })
        for (const method of ["submit", "submitScoped"] as const) {
          gate = Effect.never
          const submitting = yield* Effect.fork(Effect.scoped(client[method]("x", 1, options)))
          yield* server.accept()
          yield* settle
          yield* Fiber.interrupt(submitting)
          gate = Effect.void
          assert.deepStrictEqual(yield* typesOf(server), method === "submit" ? cancelled : ["job.cancel"])
          yield* server.send(result(method === "submit" ? 1 : 2))
        }
      })
    )
})

describe("a connection", () => {
  it.scoped("whose hello is not answered is given up after ten seconds", () =>
    Effect.gen(function* () {
      const { dialled, greeted, open } = yield* scripted
      const { server } = yield* open()
      yield* server.drop
      const second = yield* greeted
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(yield* dialled, 2)
      yield* TestClock.adjust("1 second")
      yield* (yield* greeted).server.send(welcome())
      assert.strictEqual(yield* dialled, 3)
      yield* Effect.flip(second.server.connection.take)
    })
  )

  it.scoped("shows a new token only when it is saved", () =>
    Effect.gen(function* () {
      const { connecting, greeted, welcomed } = yield* scripted
      let gate: Deferred.Deferred<void> | undefined
      const tokens: Array<string> = []
      const state = Effect.succeed({
        saved: undefined,
        jobs: keptJobs(undefined),
        save: (current: () => Saved) =>
          Effect.suspend(() => {
            tokens.push(current().resumeToken)
            return gate === undefined ? Effect.void : Deferred.await(gate)
          })
      })
      const client = yield* connecting({ reconnect: Schedule.recurs(20), state })
      const first = yield* welcomed()
      const submitting = yield* Effect.fork(Effect.flatMap(Fiber.join(client), (c) => c.submit("x", 1)))
      yield* first.expect("job.submit")
      gate = yield* Deferred.make<void>()
      yield* first.drop
      const { server: second } = yield* greeted
      yield* second.send(welcome([], { resume_token: "rt_2" }))
      const heard = yield* Effect.fork(second.received)
      yield* settle
      assert.strictEqual(tokens[tokens.length - 1], "rt_2")
      assert.strictEqual((yield* Fiber.poll(heard))._tag, "None")
      yield* Deferred.succeed(gate, undefined)
      gate = undefined
      const [submit] = yield* Fiber.join(heard)
      assert.strictEqual(submit?.type, "job.submit")
      yield* second.send(ScriptedRuntime.accepted(submit?.id ?? ""))
      yield* Fiber.join(submitting)
    })
  )

  it.scoped("is not told of acknowledgements that were not negotiated", () =>
    Effect.gen(function* () {
      for (const features of [[], ["ack"]]) {
        const { open, submitted } = yield* scripted
        const { client, server } = yield* open(welcome(features))
        const job = yield* submitted(client, server)
        yield* server.send(event(1), event(2), result(3))
        yield* Effect.zipRight(Stream.runDrain(job.events), job.result)
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* typesOf(server), features.length === 0 ? [] : ["session.ack"])
      }
    })
  )

  it.scoped("that brings more than may be held, and the end, has brought all that a reader wants", () =>
    Effect.gen(function* () {
      const { dialled, open, submitted } = yield* scripted
      const { client, server } = yield* open(undefined, { held: { events: 2 } })
      const job = yield* submitted(client, server)
      const part = (seq: number, more: boolean) =>
        event(
          seq,
          { result_id: "r", chunk_seq: seq - 1, data: `${seq}`, encoding: "utf8", more },
          "result_chunk"
        )
      yield* server.send(part(1, true), part(2, true), part(3, false), result(4, { result_id: "r" }))
      yield* settle
      assert.strictEqual(yield* job.result, "123")
      assert.lengthOf([...(yield* Stream.runCollect(job.events))], 3)
      assert.strictEqual(yield* dialled, 1)
    })
  )

  it.scoped("goes on when the reader of a full stream makes room within a moment", () =>
    Effect.gen(function* () {
      const { dialled, open, submitted } = yield* scripted
      const { client, server } = yield* open(undefined, { held: { events: 4 } })
      const job = yield* submitted(client, server)
      const gate = yield* Deferred.make<void>()
      const reading = yield* Effect.fork(
        Stream.runCollect(Stream.tap(job.events, () => Deferred.await(gate)))
      )
      yield* settle
      yield* server.send(...[1, 2, 3, 4, 5, 6].map((seq) => event(seq)))
      yield* settle
      yield* TestClock.adjust("100 millis")
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      yield* server.send(event(7), result(8))
      assert.lengthOf([...(yield* Fiber.join(reading))], 7)
      assert.strictEqual(yield* dialled, 1)
    })
  )

  it.scoped("ends a subscription with the last handle on its job, and not before", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome(["subscribe"]))
      const scopes = [yield* Scope.make(), yield* Scope.make()] as const
      for (const scope of scopes) {
        const subscribing = yield* Effect.fork(Scope.extend(client.subscribe("job_1"), scope))
        const { id } = yield* server.expect("job.subscribe")
        yield* server.send(subscribed(id, 0))
        yield* Fiber.join(subscribing)
      }
      yield* Scope.close(scopes[0], Exit.void)
      assert.deepStrictEqual(yield* typesOf(server), [])
      yield* Scope.close(scopes[1], Exit.void)
      assert.deepStrictEqual(yield* typesOf(server), ["job.unsubscribe", "session.ping"])
    })
  )

  it.scoped(
    "a job that is being subscribed to again is not unsubscribed from, also on another connection",
    () =>
      Effect.gen(function* () {
        const { greeted, open } = yield* scripted
        const { client, server } = yield* open(welcome(["subscribe"]))
        const first = yield* Scope.make()
        const subscribing = yield* Effect.fork(Scope.extend(client.subscribe("job_1"), first))
        yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, 0))
        yield* Fiber.join(subscribing)
        const again = yield* Effect.fork(client.subscribe("job_1"))
        yield* server.expect("job.subscribe")
        yield* Scope.close(first, Exit.void)
        assert.deepStrictEqual(yield* typesOf(server), [])
        yield* server.drop
        const { server: second } = yield* greeted
        yield* second.send(welcome(["subscribe"]))
        yield* second.send(subscribed((yield* second.expect("job.subscribe")).id, 0))
        yield* Fiber.join(again)
        assert.deepStrictEqual(yield* typesOf(second), [])
      })
  )

  for (const [what, refuse] of [
    ["refused", (id: string) => sessionError("INTERNAL_ERROR", false, id)],
    ["not answered", undefined]
  ] as const)
    it.scoped(`what was subscribed to before is left when a subscription that has followed is ${what}`, () =>
      Effect.gen(function* () {
        const { open } = yield* scripted
        const { client, server } = yield* open(welcome(["subscribe"]))
        const first = yield* Scope.make()
        const subscribing = yield* Effect.fork(Scope.extend(client.subscribe("job_1"), first))
        yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, 0))
        yield* Fiber.join(subscribing)
        const again = yield* Effect.fork(client.subscribe("job_1"))
        const { id } = yield* server.expect("job.subscribe")
        yield* Scope.close(first, Exit.void)
        assert.deepStrictEqual(yield* typesOf(server), [])
        if (refuse === undefined) yield* TestClock.adjust("30 seconds")
        else yield* server.send(refuse(id))
        assert.isTrue(Exit.isFailure(yield* Fiber.await(again)))
        yield* settle
        assert.deepStrictEqual(yield* typesOf(server), ["job.unsubscribe", "session.ping"])
      })
    )

  it.scoped("a subscription that is refused leaves alone what another handle has", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome(["subscribe"]))
      const subscribing = yield* Effect.fork(client.subscribe("job_1"))
      yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, 0))
      yield* Fiber.join(subscribing)
      const again = yield* Effect.fork(client.subscribe("job_1"))
      const { id } = yield* server.expect("job.subscribe")
      yield* server.send(sessionError("INTERNAL_ERROR", false, id))
      assert.isTrue(Exit.isFailure(yield* Fiber.await(again)))
      yield* settle
      assert.deepStrictEqual(yield* typesOf(server), [])
    })
  )

  describe("an unsubscribe that nothing shows to have arrived", () => {
    /** A client whose only subscription is the scope's. */
    const subscribedOnce = Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { client, server } = yield* open(welcome(["subscribe"]))
      const scope = yield* Scope.make()
      const subscribing = yield* Effect.fork(Scope.extend(client.subscribe("job_1"), scope))
      const { id } = yield* server.expect("job.subscribe")
      yield* server.send(subscribed(id, 0))
      yield* Fiber.join(subscribing)
      return { client, greeted, leave: Scope.close(scope, Exit.void), server }
    })

    it.scoped("does not keep a refusal that names no request from whoever waits for it", () =>
      Effect.gen(function* () {
        const { client, leave, server } = yield* subscribedOnce
        yield* leave
        yield* server.expect("session.ping")
        const cancelling = yield* Effect.fork(Effect.flip(client.cancel("job_2")))
        yield* server.expect("job.cancel")
        yield* server.send(sessionError("PERMISSION_DENIED"))
        assert.strictEqual((yield* Fiber.join(cancelling))._tag, "PermissionDenied")
      })
    )

    const pong = (ping: ScriptedRuntime.Received) =>
      message("session.pong", { ping_nonce: ping.payload["nonce"] })

    it.scoped("is said on the next connection when there was none", () =>
      Effect.gen(function* () {
        const { greeted, leave, server } = yield* subscribedOnce
        yield* server.drop
        const { server: second } = yield* greeted
        // Welcomed only now.
        yield* leave
        yield* second.send(welcome(["subscribe"]))
        const { payload } = yield* second.expect("job.unsubscribe")
        assert.deepStrictEqual(payload, { job_id: "job_1" })
        yield* second.send(pong(yield* second.expect("session.ping")))
        yield* settle
        // It has arrived: not on the one after that.
        yield* second.drop
        const { server: third } = yield* greeted
        yield* third.send(welcome(["subscribe"]))
        assert.deepStrictEqual(yield* typesOf(third), [])
      })
    )

    it.scoped("is said again when the connection went with it, unless the job has a handle again", () =>
      Effect.gen(function* () {
        const { client, greeted, leave, server } = yield* subscribedOnce
        yield* leave
        yield* server.expect("job.unsubscribe")
        yield* server.drop
        const { server: second } = yield* greeted
        yield* second.send(welcome(["subscribe"]))
        yield* second.expect("job.unsubscribe")
        const subscribing = yield* Effect.fork(client.subscribe("job_1"))
        const { id } = yield* second.expect("job.subscribe")
        yield* second.send(subscribed(id, 0))
        yield* Fiber.join(subscribing)
        yield* second.drop
        const { server: third } = yield* greeted
        yield* third.send(welcome(["subscribe"]))
        assert.deepStrictEqual(yield* typesOf(third), ["session.ping"])
      })
    )
  })
})
