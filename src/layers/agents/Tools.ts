/**
 * The tools of a runtime, given their handlers' requirements once, when the layer is built; and the same tools
 * held to the lease of a job.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import {
  type ArcpError,
  Cancelled,
  InternalError,
  InvalidRequest,
  isArcpError,
  toPayload
} from "../../protocol/Errors.js"
import { json } from "../../protocol/EventText.js"
import { parseJson } from "../../protocol/Json.js"
import { describe } from "../../protocol/Problem.js"
import {
  type Call,
  type CallOptions,
  type Contract,
  type Ran,
  type Registered,
  type Restore,
  type Source,
  type ToolFailure,
  type ToolInfo,
  Tools,
  type ToolsService
} from "../../services/agents/Tools.js"
import type { Cost } from "../../services/lease/Lease.js"
import * as Leased from "../../services/lease/Leased.js"
import { onlySpan } from "../lease/onlySpan.js"

/** Tools cannot be offered together: two have one name. */
export class ToolRegistrationError extends Data.TaggedError("ToolRegistrationError")<{
  readonly message: string
}> {}

/** What a layer of tools is made of. */
export type Item = Registered<unknown> | Source<unknown, unknown>

/** What the handlers and sources of these items require. */
export type Requirements<Items extends ReadonlyArray<Item>> = Exclude<
  Items[number] extends infer I
    ? I extends Registered<infer R>
      ? R
      : I extends Source<infer _E, infer R>
        ? R
        : never
    : never,
  Scope.Scope
>

/** How the sources among these items fail to connect. */
export type Failures<Items extends ReadonlyArray<Item>> = Items[number] extends infer I
  ? I extends Source<infer E, infer _R>
    ? E
    : never
  : never

/** Finds and lists the tools of the moment; the first of a name counts. */
interface Catalogue {
  readonly find: (name: string) => Registered | undefined
  readonly all: () => ReadonlyArray<Registered>
}

type Invoke = (
  name: string,
  input: unknown,
  options: CallOptions | undefined
) => Effect.Effect<unknown, ToolFailure | ArcpError>

/** A failure as the protocol has it: what a tool declares itself is `details.error`. */
const toArcpError = (error: ToolFailure | ArcpError): ArcpError =>
  isArcpError(error)
    ? error
    : new InternalError({ message: error.message, details: { error: error.failure } })

/** The typed call and the call by name, over one that takes and gives JSON. */
const makeCall = (invoke: Invoke): Call =>
  (<I, IE, O, OE, F, FE>(
    target: Contract<I, IE, O, OE, F, FE> | string,
    input: unknown,
    options?: CallOptions
  ): Effect.Effect<unknown, F | ArcpError> => {
    if (typeof target === "string") return Effect.mapError(invoke(target, input, options), toArcpError)
    const { error, input: inputSchema, name, output } = target
    return Schema.encodeUnknown(inputSchema)(input).pipe(
      Effect.mapError(
        ({ issue }) => new InvalidRequest({ message: `tool ${name}: ${describe(issue, "input")}` })
      ),
      Effect.flatMap((encoded) =>
        Effect.mapError(invoke(name, encoded, options), (failure): F | ArcpError => {
          if (isArcpError(failure)) return failure
          const decoded = Schema.decodeUnknownEither(error)(failure.failure)
          return Either.isRight(decoded) ? decoded.right : toArcpError(failure)
        })
      ),
      Effect.flatMap((encoded) =>
        Effect.mapError(
          Schema.decodeUnknown(output)(encoded),
          ({ issue }) =>
            new InternalError({
              message: `the output of tool ${name} is not what this contract says: ${describe(issue, "output")}`
            })
        )
      )
    )
  }) as Call

const info = ({ description, inputSchema, name }: Registered): ToolInfo => ({
  name,
  description,
  inputSchema
})

/** Decodes the input and runs the handler; a failure to do either is in the exit. */
const run = (catalogue: Catalogue, name: string, input: unknown, restore: Restore): Effect.Effect<Ran> => {
  const tool = catalogue.find(name)
  if (tool === undefined) {
    const error = new InvalidRequest({
      message: `there is no tool ${JSON.stringify(cut(name, 256))} here: Tools.list says which there are`
    })
    return Effect.succeed({ exit: Exit.fail(error), cost: undefined })
  }
  return restore(tool.prepare(input)).pipe(
    Effect.flatMap((invocation) => Effect.mapInputContext(invocation(restore), onlySpan)),
    Effect.catchAllCause((cause) => Effect.succeed<Ran>({ exit: Exit.failCause(cause), cost: undefined }))
  )
}

/**
 * The input as the stream shows it and the tool gets it, both of them: an agent's object could read differently
 * the second time.
 */
const asJson = (name: string, input: unknown): Effect.Effect<unknown, InvalidRequest> =>
  input === undefined
    ? Effect.void
    : Either.match(json(input, "input"), {
        onLeft: (problem) => new InvalidRequest({ message: `tool ${name}: ${problem}` }),
        onRight: (text) => Effect.succeed(parseJson(text))
      })

/** What the stream is told of a call that gave no result. */
const wireError = (cause: Cause.Cause<ToolFailure | ArcpError>, name: string) => {
  const failure = Option.getOrUndefined(Cause.failureOption(cause))
  if (failure !== undefined) return toPayload(toArcpError(failure))
  return toPayload(
    Cause.isInterruptedOnly(cause)
      ? new Cancelled({ message: `the call of tool ${name} was interrupted` })
      : new InternalError({ message: `tool ${name} failed unexpectedly` })
  )
}

const leasedTo = (catalogue: Catalogue, { job, lease }: Leased.Lessee): ToolsService => {
  let calls = 0
  let prefix: string | undefined
  /** A random part, so that it is none of the ids that a handler makes up for its own events. */
  const newCallId = Effect.map(
    Effect.suspend(() => (prefix === undefined ? Random.nextIntBetween(0, 36 ** 6) : Effect.succeed(0))),
    (random) => {
      prefix ??= random.toString(36).padStart(6, "0")
      return `call_${prefix}_${++calls}`
    }
  )

  /** Counts what is owed. The tool has run: what else is said of the cost, and cannot be, is left out of it. */
  const spend = (cost: Cost | undefined, tool: string, callId: string) => {
    if (cost === undefined) return Effect.void
    const { amount, currency } = cost
    const dimensions = { tool, call_id: callId }
    const unsaid = (error: InvalidRequest) =>
      Effect.logError(`the cost of a call of tool ${tool} is not told as it was given: ${error.message}`)
    return lease.spend({ ...cost, dimensions: { ...cost.dimensions, ...dimensions } }).pipe(
      Effect.catchTag("InvalidRequest", (error) =>
        Effect.zipRight(unsaid(error), lease.spend({ amount, currency, dimensions }))
      ),
      Effect.catchTag("InvalidRequest", unsaid)
    )
  }

  /**
   * From here nothing is interruptible but the tool itself: every `tool_call` gets its `tool_result`, and a tool
   * that has run is paid for once, whatever happens to its caller. What it costs is known before its result is told; that a call fails
   * then has no other reason than a log that does not take what is said of it.
   */
  const attempt = (tool: string, input: unknown, callId: string, restore: Restore) =>
    Effect.gen(function* () {
      const args = input === undefined ? {} : { args: input }
      yield* job.toolCall({ tool, ...args, call_id: callId })
      // That may have waited, for a store or a reader, and the lease may be over since.
      const verdict = lease.check("tool.call", tool)
      const { cost, exit }: Ran = Either.isRight(verdict)
        ? yield* run(catalogue, tool, input, restore)
        : { exit: Exit.fail(verdict.left), cost: undefined }
      const told = yield* Effect.exit(
        Exit.isSuccess(exit)
          ? job.toolResult({ call_id: callId, ...(exit.value === undefined ? {} : { result: exit.value }) })
          : job.toolResult({ call_id: callId, error: wireError(exit.cause, tool) })
      )
      // A result that the log does not take is a failed call: the stream and the caller are told the same.
      if (Exit.isFailure(told) && Exit.isSuccess(exit))
        yield* Effect.ignore(job.toolResult({ call_id: callId, error: wireError(told.cause, tool) }))
      yield* spend(cost, tool, callId)
      return yield* Exit.zipLeft(exit, told)
    })

  const self: ToolsService = {
    call: makeCall((name, input, options) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          const callId = options?.callId ?? (yield* newCallId)
          const tool = yield* restore(lease.authorize("tool.call", name, { callId }))
          return yield* attempt(tool, yield* asJson(tool, input), callId, restore)
        })
      )
    ),
    list: Effect.sync(() =>
      catalogue
        .all()
        .filter(({ name }) => Either.isRight(lease.check("tool.call", name, false)))
        .map(info)
    ),
    leasedTo: () => self
  }
  return self
}

const open = (catalogue: Catalogue): ToolsService => ({
  call: makeCall((name, input) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(run(catalogue, name, input, restore), ({ exit }) => exit)
    )
  ),
  list: Effect.sync(() => catalogue.all().map(info)),
  leasedTo: (lessee) => leasedTo(catalogue, lessee)
})

/** A handler sees the services of the layer, beside the span of its call. */
const provide = <R>(tool: Registered<R>, services: Context.Context<R>): Registered => ({
  name: tool.name,
  description: tool.description,
  inputSchema: tool.inputSchema,
  prepare: (input) =>
    Effect.map(
      tool.prepare(input),
      (invocation) => (restore) =>
        Effect.mapInputContext(invocation(restore), (span: Context.Context<never>) =>
          Context.merge(span, services)
        )
    )
})

const isSource = (item: Item): item is Source<unknown, unknown> => "connect" in item

/**
 * Offers these tools, and those of these sources (MCP servers: ToolsMcp.ts). Where names clash the layer fails
 * to build; a source that brings a clashing name later does not shadow what was there. The services that the
 * handlers require become the layer's requirements.
 *
 * @example
 * Tools.layer([search, ToolsMcp.stdio({ server: "files", command: "mcp-files" })])
 */
export const layer = <const Items extends ReadonlyArray<Item>>(
  items: Items
): Layer.Layer<Tools, ToolRegistrationError | Failures<Items>, Requirements<Items>> =>
  Layer.scoped(
    Tools,
    Effect.gen(function* () {
      const context = yield* Effect.context<never>()
      // The span and scope in which the layer is built are not the call's.
      const services = Context.omit(
        Tracer.ParentSpan,
        Scope.Scope
      )(context as Context.Context<unknown>) as Context.Context<unknown>
      const own = new Map<string, Registered>()
      const sources: Array<() => ReadonlyMap<string, Registered>> = [() => own]
      const twice = (name: string) =>
        new ToolRegistrationError({
          message: `tool ${name} is registered twice; give one of them another name`
        })
      for (const item of items) {
        if (isSource(item)) {
          sources.push(yield* item.connect)
          continue
        }
        if (own.has(item.name)) return yield* twice(item.name)
        own.set(item.name, provide(item, services))
      }
      const names = new Set<string>()
      for (const source of sources)
        for (const name of source().keys()) {
          if (names.has(name)) return yield* twice(name)
          names.add(name)
        }
      return open({
        find: (name) => {
          for (const source of sources) {
            const tool = source().get(name)
            if (tool !== undefined) return tool
          }
          return undefined
        },
        all: () => {
          const tools = new Map<string, Registered>()
          for (const source of sources)
            for (const [name, tool] of source()) if (!tools.has(name)) tools.set(name, tool)
          return [...tools.values()]
        }
      })
    }) as Effect.Effect<
      ToolsService,
      ToolRegistrationError | Failures<Items>,
      Requirements<Items> | Scope.Scope
    >
  )

/** Holds a job to the `tool.call` patterns of its lease. */
export const leased: Leased.Leased = Leased.make(Tools, (tools, lessee) => tools.leasedTo(lessee))

export * from "../../services/agents/Tools.js"

import { cut } from "../../protocol/Text.js"
