/** A dropped session leaves nothing behind, however it went. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { Dialer } from "../../../src/services/transport/Transport.js"
import { gc, isCollected } from "../../support/collected.js"
import { boot, Disk } from "../../support/Rig.js"
import { open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))

/** Opens sessions one after the other and leaves each. */
const openAndLeave = (count: number) =>
  Effect.forEach(
    Array.from({ length: count }),
    () =>
      Effect.scoped(
        Effect.gen(function* () {
          // Without heartbeats: a test clock keeps the sleeps of those that are gone.
          const session = yield* open(undefined, [])
          yield* session.connection.close(1000, "")
        })
      ),
    { discard: true }
  )

const heldBytes = Effect.gen(function* () {
  for (let i = 0; i < 5; i++) {
    yield* Effect.repeatN(eventLoop.next, 20)
    gc()
  }
  return process.memoryUsage().heapUsed
})

/** Bytes that a session may leave; alone it holds some 10 kB. */
const bound = 4_000

/**
 * Bytes that stay behind per session, after the machinery has warmed up: the least of a few rounds, since what is made once, as code that
 * is compiled late, is in one of them, and what each session leaves in all.
 */
const leftPerSession = (round: (count: number) => Effect.Effect<void, unknown, never>) =>
  Effect.gen(function* () {
    const count = 100
    yield* round(count)
    let before = yield* heldBytes
    let least = Number.POSITIVE_INFINITY
    for (let i = 0; i < 4 && least >= bound; i++) {
      yield* round(count)
      const now = yield* heldBytes
      least = Math.min(least, (now - before) / count)
      before = now
    }
    return least
  })

describe("sessions that are opened and dropped", () => {
  it.scopedLive("to make room for others of their principal leave nothing in memory", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([echo], { disk, options: { maxSessionsPerPrincipal: 10 } })
      const left = yield* leftPerSession((count) => {
        // What the disk was given is kept for looking; it is not what is measured.
        disk.committed.length = 0
        return Effect.tap(run(openAndLeave(count)), () =>
          Effect.sync(() => {
            disk.committed.length = 0
          })
        )
      })
      assert.lengthOf(yield* disk.store.sessions, 10)
      assert.isBelow(left, bound)
    })
  )

  it.scoped("by the end of their window leave nothing in memory", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([echo], {
        disk,
        options: { maxSessionsPerPrincipal: 10_000, resumeWindow: "10 seconds" }
      })
      const left = yield* leftPerSession((count) =>
        Effect.gen(function* () {
          yield* run(openAndLeave(count))
          for (let i = 0; i < 6; i++) {
            yield* TestClock.adjust("5 seconds")
            yield* Effect.repeatN(eventLoop.next, 50)
          }
          disk.committed.length = 0
        })
      )
      assert.lengthOf(yield* disk.store.sessions, 0)
      assert.isBelow(left, bound)
    })
  )
})

/** Opens a session on a connection of its own, and leaves it. Returns what only that connection holds. */
const leaveFirstConnection = Effect.scoped(
  Effect.gen(function* () {
    const sessions = yield* Sessions
    const [client, server] = yield* TransportMemory.make
    const socket = { isOpen: true }
    const close: typeof server.close = (code, reason) => {
      socket.isOpen = false
      return server.close(code, reason)
    }
    const serving = yield* Effect.fork(sessions.serve({ ...server, close }))
    const session = yield* open(undefined, []).pipe(
      Effect.provideService(Dialer, { connect: Effect.succeed(client) })
    )
    yield* session.connection.close(1000, "")
    yield* Fiber.await(serving)
    return new WeakRef(socket)
  })
)

describe("a session that is kept", () => {
  it.scopedLive("holds no connection that has ended", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([echo], { disk })
      const socket = yield* run(leaveFirstConnection)
      let collected = false
      for (let i = 0; i < 20 && !collected; i++) {
        yield* Effect.repeatN(eventLoop.next, 20)
        collected = yield* isCollected(socket)
      }
      assert.isTrue(collected)
      assert.lengthOf(yield* disk.store.sessions, 1)
    })
  )
})
