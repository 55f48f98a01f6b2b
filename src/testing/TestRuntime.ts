/** A whole runtime in memory, and a client of it. Only the store and the transport differ from production. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Registry from "../layers/agents/Registry.js"
import * as Auth from "../layers/auth/Auth.js"
import * as ArcpClient from "../layers/client/ArcpClient.js"
import type { FailuresOf, Named, NeedsOf, Only, OnlyIn } from "../layers/runtime/Parts.js"
import * as Runtime from "../layers/runtime/Runtime.js"
import * as RuntimeOptionsLayer from "../layers/runtime/RuntimeOptions.js"
import * as StoreMemory from "../layers/store/StoreMemory.js"
import * as TransportMemory from "../layers/transport/TransportMemory.js"
import type { Registered } from "../services/agents/Agent.js"
import type { Registry as RegistryTag } from "../services/agents/Registry.js"
import type { Leased } from "../services/lease/Leased.js"
import type * as RuntimeOptions from "../services/runtime/RuntimeOptions.js"
import type { Store } from "../services/store/Store.js"
import { type Connection, Dialer, TransportServer } from "../services/transport/Transport.js"
import { Disturb } from "./Disturb.js"
import * as Faults from "./Faults.js"

/** Some of a client's options. */
type ClientOptions = { readonly [K in keyof ArcpClient.Options]?: ArcpClient.Options[K] | undefined }

/** Who may connect, by token. */
type Identities = Readonly<Record<string, string | Auth.Identity>>

/**
 * What a runtime for tests has, beside the parts of every runtime. Unless the options say otherwise `shutdownGrace` is 0, and
 * every emit waits for its commit (`awaitEmits`), so that what is stored when something breaks is the same in each run.
 */
interface TestParts extends Runtime.Parts {
  /** Where it keeps everything; default: in memory. */
  readonly store?: Layer.Layer<Store, unknown, unknown> | undefined
  /** The client's options. Default: the first token of `identities`, or `test`. */
  readonly client?: ClientOptions | undefined
  /** Who may connect, with agents and ceilings, if need be. Default: anybody, as whom the token names. */
  readonly identities?: Identities | undefined
  /** In place of `identities`: the application's own. */
  readonly auth?: Layer.Layer<Auth.Auth, unknown, unknown> | undefined
}

/** Options of a runtime for tests that hosts agents of the test's. */
export interface Options extends TestParts {
  /** More services to be leased, as for `Registry.layer`. */
  readonly leased?: ReadonlyArray<Leased> | undefined
}

/** Options of a runtime for tests that hosts the application's agents. */
export interface RegistryOptions extends TestParts {
  readonly registry: Layer.Layer<RegistryTag, unknown, unknown>
}

/** What a runtime for tests provides. */
export type Services = ArcpClient.ArcpClient | Dialer | Faults.Faults

/** How the parts that are given fail; what is wrong with the agents or the options is the test's mistake, and a defect. */
export type Failures<P> = Named<
  | FailuresOf<P, keyof RegistryOptions>
  | (P extends { readonly store: Layer.Layer.Any } ? Runtime.StartError : never)
>

/** What a runtime for tests of these parts requires, beside what its agents do. */
export type Requirements<P> = Named<
  | Exclude<Runtime.Requirements<P>, Auth.Auth | RegistryTag | Store>
  | NeedsOf<P, "auth" | "registry" | "store">
>

type OnlyIdentities<P> = P extends { readonly identities: infer Table }
  ? {
      readonly identities: {
        readonly [Token in keyof Table]: Table[Token] extends string
          ? unknown
          : Only<Auth.Identity, Table[Token]>
      }
      readonly auth?: undefined
    }
  : unknown

/** Makes errors of what cannot be exchanged. */
type Exact<Known, P> = Only<Known, P> &
  OnlyIn<P, "options", RuntimeOptions.Input> &
  OnlyIn<P, "client", ClientOptions> &
  OnlyIdentities<P>

/** The token is the principal. */
const anybody = (): Layer.Layer<Auth.Auth> =>
  Layer.succeed(
    Auth.Auth,
    Auth.fromToken((token) => Effect.succeed({ principal: Redacted.value(token) }))
  )

const authOf = ({ auth, identities }: TestParts): Layer.Layer<Auth.Auth, unknown, unknown> =>
  auth ?? (identities === undefined ? anybody() : Auth.layerStatic(identities))

const optionsOf = (options: Runtime.Parts["options"]): Runtime.Parts["options"] =>
  Runtime.isGivenAsLayer(options)
    ? options
    : Layer.orDie(
        RuntimeOptionsLayer.layer({
          ...options,
          shutdownGrace: options?.shutdownGrace ?? 0,
          awaitEmits: options?.awaitEmits ?? true
        })
      )

const assemble = (
  registry: Layer.Layer<RegistryTag, unknown, unknown>,
  given: TestParts
): Layer.Layer<Services, unknown, unknown> => {
  const { client, store = StoreMemory.layer() } = given
  const { admission, consumers, credentials, eventLog, ids, jobs, policy, secrets } = given
  const token = client?.token ?? Redacted.make(Object.keys(given.identities ?? {})[0] ?? "test")
  const options = optionsOf(given.options)
  const runtime = Runtime.layer({
    options,
    ids,
    secrets,
    policy,
    admission,
    credentials,
    consumers,
    eventLog,
    jobs
  })
  return Layer.orDie(ArcpClient.layer({ ...client, token })).pipe(
    Layer.provideMerge(Faults.layer()),
    Layer.provideMerge(
      Runtime.serve().pipe(
        Layer.provideMerge(calm()),
        Layer.provide(runtime),
        Layer.provide(Layer.mergeAll(registry, authOf(given), store))
      )
    )
  )
}

/**
 * Connections in memory of which either end is told what becomes of the other, until they are disturbed: before that there
 * are no heartbeats, so that hours of a `TestClock` cost what happens in them.
 */
const calm = (): Layer.Layer<TransportServer | Dialer | Disturb> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const { connections, ...server } = yield* TransportServer
      const dialer = yield* Dialer
      const disturbed = yield* Effect.makeLatch(false)
      const until = (connection: Connection) => ({ ...connection, mayFallSilent: disturbed.await })
      return Context.make(TransportServer, {
        ...server,
        connections: Stream.map(connections, until)
      }).pipe(
        Context.add(Dialer, { ...dialer, connect: Effect.map(dialer.connect, until) }),
        Context.add(Disturb, Effect.asVoid(disturbed.open))
      )
    })
  ).pipe(Layer.provide(TransportMemory.layer()))

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
