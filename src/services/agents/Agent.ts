/**
 * Agents: a contract (name, version, schemas) that client and server share, and a handler that only the server has.
 *
 * @example
 * const Greet = Agent.make("greet", { version: "1.0.0", input: Schema.Struct({ name: Schema.String }), output: Schema.String })
 * const greet = Agent.handle(Greet, ({ name }) => Effect.gen(function* () {
 *   const job = yield* Job
 *   yield* job.log("info", "greeting")
 *   return `Hello, ${name}`
 * }))
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type ArcpError, InternalError, InvalidRequest, isArcpError } from "../../protocol/Errors.js"
import { describe } from "../../protocol/Problem.js"
import { Job } from "../jobs/Job.js"
import { Lease, leaseErrorOf } from "../lease/Lease.js"
import type { Lessee } from "../lease/Leased.js"
import { mapBothNow } from "../runtime/decided.js"
import type { Contract, Outcome, Restart } from "./Contract.js"
import { decodeUnknown } from "./decoding.js"
import { checkDeclared, checkHandled, checkRun } from "./given.js"
import { type JsonSchema, jsonSchema } from "./JsonSchema.js"
import { inPromises, type PromiseJob } from "./PromiseJob.js"
import { assertSteps, make as makeInPromises } from "./PromiseStep.js"
import type { AnyVendorEvent, Emits, VendorKind } from "./VendorEvent.js"

export type { Contract, Outcome, PromiseJob, Restart }

/** What each job's handler is given: the job itself, its lease, and a scope that is closed before the job's end. */
type Given = Job | Lease | Scope.Scope
/** The same, with what only the compiler knows of. */
type Granted = Given | Emits<VendorKind>

type Undeclared<R, Events extends AnyVendorEvent> = Exclude<
  Extract<R, Emits<VendorKind>>,
  Emits<Events["kind"]>
>

/** Makes an error of a handler that emits, with a schema, what its contract does not declare. */
type Declared<R, Events extends AnyVendorEvent> = [Undeclared<R, Events>] extends [never]
  ? unknown
  : { readonly "emits an event that the contract does not declare": Undeclared<R, Events> }

/** A tag, as far as a service is found by it. */
export interface ServiceTag {
  readonly key: string
}

/** An agent as it is described to those who may use it. */
export interface About {
  readonly description?: string | undefined
  /** The JSON Schema of the encoded input; absent when anything goes. */
  readonly input_schema?: JsonSchema | undefined
  readonly examples?: ReadonlyArray<unknown> | undefined
}

/** A contract with its handler, its types erased: what the registry keeps. */
export interface Registered<R = never> {
  readonly name: string
  readonly version: string
  readonly isDefault: boolean
  readonly requiresStreaming: boolean
  readonly awaitEmits: boolean
  readonly restart: Restart | undefined
  readonly compensateWithin?: Duration.DurationInput | undefined
  readonly concurrency?: number | undefined
  /** Services that its handler needs, by tag: those that are not there are named when the registry is built. */
  readonly requires?: ReadonlyArray<ServiceTag> | undefined
  /** What clients may be told of it. */
  readonly about: About
  /** Decodes the input against the contract (fails with `InvalidRequest`) and gives the run. */
  readonly prepare: (
    input: unknown
  ) => Effect.Effect<Effect.Effect<unknown, ArcpError, R | Given>, InvalidRequest>
  /**
   * The services that the registry gives its handler for one job, by key, in a map of that job's own. What can reach out of
   * the process is held to the job's lease.
   */
  readonly services?: ((lessee: Lessee) => Map<string, unknown>) | undefined
}

export interface AgentOptions<I, IE, O, OE, F, FE, Events> {
  readonly version: string
  /** The version that the bare name means; otherwise the highest by SemVer. */
  readonly default?: boolean | undefined
  readonly requiresStreaming?: boolean | undefined
  /** Let each emit wait until its event is committed, as the option `awaitEmits` does for all agents. Default: no. */
  readonly awaitEmits?: boolean | undefined
  /**
   * Its jobs survive the end of their process: the handler is run again from the start, over what its steps have done
   * (`Job.step`). Default: no.
   */
  readonly durable?: boolean | undefined
  /** `rerun`: its jobs are run again whole when their process has died, for handlers that may be repeated. */
  readonly restart?: "rerun" | undefined
  /**
   * How long the compensations of a job's steps (`StepOptions.compensate`) may take, all together, in each process that runs
   * them. Default: the runtime's `cancelGrace`.
   */
  readonly compensateWithin?: Duration.DurationInput | undefined
  /**
   * Jobs of it, of whichever principal, that run at once. What is submitted beyond waits as `pending`, oldest first. What is
   * delegated counts, and never waits: its parent has its place. Default: any number.
   */
  readonly concurrency?: number | undefined
  /** What the agent does, for people and models that choose among agents. */
  readonly description?: string | undefined
  /** Inputs to begin with, as they go over the wire; `arcp agents NAME` makes command lines of them. */
  readonly examples?: ReadonlyArray<NoInfer<IE>> | undefined
  /**
   * Default: any JSON. Members that it does not know are left out, as by any schema, so that clients may know a newer version; one
   * annotated with `parseOptions: { onExcessProperty: "error" }` refuses them, by name.
   */
  readonly input?: Schema.Schema<I, IE> | undefined
  readonly output?: Schema.Schema<O, OE> | undefined
  /** Failures beside the protocol's own. They reach the client as `INTERNAL_ERROR` with `details.error`. */
  readonly error?: Schema.Schema<F, FE> | undefined
  /** Events that the agent emits with a schema (`Event.vendor`), and no others then. Default: any. */
  readonly events?: ReadonlyArray<Events> | undefined
}

/** Declares an agent. Throws when name or version break the grammar of §7.5, and on an option out of range. */
export const make = <
  I = unknown,
  IE = I,
  O = unknown,
  OE = O,
  F = never,
  FE = F,
  Events extends AnyVendorEvent = AnyVendorEvent
>(
  name: string,
  options: AgentOptions<I, IE, O, OE, F, FE, Events>
): Contract<I, IE, O, OE, F, FE, Events> => {
  checkDeclared(name, options)
  const input = options.input ?? (Schema.Unknown as unknown as Schema.Schema<I, IE>)
  const output = options.output ?? (Schema.Unknown as unknown as Schema.Schema<O, OE>)
  const error = options.error ?? (Schema.Never as unknown as Schema.Schema<F, FE>)
  const encode = Schema.encode(input)
  const decodeOutput = Schema.decodeUnknown(output)
  const decodeFailure = Schema.decodeUnknown(error)
  return {
    name,
    version: options.version,
    isDefault: options.default ?? false,
    requiresStreaming: options.requiresStreaming ?? false,
    awaitEmits: options.awaitEmits ?? false,
    restart: options.durable ? "steps" : options.restart,
    compensateWithin: options.compensateWithin,
    concurrency: options.concurrency,
    description: options.description,
    examples: options.examples ?? [],
    input,
    output,
    error,
    events: options.events ?? [],
    encodeInput: (value) =>
      Effect.mapError(
        encode(value),
        (error) => new InvalidRequest({ message: describe(error.issue, "input") })
      ),
    decodeOutcome: <E, M>(outcome: Effect.Effect<unknown, E>, mismatch: (message: string) => M) =>
      outcome.pipe(
        Effect.catchAll((error): Effect.Effect<never, F | E> => {
          const declared = error instanceof InternalError ? error.details?.["error"] : undefined
          return declared === undefined
            ? Effect.fail(error)
            : decodeFailure(declared).pipe(
                Effect.orElseFail(() => error),
                Effect.flatMap((failure) => Effect.fail(failure))
              )
        }),
        Effect.flatMap((result) =>
          Effect.mapError(decodeOutput(result), (error) =>
            mismatch(`the result is not what the contract says: ${describe(error.issue, "result")}`)
          )
        )
      )
  }
}

const about = <I, IE, O, OE, F, FE>({
  description,
  examples,
  input
}: Pick<Contract<I, IE, O, OE, F, FE>, "description" | "examples" | "input">): About => {
  const schema = jsonSchema(input)
  return {
    ...(description === undefined ? {} : { description }),
    ...(Object.keys(schema).length === 0 ? {} : { input_schema: schema }),
    ...(examples.length === 0 ? {} : { examples })
  }
}

/**
 * Gives a contract its handler. The handler's requirements become those of the registry's layer, but for `Job`, `Lease`
 * and `Scope`, which are the job's own. The scope is closed when the handler returns, fails or is interrupted, and
 * before the job's end is written: finalizers may still emit. They get no longer than the cancel grace. One that dies,
 * or takes longer, ends a job in `INTERNAL_ERROR` that would have succeeded.
 */
export const handle = <I, IE, O, OE, F, FE, R, Events extends AnyVendorEvent = AnyVendorEvent>(
  contract: Contract<I, IE, O, OE, F, FE, Events>,
  // What the contract says is not inferred from the handler, so that the compiler shows the one that is not what it says.
  handler: ((input: I) => Effect.Effect<NoInfer<O>, NoInfer<F> | ArcpError, R>) & Declared<R, Events>,
  needs: {
    /**
     * Tags of services that the handler needs. Where types do not tell (`arcp serve`, JavaScript), those that are missing
     * are named when the registry is built, and not by the first job.
     */
    readonly requires?: ReadonlyArray<ServiceTag> | undefined
  } = {}
): Registered<Exclude<R, Granted>> => {
  checkHandled(contract, handler, needs)
  const decode = decodeUnknown(contract.input)
  const encodeOutput = Schema.encode(contract.output)
  const encodeFailure = Schema.encode(contract.error)
  const fail = (error: F | ArcpError): Effect.Effect<never, ArcpError> =>
    isArcpError(error)
      ? Effect.fail(error)
      : encodeFailure(error as F).pipe(
          Effect.matchEffect({
            // A leased service's refusal, passed on as the platform's error, keeps its code; what else is not declared is
            // a defect.
            onFailure: () => {
              const refusal = leaseErrorOf(error)
              return refusal === undefined ? Effect.die(error) : Effect.fail(refusal)
            },
            onSuccess: (encoded) =>
              Effect.fail(new InternalError({ message: failureMessage(error), details: { error: encoded } }))
          })
        )
  return {
    name: contract.name,
    version: contract.version,
    isDefault: contract.isDefault,
    requiresStreaming: contract.requiresStreaming,
    awaitEmits: contract.awaitEmits,
    restart: contract.restart,
    compensateWithin: contract.compensateWithin,
    concurrency: contract.concurrency,
    requires: needs.requires,
    about: about(contract),
    prepare: (input) =>
      mapBothNow(decode(input), {
        onFailure: (error) => new InvalidRequest({ message: describe(error.issue, "payload.input") }),
        onSuccess: (decoded) =>
          // Whatever it does is done in its job, also what comes before its first effect.
          Effect.suspend(() => handler(decoded)).pipe(
            Effect.catchAll(fail),
            Effect.flatMap((output) =>
              mapBothNow(encodeOutput(output), {
                onFailure: (error) =>
                  new InternalError({
                    message: `the agent's output is not what its contract says: ${describe(error.issue, "output")}`
                  }),
                onSuccess: (encoded) => encoded
              })
            )
          ) as Effect.Effect<unknown, ArcpError, Exclude<R, Granted> | Given>
      })
  }
}

/** The key of the service that Effect did not find, when that is why something died. */
export const missingService = (failure: unknown): string | undefined =>
  /^Service not found: ([^\s(]+)/.exec(messageOf(failure))?.[1]

const messageOf = (failure: unknown): string => {
  const message: unknown = failure instanceof Error ? failure.message : failure
  return typeof message === "string" ? message : ""
}

/** Returns what a failure says of itself, without a stack trace. */
export const failureMessage = (failure: unknown): string =>
  messageOf(failure).split(/\n\s+at /)[0] || "the agent failed"

/** The function of an async agent. What its contract says is not inferred from it, as with `handle`. */
type Run<I, O, Events extends AnyVendorEvent> = (
  input: I,
  job: PromiseJob<Events>
) => NoInfer<O> | PromiseLike<NoInfer<O>>

/**
 * Makes an agent of a plain function, async or not. What its job refuses it (`authorize`, `delegate`, an emit …) rejects with
 * the protocol's error, and ends the job with that error's code when it is not caught. What `error` takes reaches the client as
 * the declared failure that it is. Any other rejection ends the job in `INTERNAL_ERROR`, and is in the runtime's log.
 *
 * When the job is ended (a cancel, a limit, a shutdown) everything of it that is waited for rejects with that as the protocol's
 * error (`Cancelled`, `Timeout`, `LeaseExpired`, `InternalError`), which is also the reason of the signal, and the function is
 * waited for, no longer than the cancel grace. Until then it may still emit, and begins nothing: `step`, `sleep`, `input` and
 * `delegate` reject at once. Whatever it does with the error, the job ends as it was ended. To a durable agent this also happens
 * when its job is unloaded, or left to the next process (`details.reason` is `unloaded` or `shutdown`): nothing that it does
 * then is in the log, and it is run again.
 *
 * @example
 * const Count = Schema.Struct({ to: Schema.Int })
 * Agent.fromPromise("count", { version: "1.0.0", input: Count, output: Schema.Int }, async ({ to }, job) => {
 *   await job.log("info", "counting")
 *   return to
 * })
 */
export const fromPromise: {
  <
    I = unknown,
    IE = unknown,
    O = unknown,
    OE = unknown,
    F = never,
    FE = never,
    Events extends AnyVendorEvent = AnyVendorEvent
  >(
    name: string,
    options: AgentOptions<I, IE, O, OE, F, FE, Events>,
    run: Run<I, O, Events>
  ): Registered
  /** The same for a contract that clients share. */
  <I, IE, O, OE, F, FE, Events extends AnyVendorEvent = AnyVendorEvent>(
    contract: Contract<I, IE, O, OE, F, FE, Events>,
    run: Run<I, O, Events>
  ): Registered
} = <I, IE, O, OE, F, FE, Events extends AnyVendorEvent>(
  ...given:
    | readonly [string, AgentOptions<I, IE, O, OE, F, FE, Events>, Run<I, O, Events>]
    | readonly [Contract<I, IE, O, OE, F, FE, Events>, Run<I, O, Events>]
): Registered => {
  checkRun(given)
  const [contract, run] = given.length === 3 ? [make(given[0], given[1]), given[2]] : given
  if (contract.restart === "steps") assertSteps(contract.name)
  return handle(contract, (input: I) =>
    Effect.gen(function* () {
      const job = yield* Job
      const lease = yield* Lease
      const promises = yield* makeInPromises(job)
      return yield* promises.handle<O, F>((signal) => run(input, inPromises(job, lease, promises, signal)))
    })
  )
}
