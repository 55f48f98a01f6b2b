/** What runtimes for tests are made of: the parts of every runtime, who may connect, and connections in memory. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Auth from "../layers/auth/Auth.js"
import type * as ArcpClient from "../layers/client/ArcpClient.js"
import type { FailuresOf, Named, NeedsOf, Only, OnlyIn } from "../layers/runtime/Parts.js"
import * as Runtime from "../layers/runtime/Runtime.js"
import * as RuntimeOptionsLayer from "../layers/runtime/RuntimeOptions.js"
import * as TransportMemory from "../layers/transport/TransportMemory.js"
import type { Registry as RegistryTag } from "../services/agents/Registry.js"
import type { Leased } from "../services/lease/Leased.js"
import type * as RuntimeOptions from "../services/runtime/RuntimeOptions.js"
import type { Store } from "../services/store/Store.js"
import { type Connection, Dialer, TransportServer } from "../services/transport/Transport.js"
import { Disturb } from "./Disturb.js"

/** Some of a client's options. */
export type ClientOptions = { readonly [K in keyof ArcpClient.Options]?: ArcpClient.Options[K] | undefined }

/** Who may connect, by token. */
export type Identities = Readonly<Record<string, string | Auth.Identity>>

/**
 * What a runtime for tests has, beside the parts of every runtime. Unless the options say otherwise `shutdownGrace` is 0,
 * every emit waits for its commit (`awaitEmits`), so that what is stored when something breaks is the same in each run, and a test
 * is told why an agent has failed (`revealFailures`).
 */
export interface TestParts extends Runtime.Parts {
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
export type Exact<Known, P> = Only<Known, P> &
  OnlyIn<P, "options", RuntimeOptions.Input> &
  OnlyIn<P, "client", ClientOptions> &
  OnlyIdentities<P>

/** The token is the principal. */
const anybody = (): Layer.Layer<Auth.Auth> =>
  Layer.succeed(
    Auth.Auth,
    Auth.fromToken((token) => Effect.succeed({ principal: Redacted.value(token) }))
  )

export const authOf = ({ auth, identities }: TestParts): Layer.Layer<Auth.Auth, unknown, unknown> =>
  auth ?? (identities === undefined ? anybody() : Auth.layerStatic(identities))

const optionsOf = (options: Runtime.Parts["options"]): Runtime.Parts["options"] =>
  Runtime.isGivenAsLayer(options)
    ? options
    : Layer.orDie(
        RuntimeOptionsLayer.layer({
          ...options,
          shutdownGrace: options?.shutdownGrace ?? 0,
          awaitEmits: options?.awaitEmits ?? true,
          revealFailures: options?.revealFailures ?? true
        })
      )

/** The client's token: the first of `identities`, unless it has one. */
export const tokenOf = ({ client, identities }: TestParts): NonNullable<ClientOptions["token"]> =>
  client?.token ?? Redacted.make(Object.keys(identities ?? {})[0] ?? "test")

/** The parts of every runtime. */
export const partsOf = ({
  admission,
  consumers,
  credentials,
  eventLog,
  ids,
  jobs,
  options,
  policy,
  secrets
}: TestParts): Runtime.Parts => ({
  options: optionsOf(options),
  ids,
  secrets,
  policy,
  admission,
  credentials,
  consumers,
  eventLog,
  jobs
})

/**
 * Connections in memory of which either end is told what becomes of the other, until they are disturbed: before that there
 * are no heartbeats, so that hours of a `TestClock` cost what happens in them.
 */
export const calm = (disturbed: Effect.Latch): Layer.Layer<TransportServer | Dialer | Disturb> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const { connections, ...server } = yield* TransportServer
      const dialer = yield* Dialer
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
