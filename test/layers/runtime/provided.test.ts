/** A program without types that has forgotten a service is told which layer provides it. */
import { expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"

const agents = Registry.layer([])
const auth = Auth.layerStatic({ t: "me" })
const runtime = Runtime.layerMemory()

const said = (program: Layer.Layer<never, unknown, unknown>) =>
  Layer.build(program as Layer.Layer<never>).pipe(
    Effect.scoped,
    Effect.sandbox,
    Effect.flip,
    Effect.map((cause) => String(Cause.squash(cause)))
  )

it.effect.each([
  ["Sessions", "RuntimeSqlite.layer", [TransportMemory.layer(), agents, auth]],
  ["Registry", "Registry.layer([", [TransportMemory.layer(), Layer.provide(runtime, auth)]],
  ["Auth", "Auth.layerStatic", [TransportMemory.layer(), Layer.provide(runtime, agents)]],
  ["Transport", "TransportWebSocket.layer", [Layer.provide(runtime, [agents, auth])]]
] as const)("of a runtime: %s", ([service, layer, given]) =>
  Effect.gen(function* () {
    const [first, ...rest] = given as unknown as [Layer.Layer<never>, ...Array<Layer.Layer<never>>]
    const program = Layer.provide(Runtime.serve() as Layer.Layer<never>, Layer.mergeAll(first, ...rest))
    const text = yield* said(program)
    expect(text).toMatch(new RegExp(`Service not found: arcp/services/${service}`))
    expect(text).toContain(layer)
  })
)
