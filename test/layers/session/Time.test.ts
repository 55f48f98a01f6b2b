/** Durations are measured on a clock that only goes forward, protocol 4.5: a wall clock that is set changes nothing. */
import { assert, describe, it } from "@effect/vitest"
import type * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { boot, Disk, settableWall } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const options = { heartbeatInterval: "30 seconds", resumeWindow: "2 minutes" } as const
const settle = Effect.repeatN(eventLoop.next, 30)

type Opened = Effect.Effect.Success<ReturnType<typeof open>>
const from = (session: Opened) => ({
  resume: { session_id: session.sessionId, resume_token: session.welcome.resume_token, last_event_seq: 0 }
})

/** Passes time in steps, as it does. */
const passing = (base: Clock.Clock) => (seconds: number) =>
  Effect.forEach(
    Array.from({ length: seconds }),
    () =>
      Effect.zipRight(
        Effect.withClock(TestClock.adjust("1 second"), base),
        Effect.repeatN(eventLoop.next, 5)
      ),
    { discard: true }
  )

const withWall = <A, E, R>(
  body: (wall: ReturnType<typeof settableWall>, pass: ReturnType<typeof passing>) => Effect.Effect<A, E, R>
) =>
  Effect.flatMap(Effect.clock, (base) => {
    const wall = settableWall(base)
    return Effect.withClock(body(wall, passing(base)), wall.clock)
  })

const hour: Duration.DurationInput = "1 hour"

describe("a wall clock that is set", () => {
  for (const direction of ["forward", "back"] as const)
    it.scoped(`by an hour ${direction}: pings go on, nobody is closed, no detached session is over`, () =>
      withWall((wall, pass) =>
        Effect.gen(function* () {
          const jump = () => (direction === "forward" ? wall.jump(hour) : wall.jumpBack(hour))
          const disk = yield* Disk.make
          const { run } = yield* boot([echo], { disk, options })
          yield* run(
            Effect.gen(function* () {
              const attached = yield* open()
              const detached = yield* open()
              yield* detached.connection.close(1000, "")
              yield* settle
              yield* pass(10)
              jump()
              yield* pass(22)
              // A ping came when it was due, and in time the silence is noticed as well.
              yield* attached.expect("session.ping")
              yield* attached.request("session.pong", { ping_nonce: "x" })
              const again = yield* open(from(detached))
              yield* again.connection.close(1000, "")
              yield* settle
              // Two minutes are two minutes, whatever the wall says.
              jump()
              yield* pass(55)
              yield* attached.request("session.ping", { nonce: "x" })
              yield* pass(55)
              const last = yield* open(from(again))
              yield* last.connection.close(1000, "")
              yield* attached.request("session.ping", { nonce: "y" })
              yield* attached.expect("session.pong", (frame) => frame.payload.ping_nonce === "y")
              jump()
              yield* pass(125)
              const late = yield* connect
              yield* late.send("session.hello", hello(from(last)))
              assert.strictEqual((yield* late.expect("session.error")).payload.code, "RESUME_WINDOW_EXPIRED")
            })
          )
        })
      )
    )
})
