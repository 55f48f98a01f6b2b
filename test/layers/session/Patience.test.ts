/** How long a connection waits for a peer that does not read (protocol 4.4 and 4.5). */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import type { Kept } from "../../../src/layers/session/Keeper.js"
import { type Farewell, Outbox } from "../../../src/layers/session/Outbox.js"
import { Served } from "../../../src/layers/session/Served.js"
import { part } from "../../../src/layers/session/watching.js"
import { encode } from "../../../src/protocol/Codec.js"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { Closed, type Connection } from "../../../src/services/transport/Transport.js"
import { boot, Disk } from "../../support/Rig.js"
import { type Frame, hello, open } from "../../support/Wire.js"

const flood = Agent.handle(Agent.make("flood", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const text = "x".repeat(100_000)
    for (let n = 0; n < 100; n++) yield* job.emit("x-vendor.test.n", { n, text })
    return "done"
  })
)
type Session = Effect.Effect.Success<ReturnType<typeof open>>
const settle = Effect.repeatN(eventLoop.next, 200)
const options = { heartbeatInterval: "30 seconds" } as const
const withoutHeartbeat = all.filter((feature) => feature !== "heartbeat")

/** Sends pings with large nonces, which are answered with as much, until the runtime takes no more. */
const asking = (session: Effect.Effect.Success<ReturnType<typeof open>>, count: number) =>
  Effect.gen(function* () {
    const nonce = "n".repeat(900_000)
    const sending = yield* Effect.fork(
      Effect.forEach(
        Array.from({ length: count }),
        (_, i) => session.request("session.ping", { nonce: `${i} ${nonce}` }),
        { discard: true }
      )
    )
    yield* settle
    assert.strictEqual((yield* Fiber.poll(sending))._tag, "None")
    return sending
  })

describe("a peer whose answers wait", () => {
  it.scoped("and that takes none of them for a minute is given up", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([flood], { disk, options })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open({}, withoutHeartbeat)
          const sending = yield* asking(session, 40)
          const isAttached = Effect.map(disk.store.session(session.sessionId), (record) => record?.attached)
          yield* Effect.zipRight(TestClock.adjust("59 seconds"), settle)
          assert.isTrue(yield* isAttached)
          yield* Effect.zipRight(TestClock.adjust("2 seconds"), settle)
          assert.isFalse(yield* isAttached)
          yield* Fiber.interrupt(sending)
          assert.strictEqual((yield* session.closed).code, 4002)
        })
      )
    })
  )

  it.scoped("and that takes some of them now and then is waited for, however long it is", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([flood], { disk, options })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const sending = yield* asking(session, 40)
          const pongs: Array<number> = []
          let pings = 0
          const takeSome = Effect.map(session.connection.take, (frames) => {
            for (const frame of frames) {
              const { payload, type } = JSON.parse(frame as string) as Frame
              if (type === "session.ping") pings++
              if (type === "session.pong") pongs.push(Number.parseInt(payload.ping_nonce, 10))
            }
          })
          for (let i = 0; i < 6; i++) {
            yield* Effect.zipRight(takeSome, settle)
            yield* Effect.zipRight(TestClock.adjust("50 seconds"), settle)
          }
          assert.isBelow(pongs.length, 40)
          yield* Effect.repeat(takeSome, { until: () => pongs.length === 40 })
          assert.deepStrictEqual(
            pongs,
            Array.from({ length: 40 }, (_, i) => i)
          )
          // What is being sent says as much as a ping.
          assert.strictEqual(pings, 0)
          yield* Fiber.join(sending)
        })
      )
    })
  )

  it.scoped(
    "a peer that neither reads nor says anything is given up after two intervals, though it cannot be told",
    () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot([flood], { disk, options })
        yield* run(
          Effect.gen(function* () {
            const session = yield* open()
            yield* session.request("job.submit", { agent: "flood", input: 1 })
            yield* settle
            const isAttached = Effect.map(disk.store.session(session.sessionId), (record) => record?.attached)
            yield* Effect.zipRight(TestClock.adjust("31 seconds"), settle)
            yield* Effect.zipRight(TestClock.adjust("28 seconds"), settle)
            assert.isTrue(yield* isAttached)
            yield* Effect.zipRight(TestClock.adjust("2 seconds"), settle)
            assert.isFalse(yield* isAttached)
          })
        )
      })
  )
})

describe("a peer that does not read the last", () => {
  const many = Array.from({ length: 21 })
  const ends: ReadonlyArray<
    readonly [name: string, code: number, end: (session: Session) => Effect.Effect<unknown>]
  > = [
    ["session.close", 1000, (session) => session.request("session.close", {})],
    ["session.bye", 1000, (session) => session.request("session.bye", {})],
    [
      "a version that there is not",
      1002,
      (session) => session.request("session.ping", { nonce: "" }, { arcp: "9" })
    ],
    [
      "frames that are malformed",
      1008,
      ({ sendText }) => Effect.forEach(many, () => sendText("{"), { discard: true })
    ]
  ]

  for (const [name, code, end] of ends)
    it.scoped(`is cut off a minute after ${name}, and the session is there for a resume`, () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot([flood], { disk, options })
        yield* run(
          Effect.gen(function* () {
            const session = yield* open()
            yield* session.request("job.submit", { agent: "flood", input: 1 })
            yield* settle
            yield* end(session)
            const isAttached = Effect.map(disk.store.session(session.sessionId), (record) => record?.attached)
            yield* Effect.zipRight(settle, TestClock.adjust("59 seconds"))
            yield* settle
            assert.isTrue(yield* isAttached)
            yield* Effect.zipRight(TestClock.adjust("2 seconds"), settle)
            assert.isFalse(yield* isAttached)
            assert.strictEqual((yield* session.closed).code, code)
            const { resume_token } = session.welcome
            const again = yield* open({
              resume: { session_id: session.sessionId, resume_token, last_event_seq: 0 }
            })
            yield* again.expect("job.result")
          })
        )
      })
    )

  it.scoped("but that takes some of it now and then is told all of it", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([flood], { disk, options })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const sending = yield* asking(session, 20)
          yield* settle
          const pongs: Array<number> = []
          const takeSome = Effect.map(session.connection.take, (frames) => {
            for (const frame of frames) {
              const { payload, type } = JSON.parse(frame as string) as Frame
              if (type === "session.pong") pongs.push(Number.parseInt(payload.ping_nonce, 10))
            }
          })
          const closing = yield* Effect.fork(
            Effect.zipRight(Fiber.join(sending), session.request("session.close", {}))
          )
          for (let i = 0; i < 4; i++) {
            yield* Effect.zipRight(takeSome, settle)
            yield* Effect.zipRight(TestClock.adjust("50 seconds"), settle)
          }
          const closed = yield* Effect.flip(Effect.forever(Effect.zipLeft(takeSome, settle)))
          yield* Fiber.join(closing)
          assert.deepStrictEqual([closed.code, pongs], [1000, Array.from({ length: 20 }, (_, i) => i)])
        })
      )
    })
  )
})

describe("a peer that takes a single large frame little by little", () => {
  it.scoped("is waited for as long as that takes, and given up when it stops", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([flood], { disk, options })
      yield* run(
        Effect.gen(function* () {
          const { serve } = yield* Sessions
          const closed = yield* Deferred.make<void>()
          const over = { code: 0 }
          let sent = 0
          let taken = 0
          const nonce = "n".repeat(900_000)
          const session_id = yield* Deferred.make<string>()
          const take = (function* () {
            yield Effect.succeed(
              encode({ id: "h", type: "session.hello", payload: hello({}, withoutHeartbeat) })
            )
            for (let i = 0; ; i++)
              yield Effect.map(Deferred.await(session_id), (session_id) =>
                encode({ id: `${i}`, type: "session.ping", session_id, payload: { nonce } })
              )
          })()
          const connection: Connection = {
            kind: "websocket",
            remote: "here",
            take: Effect.suspend(() => {
              if (over.code !== 0) return new Closed({ ...over, reason: "" })
              return Effect.map(take.next().value ?? Effect.never, Chunk.of)
            }),
            send: ([frame = ""]) => {
              if (sent++ > 0) return Deferred.await(closed)
              return Effect.asVoid(
                Deferred.succeed(
                  session_id,
                  (JSON.parse(frame) as { readonly session_id: string }).session_id
                )
              )
            },
            progress: () => `${taken}`,
            close: (code) => {
              over.code ||= code
              return Effect.asVoid(Deferred.succeed(closed, undefined))
            },
            setMaxFrameBytes: () => Effect.void
          }
          yield* Effect.forkScoped(serve(connection))
          yield* settle
          assert.isAbove(sent, 1)
          for (taken = 1; taken < 10; taken++) yield* Effect.zipRight(TestClock.adjust("50 seconds"), settle)
          assert.isFalse(yield* Deferred.isDone(closed))
          yield* Effect.zipRight(TestClock.adjust("2 minutes"), settle)
          yield* Deferred.await(closed)
          assert.strictEqual(over.code, 4002)
        })
      )
    })
  )
})

describe("a farewell", () => {
  /** One that waits for the writer, which is sending something or is not. */
  const saying = (farewell: Pick<Farewell, "drained">, isSending: boolean) => {
    const at = { taken: 0, closed: false }
    const connection = {
      send: () => Effect.never,
      progress: () => `${at.taken}`,
      close: () =>
        Effect.sync(() => {
          at.closed = true
        })
    }
    const outbox = new Outbox(1_000)
    const start = { resumed: false, frames: Chunk.empty() }
    const served = new Served(connection as never, {} as never, { outbox } as never, start, () => 0)
    let kept: Kept | undefined
    const keeper = {
      keep: (it: Kept) => {
        kept = it
      }
    }
    const services = { keeper, run: Effect.runFork, interval: 30_000, options: RuntimeOptions.make() }
    part(services as never, served)
    if (isSending) Effect.runFork(served.send(["frame"]))
    outbox.close({ ...farewell, code: 1000, reason: "" })
    return { at, look: () => kept?.look() }
  }

  it("waits for whoever takes some of a frame in every minute, and for nobody else", () => {
    const { at, look } = saying({ drained: true }, true)
    while (at.taken++ < 20) look()
    assert.isFalse(at.closed)
    look()
    look()
    assert.isTrue(at.closed)
  })

  it("after all events waits for the store; one that does not need them is not kept by it", () => {
    for (const drained of [true, false]) {
      const { at, look } = saying({ drained }, false)
      for (let i = 0; i < 5; i++) look()
      assert.strictEqual(at.closed, !drained)
    }
  })
})
