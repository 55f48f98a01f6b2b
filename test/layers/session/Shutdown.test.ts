/** A shutdown ends in bounded time whatever the store does, and says bye (protocol 4.7); a log that stops brings one. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { afterEach, vi } from "vitest"
import { Transaction } from "../../../src/layers/log/Transaction.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { boot, Disk } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"

const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)

describe("a shutdown of a store that", () => {
  for (const mode of ["fails", "hangs"] as const)
    it.scopedLive(`${mode}: ends, and says bye to everybody`, () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot([forever], { disk })
        yield* run(
          Effect.gen(function* () {
            const session = yield* open()
            yield* session.request("job.submit", { agent: "forever", input: {} })
            yield* session.expect("job.event")
            disk.mode = mode
            const { shutdown } = yield* Sessions
            yield* Effect.fork(shutdown)
            yield* session.expect("session.bye")
            assert.strictEqual((yield* session.closed).code, 1001)
            // Its turn is over: a second one has nothing to wait for.
            yield* shutdown
          })
        )
        yield* disk.release()
      })
    )
})

describe("a log that has stopped", () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  it.scopedLive("ends every session, takes no new one, and whoever serves is told", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([forever], { disk })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const other = yield* open({ auth: { scheme: "bearer", token: "bob" } })
          const serving = yield* Effect.fork(Effect.flip(Runtime.serveAll))
          vi.spyOn(Transaction.prototype, "apply").mockImplementation(() => {
            throw new Error("memory and store differ")
          })
          yield* session.request("job.submit", { agent: "forever", input: {} })
          yield* session.expect("session.bye")
          yield* other.expect("session.bye")
          assert.strictEqual((yield* Fiber.join(serving)).code, "INTERNAL_ERROR")
          const late = yield* connect
          yield* late.send("session.hello", hello())
          assert.strictEqual((yield* late.expect("session.error")).payload.details.reason, "shutdown")
        })
      )
    })
  )
})
