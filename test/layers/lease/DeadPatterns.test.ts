/** Patterns that can match nothing are granted as they are, and the submitter is told of them by name. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { open } from "../../support/Wire.js"

const idle = Agent.handle(Agent.make("idle", { version: "1.0.0" }), () => Effect.void)

const runtime = Runtime.serve().pipe(
  Layer.provideMerge(TransportMemory.layer()),
  Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis" } })),
  Layer.provide(Registry.layer([idle])),
  Layer.provide(Auth.layerStatic({ alice: "alice" }))
)

it.scoped.each(["C:\\Users\\**", "~/**", "tmp/**"])("%s is named", (pattern) =>
  Effect.gen(function* () {
    const session = yield* Effect.orDie(open())
    yield* session.request("job.submit", {
      agent: "idle",
      input: null,
      lease_request: { "fs.read": ["/src/**", pattern] }
    })
    const { payload } = yield* session.next((frame) => frame.payload.kind === "log")
    assert.strictEqual(payload.body.level, "warn")
    assert.include(payload.body.message, `fs.read ${JSON.stringify(pattern)} can match nothing`)
    yield* session.next((frame) => frame.type === "job.result")
  }).pipe(Effect.provide(runtime))
)
