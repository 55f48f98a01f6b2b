/** What came over a connection is decided, also when the connection ends right after it (§5.1 of the protocol page). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Agent from "../../../src/services/agents/Agent.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { boot, Disk } from "../../support/Rig.js"
import { open } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))

describe("submits before the end of their connection", () => {
  for (const [how, end] of [
    ["a close of the transport", undefined],
    ["session.close", "session.close"],
    ["session.bye", "session.bye"]
  ] as const)
    it.scoped(`are decided: ${how}`, () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot([echo], { disk })
        yield* run(
          Effect.gen(function* () {
            const session = yield* open()
            // None of them is stored while the connection is there.
            disk.mode = "hangs"
            const ids: Array<string> = []
            for (let i = 0; i < 5; i++)
              ids.push(yield* session.request("job.submit", { agent: "echo", input: i }))
            while (disk.hanging === 0) yield* eventLoop.next
            if (end === undefined) yield* session.connection.close(1000, "")
            else yield* session.request(end, {})
            yield* Effect.repeatN(eventLoop.next, 30)
            yield* disk.release()
            const resume = {
              session_id: session.sessionId,
              resume_token: session.welcome.resume_token,
              last_event_seq: 0
            }
            const again = yield* open({ resume })
            const results: Array<unknown> = []
            const accepted: Array<unknown> = []
            while (results.length < 5) {
              const { payload, type } = yield* again.next(
                (frame) => frame.type === "job.result" || frame.type === "job.accepted"
              )
              if (type === "job.result") results.push(payload.result)
              else accepted.push(payload.request_id)
            }
            assert.sameMembers(results, [0, 1, 2, 3, 4])
            assert.sameMembers(accepted, ids)
          })
        )
      })
    )
})
