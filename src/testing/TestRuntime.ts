/** A whole runtime in memory, and a client of it. Only the store and the transport differ from production. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Registry from "../layers/agents/Registry.js"
import * as ArcpClient from "../layers/client/ArcpClient.js"
import * as Runtime from "../layers/runtime/Runtime.js"
import * as StoreMemory from "../layers/store/StoreMemory.js"
import type { Registered } from "../services/agents/Agent.js"
import type { Registry as RegistryTag } from "../services/agents/Registry.js"
import type { Dialer } from "../services/transport/Transport.js"
import * as Faults from "./Faults.js"
import {
  authOf,
  type ClientOptions,
  calm,
  type Exact,
  type Failures,
  type Options,
  partsOf,
  type RegistryOptions,
  type Requirements,
  type TestParts,
  tokenOf
} from "./parts.js"

export { type Crashable, crashable } from "./Crashable.js"
export type { CrashPoint } from "./CrashStore.js"
export { type CrashReport, type CrashRun, type EveryCrashOptions, everyCrash } from "./everyCrash.js"
export type { Died } from "./Process.js"
export type { ClientOptions, Failures, Options, RegistryOptions, Requirements } from "./parts.js"

/** What a runtime for tests provides. */
export type Services = ArcpClient.ArcpClient | Dialer | Faults.Faults

const assemble = (
  registry: Layer.Layer<RegistryTag, unknown, unknown>,
  given: TestParts
): Layer.Layer<Services, unknown, unknown> => {
  const { client, store = StoreMemory.layer() } = given
  const token = tokenOf(given)
  const runtime = Runtime.layer(partsOf(given))
  return Layer.orDie(ArcpClient.layer({ ...client, token })).pipe(
    Layer.provideMerge(Faults.layer()),
    Layer.provideMerge(
      Runtime.serve().pipe(
        Layer.provideMerge(Layer.unwrapEffect(Effect.map(Effect.makeLatch(false), calm))),
        Layer.provide(runtime),
        Layer.provide(Layer.mergeAll(registry, authOf(given), store))
      )
    )
  )
}

/**
 * A runtime with these agents, or with the application's registry, a client of it, and a transport between them that
 * breaks when told to. Time is the test's: with `TestClock`, timeouts, leases, graces, heartbeats and the resume window
 * follow it. Each call makes a runtime of its own.
 *
 * @example
 * Effect.gen(function* () {
 *   const client = yield* ArcpClient.ArcpClient
 *   const job = yield* client.submit(Greet, { name: "world" })
 *   assert.strictEqual(yield* job.result, "Hello, world")
 * }).pipe(Effect.scoped, Effect.provide(TestRuntime.layer([greet])))
 */
export const layer: {
  <const Agents extends ReadonlyArray<Registered<unknown>>, P extends Options = Record<never, never>>(
    agents: Agents,
    options?: P & Exact<Options, P>
  ): Layer.Layer<Services, Failures<P>, Registry.Requirements<Agents> | Requirements<P>>
  <P extends RegistryOptions>(
    options: P & Exact<RegistryOptions, P>
  ): Layer.Layer<Services, Failures<P>, Requirements<P>>
} = (given: ReadonlyArray<Registered<unknown>> | RegistryOptions, options: Options = {}) =>
  isRegistry(given)
    ? assemble(given.registry, given)
    : assemble(Layer.orDie(Registry.layer(given, { leased: options.leased })), options)

const isRegistry = (given: ReadonlyArray<Registered<unknown>> | RegistryOptions): given is RegistryOptions =>
  "registry" in given

/** Another client of the same runtime, over the same transport, as whom the token names. */
export const connect = (
  token: string,
  options: ClientOptions = {}
): Effect.Effect<ArcpClient.ArcpClientService, ArcpClient.ClientError, Dialer | Scope.Scope> =>
  ArcpClient.make({ ...options, token: options.token ?? Redacted.make(token) })
