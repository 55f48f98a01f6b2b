/** The sessions behind HTTP requests: what one of them takes while nobody asks, and what ends it. */
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { answerOf } from "../../../src/layers/http/failing.js"
import { open } from "../../../src/layers/http/line.js"
import * as Pool from "../../../src/layers/http/pool.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import type { Sessions } from "../../../src/services/session/Sessions.js"
import type { Connection } from "../../../src/services/transport/Transport.js"

const frame = (type: string, payload: unknown) =>
  JSON.stringify({ arcp: "1.1", id: "m", type, session_id: "sess_1", payload })

/** Sessions that welcome everybody, and then do this. */
const welcoming = (then: (connection: Connection) => Effect.Effect<void>) =>
  ({
    serve: (connection) =>
      connection.take.pipe(
        Effect.zipRight(
          connection.send([frame("session.welcome", { session_id: "sess_1", capabilities: {} })])
        ),
        Effect.zipRight(then(connection)),
        Effect.ignore
      )
  }) as Pick<Sessions["Type"], "serve"> as Sessions["Type"]

const guest = { visitor: { remote: "here", client: "here", evidence: {} }, token: undefined }

describe("a session that nobody uses", () => {
  it.scoped("is watched by one fiber, however many have used it, and goes when its time is up", () =>
    Effect.gen(function* () {
      const pool = yield* Pool.make(
        welcoming(() => Effect.never),
        { maxSessions: 10, idle: Duration.seconds(60) }
      )
      const use = Effect.scoped(pool.lineFor({ principal: "alice" }, guest))
      for (let i = 0; i < 50; i++) yield* use
      yield* eventLoop.next
      // Those of timeouts that are over are among them.
      expect([...(yield* TestClock.sleeps())].filter((until) => until === 60_000)).toHaveLength(1)
      yield* TestClock.adjust("40 seconds")
      yield* use
      yield* TestClock.adjust("59 seconds")
      expect(pool.size()).toBe(1)
      yield* TestClock.adjust("1 second")
      yield* eventLoop.next
      expect(pool.size()).toBe(0)
    })
  )
})

describe("a session that is still being opened", () => {
  it.effect("when the server ends is a shutdown to whoever waits for it", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const silent = { serve: () => Effect.never } as Pick<Sessions["Type"], "serve"> as Sessions["Type"]
      const pool = yield* Scope.extend(
        Pool.make(silent, { maxSessions: 10, idle: Duration.seconds(60) }),
        scope
      )
      const waiting = yield* Effect.fork(
        Effect.flip(Effect.scoped(pool.lineFor({ principal: "alice" }, guest)))
      )
      yield* eventLoop.next
      yield* Scope.close(scope, Exit.void)
      const error = yield* Fiber.join(waiting)
      expect(error.details).toEqual({ reason: "shutdown" })
      expect(answerOf(error).status).toBe(503)
    })
  )
})

describe("a session whose runtime waits until its answers are read", () => {
  it.scoped("has them read, though what it is to acknowledge finds no room", () =>
    Effect.gen(function* () {
      const asks = 300
      const reading = yield* Deferred.make<void>()
      const asked = yield* Deferred.make<void>()
      // The runtime reads what was asked first, and nothing more until its answers are taken.
      const sessions = welcoming((connection) =>
        Effect.gen(function* () {
          yield* connection.take
          yield* Deferred.succeed(reading, undefined)
          yield* Deferred.await(asked)
          const event = JSON.stringify({
            arcp: "1.1",
            id: "e",
            type: "job.error",
            event_seq: 200,
            payload: {}
          })
          yield* connection.send([event])
          const answers = Array.from({ length: asks }, (_, i) =>
            frame("session.jobs", { request_id: `http_${i + 2}`, jobs: [] })
          )
          for (const answer of answers) yield* connection.send([answer])
          yield* Effect.forever(connection.take)
        }).pipe(Effect.ignore)
      )
      const line = yield* open(sessions, guest)
      const ask = (count: number) =>
        Effect.fork(
          Effect.forEach(Array.from({ length: count }), () => line.ask("session.list_jobs", {}), {
            concurrency: "unbounded"
          })
        )
      const first = yield* ask(1)
      yield* Deferred.await(reading)
      const others = yield* ask(asks - 1)
      yield* eventLoop.next
      yield* Deferred.succeed(asked, undefined)
      yield* Fiber.join(first)
      expect(yield* Fiber.join(others)).toHaveLength(asks - 1)
    })
  )
})

describe("an error that is about the session", () => {
  const error = frame("session.error", {
    code: "UNAUTHENTICATED",
    message: "the token has ended",
    retryable: false
  })

  it.scoped("ends nothing while the transport is there", () =>
    Effect.gen(function* () {
      const sessions = welcoming((connection) =>
        Effect.gen(function* () {
          yield* connection.take
          yield* connection.send([error, frame("session.jobs", { request_id: "http_2", jobs: [] })])
          yield* Effect.never
        }).pipe(Effect.ignore)
      )
      const line = yield* open(sessions, guest)
      expect(yield* line.ask("session.list_jobs", {})).toMatchObject({ jobs: [] })
      expect(line.isOver()).toBe(false)
    })
  )

  it.scoped("is why it has ended when the transport closes behind it", () =>
    Effect.gen(function* () {
      const sessions = welcoming((connection) =>
        Effect.gen(function* () {
          yield* connection.take
          yield* connection.send([error])
          yield* connection.close(4003, "UNAUTHENTICATED")
        }).pipe(Effect.ignore)
      )
      const line = yield* open(sessions, guest)
      const asking = yield* Effect.fork(Effect.flip(line.ask("session.list_jobs", {})))
      expect(yield* Fiber.join(asking)).toMatchObject({ _tag: "Unauthenticated" })
      expect(line.isOver()).toBe(true)
    })
  )
})

describe("a request that is not answered", () => {
  const asked = (
    then: (connection: Connection) => Effect.Effect<void>,
    [type, payload]: readonly [string, Readonly<Record<string, unknown>>] = ["job.submit", { agent: "echo" }]
  ) =>
    Effect.gen(function* () {
      const taken = yield* Deferred.make<void>()
      const sessions = welcoming((connection) =>
        connection.take.pipe(
          Effect.zipRight(Deferred.succeed(taken, undefined)),
          Effect.zipRight(then(connection)),
          Effect.ignore
        )
      )
      const line = yield* open(sessions, guest)
      const asking = yield* Effect.fork(Effect.flip(line.ask(type, payload)))
      yield* Deferred.await(taken)
      return { line, asking }
    })

  // Whoever does as they are told would have a second job.
  const isNotRepeated = (error: Effect.Effect.Success<ReturnType<typeof refusal>>) => {
    const { headers, status } = answerOf(error)
    expect([status, headers["retry-after"]]).toEqual([504, undefined])
    expect(error.message).toContain("whether it was done is not known")
  }
  const refusal = ({ asking }: Effect.Effect.Success<ReturnType<typeof asked>>) => Fiber.join(asking)

  it.scoped("in time may have been done: nobody is told to repeat it", () =>
    Effect.gen(function* () {
      const request = yield* asked(() => Effect.never)
      yield* TestClock.adjust("30 seconds")
      isNotRepeated(yield* refusal(request))
    })
  )

  it.scoped("before its session ends may have been done, too; what comes after it was not", () =>
    Effect.gen(function* () {
      const request = yield* asked(({ close }) => close(1011, "a fault"))
      isNotRepeated(yield* refusal(request))
      const { headers, status } = answerOf(yield* Effect.flip(request.line.ask("job.submit", {})))
      expect([status, headers["retry-after"]]).toEqual([503, "1"])
    })
  )

  it.scoped("before its session ends for a reason may have been done, too", () =>
    Effect.gen(function* () {
      const why = {
        code: "INTERNAL_ERROR",
        message: "a fault",
        retryable: true,
        details: { reason: "storage" }
      }
      const request = yield* asked(({ close, send }) =>
        Effect.zipRight(send([frame("session.error", why)]), close(1013, ""))
      )
      isNotRepeated(yield* refusal(request))
    })
  )

  it.scoped("and that does nothing the second time may be repeated, whatever became of it", () =>
    Effect.gen(function* () {
      for (const repeatable of [
        ["session.list_jobs", {}],
        ["job.cancel", {}],
        ["x-vendor.effect-arcp.job.input", { input_id: "i", value: 1 }],
        ["job.submit", { agent: "echo", idempotency_key: "k" }]
      ] as const)
        for (const then of [({ close }: Connection) => close(1001, "shutdown"), () => Effect.never]) {
          const request = yield* asked(then, repeatable)
          yield* TestClock.adjust("30 seconds")
          const { headers, status } = answerOf(yield* refusal(request))
          expect([status, headers["retry-after"]], repeatable[0]).toEqual([503, "1"])
        }
    })
  )
})
