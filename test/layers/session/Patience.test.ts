/** How long a connection waits for a peer that does not read (protocol 4.4 and 4.5). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { boot, Disk } from "../../support/Rig.js"
import { type Frame, open } from "../../support/Wire.js"

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
