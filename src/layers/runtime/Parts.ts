/** What a runtime is made of, and what may be given in its place. */
import type * as Layer from "effect/Layer"
import type { ParseError } from "effect/ParseResult"
import type { Scope } from "effect/Scope"
import type { InternalError } from "../../protocol/Errors.js"
import type { Registry } from "../../services/agents/Registry.js"
import type { Auth } from "../../services/auth/Auth.js"
import type { Policy } from "../../services/auth/Policy.js"
import type { Credentials } from "../../services/credentials/Credentials.js"
import type { Admission } from "../../services/jobs/Admission.js"
import type { Hooks } from "../../services/jobs/Hooks.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { Committed, Consumer } from "../../services/log/Committed.js"
import type { EventLog } from "../../services/log/EventLog.js"
import type { IdGenerator } from "../../services/runtime/IdGenerator.js"
import type { Input, RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import type { Secrets } from "../../services/runtime/Secrets.js"
import type { Sessions } from "../../services/session/Sessions.js"
import type { Store, StoreError } from "../../services/store/Store.js"

/** What every other part of a runtime may use. */
type Basis = RuntimeOptions | IdGenerator | Secrets
/** What decides for the log and the jobs, and what they publish to. */
type Deciders = Policy | Credentials | Admission | Hooks | Committed

/** What a runtime provides. */
export type Services = Sessions | Jobs | EventLog | Deciders | Basis

/** Why a runtime cannot start over its store. */
export type StartError = StoreError | InternalError

/** The log as it is unless given; what a wrapper wraps. */
export type EventLogLayer<E = StartError> = Layer.Layer<EventLog, E, Committed | Store | RuntimeOptions>
/** The jobs as they are unless given; what a wrapper wraps. */
export type JobsLayer<E = StartError> = Layer.Layer<Jobs, E, EventLog | Store | Registry | Deciders | Basis>

/**
 * What can be exchanged in a runtime. Each part has errors and requirements of its own, and the runtime has all of them;
 * a part may also require the parts above it here, which the runtime has. `E`: how the runtime's store fails at the start.
 */
export interface Parts<E = StartError> {
  /** Limits and intervals: some of them, and the defaults for the rest; or a layer, as `RuntimeOptions.layerConfig()`. */
  readonly options?: Input | Layer.Layer<RuntimeOptions, unknown, unknown> | undefined
  /** Ids of messages, sessions and jobs; default: ULIDs. */
  readonly ids?: Layer.Layer<IdGenerator, unknown, unknown> | undefined
  /** Resume tokens and digests; default: of Node's crypto. */
  readonly secrets?: Layer.Layer<Secrets, unknown, unknown> | undefined
  /** Who may see, cancel and use what; default: the same principal. */
  readonly policy?: Layer.Layer<Policy, unknown, unknown> | undefined
  /** Says which jobs may begin now; default: all. */
  readonly admission?: Layer.Layer<Admission, unknown, unknown> | undefined
  /** What is called when a job waits, has ended, or cannot go on; default: nothing. */
  readonly hooks?: Layer.Layer<Hooks, unknown, unknown> | undefined
  /** Mints credentials for jobs; default: none. */
  readonly credentials?: Layer.Layer<Credentials, unknown, unknown> | undefined
  /**
   * What gets everything that is committed: metrics, audit. From the ends of the jobs that the last process left to those
   * that a shutdown writes.
   */
  readonly consumers?: ReadonlyArray<Consumer<unknown>> | undefined
  /** Wraps the event log. */
  readonly eventLog?: ((base: EventLogLayer<E>) => Layer.Layer<EventLog, unknown, unknown>) | undefined
  /** Wraps the jobs. */
  readonly jobs?: ((base: JobsLayer<E>) => Layer.Layer<Jobs, unknown, unknown>) | undefined
}

/** Makes errors of members that a record does not have: a generic parameter takes them otherwise. */
export type Only<Known, P> = { readonly [K in keyof P]: K extends keyof Known ? Known[K] : never }
type OnlyRecord<Known, Value> = Value extends Layer.Layer.Any | undefined ? Value : Only<Known, Value>
/** The same for a record inside it, where that is not a layer. */
export type OnlyIn<P, K extends PropertyKey, Known> = K extends keyof P
  ? { readonly [M in K]?: OnlyRecord<Known, P[K]> | undefined }
  : unknown
/** Makes errors of what cannot be exchanged. */
export type Exact<Known, P> = Only<Known, P> & OnlyIn<P, "options", Input>

/** The members of a union by their own names, where an editor would show how it was put together. */
export type Named<Union> = [Union] extends [infer Members] ? Members : never

type Member<P, K extends PropertyKey> = K extends keyof P ? P[K] : never

type FailureOf<Part> =
  Part extends Layer.Layer<infer _A, infer E, infer _R>
    ? E
    : Part extends (base: never) => Layer.Layer<infer _A, infer E, infer _R>
      ? E
      : never

type NeedOf<Part> =
  Part extends Layer.Layer<infer _A, infer _E, infer R>
    ? R
    : Part extends (base: never) => Layer.Layer<infer _A, infer _E, infer R>
      ? R
      : Part extends ReadonlyArray<Consumer<infer R>>
        ? R
        : never

/** How these members of a record fail to be made. */
export type FailuresOf<P, K extends PropertyKey> = FailureOf<Member<P, K>>
/** What these members of a record require. */
export type NeedsOf<P, K extends PropertyKey> = NeedOf<Member<P, K>>

/** Options that are given as values are checked; layers fail as they say. */
type OptionsFailure<Options> = Options extends Layer.Layer.Any | undefined ? FailureOf<Options> : ParseError

/** How the parts of a runtime fail to be made. */
export type Failures<P> = Named<
  OptionsFailure<Member<P, "options">> | FailuresOf<P, Exclude<keyof Parts, "options">>
>

/** What a runtime of these parts requires, beside its store. */
export type Requirements<P> = Named<
  | Auth
  | Registry
  | NeedsOf<P, "options" | "ids" | "secrets">
  | Exclude<NeedsOf<P, "policy" | "admission" | "hooks" | "credentials" | "consumers">, Basis | Scope>
  | Exclude<NeedsOf<P, "eventLog">, Deciders | Basis>
  | Exclude<NeedsOf<P, "jobs">, EventLog | Deciders | Basis>
>
