/** A whole runtime in memory, and a client of it. Only the store and the transport differ from production. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Registry from "../layers/agents/Registry.js"
import * as Auth from "../layers/auth/Auth.js"
import * as ArcpClient from "../layers/client/ArcpClient.js"
import * as Runtime from "../layers/runtime/Runtime.js"
import * as TransportMemory from "../layers/transport/TransportMemory.js"
import type { Registered } from "../services/agents/Agent.js"
import type { Leased } from "../services/lease/Leased.js"
import type * as RuntimeOptions from "../services/runtime/RuntimeOptions.js"
import type { Dialer } from "../services/transport/Transport.js"
import * as Faults from "./Faults.js"

/** Options of a runtime for tests. */
export interface Options<E = never, R = never> {
  /** The runtime's options. `shutdownGrace` is 0 unless given: a test does not wait for jobs it leaves running. */
  readonly runtime?: RuntimeOptions.Input
  /** Who may connect, by token; with agents and ceilings, if need be. Default: anybody, as whom the token names. */
  readonly identities?: Readonly<Record<string, string | Auth.Identity>>
  /** The runtime's policy and credentials. */
  readonly parts?: Runtime.Parts<E, R>
  /** More services to be leased, as for `Registry.layer`. */
  readonly leased?: ReadonlyArray<Leased>
  /** The client's options. Default: the first token of `identities`, or `test`. */
  readonly client?: Partial<ArcpClient.Options>
}

/** The token is the principal. */
const anybody: Layer.Layer<Auth.Auth> = Layer.succeed(
  Auth.Auth,
  Auth.fromToken((token) => Effect.succeed({ principal: Redacted.value(token) }))
)

/**
 * A runtime with these agents, a client of it, and a transport between them that breaks when told to. Time is the
 * test's: with `TestClock`, timeouts, leases, graces, heartbeats and the resume window follow it.
 *
 * @example
 * Effect.gen(function* () {
 *   const client = yield* ArcpClient.ArcpClient
 *   const job = yield* client.submit(Greet, { name: "world" })
 *   assert.strictEqual(yield* job.result, "Hello, world")
 * }).pipe(Effect.scoped, Effect.provide(TestRuntime.layer([greet])))
 */
export const layer = <const Agents extends ReadonlyArray<Registered<unknown>>, E = never, R = never>(
  agents: Agents,
  { client, identities, leased = [], parts, runtime }: Options<E, R> = {}
): Layer.Layer<ArcpClient.ArcpClient | Dialer | Faults.Faults, never, Registry.Requirements<Agents> | R> =>
  ArcpClient.layer({ token: Redacted.make(Object.keys(identities ?? {})[0] ?? "test"), ...client }).pipe(
    Layer.provideMerge(Faults.layer()),
    Layer.provideMerge(
      Runtime.serve.pipe(
        Layer.provideMerge(TransportMemory.layer),
        Layer.provide(Runtime.layerMemory({ shutdownGrace: "0 millis", ...runtime }, parts)),
        Layer.provide(Registry.layer(agents, { leased })),
        Layer.provide(identities === undefined ? anybody : Auth.layerStatic(identities))
      )
    ),
    // What is wrong with the agents or the options is the test's mistake.
    Layer.orDie
  )

/** Another client of the same runtime, over the same transport, as whom the token names. */
export const connect = (
  token: string,
  options: Partial<ArcpClient.Options> = {}
): Effect.Effect<ArcpClient.ArcpClientService, ArcpClient.ClientError, Dialer | Scope.Scope> =>
  ArcpClient.make({ token: Redacted.make(token), ...options })
