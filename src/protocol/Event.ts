/**
 * Job events (§8): the body of each kind, in its wire shape, and the validation that an emitted
 * body passes before it is logged.
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { Lease, LeaseConstraints } from "./Lease.js"
import { describe } from "./Problem.js"
import { vendorName } from "./Vendor.js"

const Attributes = Schema.Record({ key: Schema.String, value: Schema.Unknown })
const NonNegative = Schema.Number.pipe(Schema.finite(), Schema.nonNegative())
const Count = Schema.Int.pipe(Schema.nonNegative())

export const LogLevel = Schema.Literal("trace", "debug", "info", "warn", "error", "critical")
export type LogLevel = typeof LogLevel.Type

export const Log = Schema.Struct({
  level: LogLevel,
  message: Schema.String,
  attributes: Schema.optional(Attributes)
})
export const Thought = Schema.Struct({ text: Schema.String })
export const ToolCall = Schema.Struct({
  tool: Schema.NonEmptyString,
  args: Schema.optional(Schema.Unknown),
  call_id: Schema.NonEmptyString
})
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
export const Metric = Schema.Struct({
  name: Schema.NonEmptyString,
  value: Schema.Number.pipe(Schema.finite()),
  unit: Schema.optional(Schema.String),
  dimensions: Schema.optional(Attributes)
})
export const ArtifactRef = Schema.Struct({
  uri: Schema.NonEmptyString,
  content_type: Schema.NonEmptyString,
  byte_size: Schema.optional(Count),
  sha256: Schema.optional(
    Schema.String.pipe(Schema.pattern(/^[0-9a-f]{64}$/, { description: "64 lower-case hex digits" }))
  )
})
export const Delegate = Schema.Struct({
  delegate_id: Schema.NonEmptyString,
  agent: Schema.NonEmptyString,
  input: Schema.Unknown,
  lease_request: Schema.optional(Lease),
  lease_constraints: Schema.optional(LeaseConstraints)
})
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
  if (body === undefined) return `bad ${kind.slice(0, 64)} event: body: is missing`
  if (!isKind(kind))
    return vendorName.test(kind)
      ? undefined
      : "unknown event kind: use a kind of the protocol or x-vendor.<vendor>.<name>"
  if ((guards[kind] as (u: unknown) => boolean)(body)) return undefined
  const result = (validators[kind] as (u: unknown) => Either.Either<unknown, ParseResult.ParseIssue>)(body)
  return Either.isLeft(result) ? `bad ${kind} event: ${describe(result.left, "body")}` : undefined
}
