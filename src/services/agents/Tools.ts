/**
 * Tools: what a handler calls by name under `tool.call` (§9). A contract (name and schemas), a handler that only
 * the operator has, and the service that agents call. In a job each call is checked against the lease, shown on
 * the stream as `tool_call` and `tool_result`, and paid for.
 *
 * The authority of a tool is its name: its handler is the operator's code and runs with the services of its
 * layer, open, not with those of the job that calls it. Arguments and results are put on the stream; a secret
 * that a tool needs belongs in its layer.
 *
 * @example
 * const Search = Tools.make("search.web", {
 *   input: Schema.Struct({ query: Schema.String }),
 *   output: Schema.Array(Schema.String),
 *   cost: { amount: "0.01", currency: "USD" }
 * })
 * const search = Tools.handle(Search, ({ query }) => …)
 * // in an agent, with `Tools.layer([search])` beside its registry
 * const hits = yield* (yield* Tools).call(Search, { query: "effect" })
 */
import * as BigDecimal from "effect/BigDecimal"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Budget from "../../protocol/Budget.js"
import { type ArcpError, InternalError, InvalidRequest, isArcpError } from "../../protocol/Errors.js"
import { describe } from "../../protocol/Problem.js"
import { cut } from "../../protocol/Text.js"
import type { Cost } from "../lease/Lease.js"
import type { Lessee } from "../lease/Leased.js"
import { failureMessage } from "./Agent.js"
import { decodeUnknown } from "./decoding.js"
import { type JsonSchema, jsonSchema } from "./JsonSchema.js"
import { readableCause } from "./Thrown.js"
import { type Restore, toItsEnd } from "./toItsEnd.js"

export type { JsonSchema }

/** A contract: what a tool takes, what it gives, how it can fail, what it costs. */
export interface Contract<Input, InputEncoded, Output, OutputEncoded, Failure, FailureEncoded> {
  readonly name: string
  readonly description: string | undefined
  readonly input: Schema.Schema<Input, InputEncoded>
  readonly output: Schema.Schema<Output, OutputEncoded>
  readonly error: Schema.Schema<Failure, FailureEncoded>
  /** What a call costs that has run to its end. */
  readonly cost: (input: Input, output: Output) => Cost | undefined
  /** What a call costs that failed, died or was interrupted; the failure is `undefined` for the latter two. */
  readonly costOnFailure: (input: Input, failure: Failure | ArcpError | undefined) => Cost | undefined
}

export interface ToolOptions<I, IE, O, OE, F, FE> {
  /** For people, and for models that choose among tools. */
  readonly description?: string | undefined
  /** Default: any JSON. */
  readonly input?: Schema.Schema<I, IE> | undefined
  readonly output?: Schema.Schema<O, OE> | undefined
  /** Failures beside the protocol's own. On the stream they are `INTERNAL_ERROR` with `details.error`. */
  readonly error?: Schema.Schema<F, FE> | undefined
  /**
   * What a call costs once the tool has run to its end. Default: nothing. Its metric is `cost.<tool name>`. A function that throws, or
   * gives what is no amount, is logged, and the call costs what one does that died.
   */
  readonly cost?: Cost | ((input: I, output: O) => Cost | undefined) | undefined
  /**
   * What a call costs that fails, dies or is interrupted while the tool runs; the failure is `undefined` for the
   * latter two. Default: nothing.
   */
  readonly costOnFailure?:
    | Cost
    | ((input: I, failure: F | ArcpError | undefined) => Cost | undefined)
    | undefined
}

export type { Restore }

/** A failure that a tool declares, in its encoded form. */
export class ToolFailure extends Schema.TaggedError<ToolFailure>()("ToolFailure", {
  message: Schema.String,
  failure: Schema.Unknown
}) {}

/** How a call ended, and what is owed for it. */
export interface Ran {
  /** The output is encoded: JSON. */
  readonly exit: Exit.Exit<unknown, ToolFailure | ArcpError>
  /** `undefined` when nothing is. */
  readonly cost: Cost | undefined
}

/** A tool, its types erased: what the service keeps. */
export interface Registered<out R = never> {
  readonly name: string
  readonly description: string | undefined
  readonly inputSchema: JsonSchema
  /**
   * Decodes the input (fails with `InvalidRequest`) and gives the run. Everything after the part in `restore` is
   * left uninterruptible, so that a tool that has run is not forgotten.
   */
  readonly prepare: (
    input: unknown
  ) => Effect.Effect<(restore: Restore) => Effect.Effect<Ran, never, R>, InvalidRequest>
}

/** Tools that come from elsewhere and change while the runtime runs: those of an MCP server. */
export interface Source<out E = never, out R = never> {
  /** Connects for as long as the scope is open. Gives what there is at the moment, by name. */
  readonly connect: Effect.Effect<() => ReadonlyMap<string, Registered>, E, R | Scope.Scope>
}

/** One tool, as it is described to a model. */
export interface ToolInfo {
  readonly name: string
  readonly description: string | undefined
  /** Of the encoded input; empty when anything goes. */
  readonly inputSchema: JsonSchema
}

/** How a tool is called. */
export interface CallOptions {
  /** The `call_id` on the stream; default: a new one. The caller's own must be unique in its job. */
  readonly callId?: string | undefined
}

/** Calls by contract are typed; calls by name take and give JSON, and every failure is a protocol error. */
export interface Call {
  <I, IE, O, OE, F, FE>(
    contract: Contract<I, IE, O, OE, F, FE>,
    input: I,
    options?: CallOptions
  ): Effect.Effect<O, F | ArcpError>
  (name: string, input?: unknown, options?: CallOptions): Effect.Effect<unknown, ArcpError>
}

/** Lists the tools that the running job may call, and calls them under its lease. */
export interface ToolsService {
  /**
   * In a job: fails with `PermissionDenied`, `LeaseExpired` or `BudgetExhausted` when the lease does not allow
   * it, and with `InvalidRequest` when there is no such tool or the input is not what it takes; each of them is
   * on the stream too, as a `tool_result`. An input that its contract cannot encode, or JSON cannot hold, fails
   * with `InvalidRequest` before there is anything to show.
   */
  readonly call: Call
  /** The tools there are; in a job, those that its lease allows at the moment. */
  readonly list: Effect.Effect<ReadonlyArray<ToolInfo>>
  /** Returns these tools for one job (§9). What is already leased stays under its lease. */
  readonly leasedTo: (lessee: Lessee) => ToolsService
}

/** The tools of the job that runs in this context. */
export class Tools extends Context.Tag("arcp/services/Tools")<Tools, ToolsService>() {}

const maxName = 256
/** Returns why this is no name for a tool, or `undefined`. */
export const invalidName = (name: string): string | undefined =>
  name.length === 0 || name.length > maxName
    ? `must have 1 to ${maxName} characters`
    : /[\u0000-\u001f\u007f-\u009f]/.test(name)
      ? "must not have control characters"
      : undefined

/** Says why this cannot be what a tool costs, before there is anything to pay. */
const invalidCost = ({ amount }: Cost): string | undefined => {
  const value = Budget.amount(amount)
  return value === undefined || BigDecimal.isNegative(value)
    ? `a cost is a decimal number, not negative, with at most ${Budget.maxDigits} digits before and after the point`
    : undefined
}

const constant = <Args extends ReadonlyArray<unknown>>(
  tool: string,
  cost: Cost | ((...args: Args) => Cost | undefined) | undefined
): ((...args: Args) => Cost | undefined) => {
  if (typeof cost === "function") return cost
  const problem = cost === undefined ? undefined : invalidCost(cost)
  if (problem !== undefined) throw new Error(`tool ${tool}: ${problem}`)
  return () => cost
}

/**
 * Declares a tool. Throws when the name is empty, longer than 256 characters or has control characters, and when its
 * cost is none that can be counted.
 */
export const make = <I = unknown, IE = I, O = unknown, OE = O, F = never, FE = F>(
  name: string,
  options: ToolOptions<I, IE, O, OE, F, FE> = {}
): Contract<I, IE, O, OE, F, FE> => {
  const problem = invalidName(name)
  if (problem !== undefined) throw new Error(`tool name ${JSON.stringify(cut(name, 80))}: ${problem}`)
  return {
    name,
    description: options.description,
    input: options.input ?? (Schema.Unknown as unknown as Schema.Schema<I, IE>),
    output: options.output ?? (Schema.Unknown as unknown as Schema.Schema<O, OE>),
    error: options.error ?? (Schema.Never as unknown as Schema.Schema<F, FE>),
    cost: constant(name, options.cost),
    costOnFailure: constant(name, options.costOnFailure)
  }
}

/** Returns a cost as it counts, with the name of its metric, which is the tool's unless it has one. Throws when it is none. */
const counted = (tool: string, { amount, currency, dimensions, name = tool }: Cost): Cost => {
  const value = Budget.countable(amount)
  if (value === undefined || BigDecimal.isNegative(value) || typeof currency !== "string")
    throw new Error("it is not an amount of a currency")
  return { name, amount: value, currency, dimensions }
}

/**
 * Returns what is owed for a call of a tool that has run: what the first of `ways` gives that can be made out. A cost is reckoned from
 * what a tool, or somebody else's server, has given. When that is odd, the call must not fail, since it has done its work, and must
 * not be free, or whoever decides the output decides that: it costs what one does that failed. What could not be made out is
 * logged.
 */
export const owed = (
  tool: string,
  ...ways: ReadonlyArray<() => Cost | undefined>
): Effect.Effect<Cost | undefined> =>
  Effect.gen(function* () {
    for (const way of ways) {
      const cost = yield* Effect.exit(
        Effect.sync(() => {
          const given = way()
          return given === undefined ? undefined : counted(tool, given)
        })
      )
      if (Exit.isSuccess(cost)) return cost.value
      yield* Effect.logError(`what a call of tool ${tool} costs could not be made out`, cost.cause)
    }
    return undefined
  })

/** Returns how a call ended that failed, died or was interrupted. */
const failedRun = <I, IE, O, OE, F, FE>(contract: Contract<I, IE, O, OE, F, FE>) => {
  const encode = Schema.encodeUnknownEither(contract.error)
  const told = (failure: F | ArcpError): ToolFailure | ArcpError => {
    if (isArcpError(failure)) return failure
    const message = failureMessage(failure)
    const encoded = encode(failure)
    return Either.isRight(encoded)
      ? new ToolFailure({ message, failure: encoded.right })
      : new InternalError({ message })
  }
  return (input: I, thrown: Cause.Cause<F | ArcpError>): Effect.Effect<Ran> => {
    const failure = Cause.failureOrCause(readableCause(thrown))
    const cost = () => contract.costOnFailure(input, Option.getOrUndefined(Either.getLeft(failure)))
    return Effect.map(owed(contract.name, cost), (cost) => ({
      exit: Either.isRight(failure) ? Exit.failCause(failure.right) : Exit.fail(told(failure.left)),
      cost
    }))
  }
}

/** Returns how a call ended that gave an output; one that is not the contract's is a failure of the tool. */
const finishedRun = <I, IE, O, OE, F, FE>(contract: Contract<I, IE, O, OE, F, FE>) => {
  const encode = Schema.encode(contract.output)
  return (input: I, output: O): Effect.Effect<Ran> =>
    Effect.all({
      cost: owed(
        contract.name,
        () => contract.cost(input, output),
        () => contract.costOnFailure(input, undefined)
      ),
      exit: Effect.exit(
        Effect.mapError(
          encode(output),
          (error) =>
            new InternalError({
              message: `the output of tool ${contract.name} is not what its contract says: ${describe(error.issue, "output")}`
            })
        )
      )
    })
}

/**
 * Gives a contract its handler. The handler's requirements become those of the layer; each call has its own
 * `Scope`.
 */
export const handle = <I, IE, O, OE, F, FE, R = never>(
  contract: Contract<I, IE, O, OE, F, FE>,
  handler: (input: I) => Effect.Effect<O, F | ArcpError, R>
): Registered<Exclude<R, Scope.Scope>> => {
  const { name } = contract
  const decode = decodeUnknown(contract.input)
  const failed = failedRun(contract)
  const finished = finishedRun(contract)
  return {
    name,
    description: contract.description,
    inputSchema: jsonSchema(contract.input),
    prepare: (input) =>
      decode(input).pipe(
        Effect.mapBoth({
          onFailure: (error) =>
            new InvalidRequest({ message: `tool ${name}: ${describe(error.issue, "input")}` }),
          onSuccess: (decoded) => (restore: Restore) =>
            Effect.flatMap(Scope.make(), (scope) =>
              toItsEnd(
                restore,
                Scope.extend(
                  Effect.suspend(() => handler(decoded)),
                  scope
                )
              ).pipe(
                Effect.flatten,
                Effect.onExit((exit) => Scope.close(scope, exit)),
                Effect.exit,
                Effect.flatMap(
                  Exit.matchEffect({
                    onFailure: (cause) => Effect.suspend(() => failed(decoded, cause)),
                    onSuccess: (output) => finished(decoded, output)
                  })
                )
              )
            )
        })
      )
  }
}
