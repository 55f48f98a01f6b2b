/**
 * Job events (§8): the body of each kind, in its wire shape, and the validation that an emitted
 * body passes before it is logged.
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { Lease, LeaseConstraints } from "./Lease.js"
import { describe } from "./Problem.js"
import { cut } from "./Text.js"
import { vendorName } from "./Vendor.js"

const Attributes = Schema.Record({ key: Schema.String, value: Schema.Unknown })
const NonNegative = Schema.Number.pipe(Schema.finite(), Schema.nonNegative())
const Count = Schema.Int.pipe(Schema.nonNegative())

/** How much a `log` event matters. */
export const LogLevel = Schema.Literal("trace", "debug", "info", "warn", "error", "critical")
export type LogLevel = typeof LogLevel.Type

/** A line of the job's log, with attributes. */
export const Log = Schema.Struct({
  level: LogLevel,
  message: Schema.String,
  attributes: Schema.optional(Attributes)
})
/** What a model thinks, as text. */
export const Thought = Schema.Struct({ text: Schema.String })
/** A tool is called; its result has the same `call_id`. */
export const ToolCall = Schema.Struct({
  tool: Schema.NonEmptyString,
  args: Schema.optional(Schema.Unknown),
  call_id: Schema.NonEmptyString
})
/** What a call of a tool came to: a result, or an error. */
export const ToolResult = Schema.Struct({
  call_id: Schema.NonEmptyString,
  result: Schema.optional(Schema.Unknown),
  error: Schema.optional(Schema.Unknown)
}).pipe(
  Schema.filter((body) => !("result" in body && "error" in body), {
    description: "a tool_result with a result or an error, not both"
  })
)
/** `phase` and whatever else the agent says. */
export const Status = Schema.Struct(
  { phase: Schema.NonEmptyString, message: Schema.optional(Schema.String) },
  { key: Schema.String, value: Schema.Unknown }
)
/** A number, with a name. A name that begins with `cost.` is money of the currency in `unit`, and is counted against the budget. */
export const Metric = Schema.Struct({
  name: Schema.NonEmptyString,
  value: Schema.Number.pipe(Schema.finite()),
  unit: Schema.optional(Schema.String),
  dimensions: Schema.optional(Attributes)
})
/** Something that the job has made, by its URI. */
export const ArtifactRef = Schema.Struct({
  uri: Schema.NonEmptyString,
  content_type: Schema.NonEmptyString,
  byte_size: Schema.optional(Count),
  sha256: Schema.optional(
    Schema.String.pipe(Schema.pattern(/^[0-9a-f]{64}$/, { description: "64 lower-case hex digits" }))
  )
})
/** The job has begun another one, which has this `delegate_id`. */
export const Delegate = Schema.Struct({
  delegate_id: Schema.NonEmptyString,
  agent: Schema.NonEmptyString,
  input: Schema.Unknown,
  lease_request: Schema.optional(Lease),
  lease_constraints: Schema.optional(LeaseConstraints)
})
/** How far the job is, in units of its own. */
export const Progress = Schema.Struct({
  current: NonNegative,
  total: Schema.optional(NonNegative),
  units: Schema.optional(Schema.String),
  message: Schema.optional(Schema.String)
}).pipe(
  Schema.filter((body) => body.total === undefined || body.current <= body.total, {
    description: "progress whose current is at most its total"
  })
)
/** A part of a streamed result; `more` is false at the last. */
export const ResultChunk = Schema.Struct({
  result_id: Schema.NonEmptyString,
  chunk_seq: Count,
  data: Schema.String,
  encoding: Schema.Literal("utf8", "base64"),
  more: Schema.Boolean
})

/** The kinds the protocol defines, each with the schema of its body. */
export const kinds = {
  log: Log,
  thought: Thought,
  tool_call: ToolCall,
  tool_result: ToolResult,
  status: Status,
  metric: Metric,
  artifact_ref: ArtifactRef,
  delegate: Delegate,
  progress: Progress,
  result_chunk: ResultChunk
} as const

/** The kinds that the protocol defines (§8); others begin with `x-vendor.`. */
export type Kind = keyof typeof kinds

/** The body of an event of kind `K`. */
export type Body<K extends Kind> = (typeof kinds)[K]["Type"]

/** An event as a client sees it: a known kind with its body, or any other kind. */
export type Event =
  | { readonly [K in Kind]: { readonly kind: K; readonly ts: string; readonly body: Body<K> } }[Kind]
  | { readonly kind: `x-vendor.${string}`; readonly ts: string; readonly body: unknown }

/** `job.event` payload. */
export const EventPayload = Schema.Struct({
  kind: Schema.NonEmptyString,
  ts: Schema.String,
  body: Schema.Unknown
})
export interface EventPayload extends Schema.Schema.Type<typeof EventPayload> {}

const validators = Object.fromEntries(
  Object.entries(kinds).map(([kind, schema]) => [
    kind,
    ParseResult.validateEither(schema as Schema.Schema<unknown>)
  ])
)
const guards = Object.fromEntries(
  Object.entries(kinds).map(([kind, schema]) => [kind, ParseResult.is(schema as Schema.Schema<unknown>)])
)

export const isKind = (kind: string): kind is Kind => Object.hasOwn(kinds, kind)

/**
 * Why `body` may not be emitted as an event of `kind`, or `undefined` when it may. Vendor kinds
 * (`x-vendor.<vendor>.<name>`) take any body but none.
 */
export const problem = (kind: string, body: unknown): string | undefined => {
  if (body === undefined) return `bad ${cut(kind, 64)} event: body: is missing`
  if (!isKind(kind))
    return vendorName.test(kind)
      ? undefined
      : "unknown event kind: use a kind of the protocol or x-vendor.<vendor>.<name>"
  if ((guards[kind] as (u: unknown) => boolean)(body)) return undefined
  const result = (validators[kind] as (u: unknown) => Either.Either<unknown, ParseResult.ParseIssue>)(body)
  return Either.isLeft(result) ? `bad ${kind} event: ${describe(result.left, "body")}` : undefined
}
