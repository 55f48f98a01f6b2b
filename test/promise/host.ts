/** A runtime for tests that have no Effect in them. */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Registry from "../../src/layers/agents/Registry.js"
import * as Auth from "../../src/layers/auth/Auth.js"
import * as Runtime from "../../src/layers/runtime/Runtime.js"
import * as TransportWebSocket from "../../src/layers/transport/TransportWebSocket.js"
import * as Agent from "../../src/services/agents/Agent.js"
import { Job } from "../../src/services/jobs/Job.js"
import { Dialer, TransportServer } from "../../src/services/transport/Transport.js"
import * as ScriptedRuntime from "../../src/testing/ScriptedRuntime.js"
import { agentsForClients } from "../support/agents.js"
import { runtime } from "../support/Wire.js"

export const Gated = Agent.make("gated", {
  version: "1.0.0",
  input: Schema.Struct({ before: Schema.Number, after: Schema.Number }),
  output: Schema.Number
})

/** Lets the `gated` agents of a runtime go on past their first half. */
const gate = () => {
  const open = Effect.runSync(Deferred.make<void>())
  const agent = Agent.handle(Gated, ({ after, before }) =>
    Effect.gen(function* () {
      const job = yield* Job
      for (let i = 1; i <= before; i++) yield* job.log("info", `${i}`)
      yield* job.progress({ current: before, total: before + after })
      yield* Deferred.await(open)
      for (let i = before + 1; i <= before + after; i++) yield* job.log("info", `${i}`)
      return before + after
    })
  )
  return { agent, open: () => Effect.runSync(Deferred.succeed(open, undefined)) }
}

const start = async <A, E>(layer: Layer.Layer<A, E>) => {
  const scope = Effect.runSync(Scope.make())
  const services = await Effect.runPromise(Layer.buildWithScope(layer, scope))
  return { services, stop: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
}

/** In memory, for any number of clients. */
export const host = async () => {
  const { agent, open } = gate()
  const { services, stop } = await start(runtime([...agentsForClients, agent]))
  return { dialer: Layer.succeed(Dialer, Context.get(services, Dialer)), open, stop }
}

/** Welcomes the one client that there is, and says nothing more. */
export const silent = async () => {
  const welcoming = Layer.scopedDiscard(
    Effect.flatMap(ScriptedRuntime.ScriptedRuntime, ({ welcomed }) => Effect.forkScoped(welcomed()))
  )
  const { services, stop } = await start(Layer.provideMerge(welcoming, ScriptedRuntime.layer()))
  return { dialer: Layer.succeed(Dialer, Context.get(services, Dialer)), stop }
}

/** On a port of its own. */
export const listen = async () => {
  const { agent, open } = gate()
  const { services, stop } = await start(
    Runtime.serve().pipe(
      Layer.provideMerge(TransportWebSocket.layer({ port: 0 })),
      Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis" } })),
      Layer.provide(Registry.layer([...agentsForClients, agent])),
      Layer.provide(Auth.layerStatic({ alice: "alice" }))
    )
  )
  return { url: Context.get(services, TransportServer).address, open, stop }
}
