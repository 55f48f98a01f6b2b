/**
 * Between JSON text and typed messages. Decoding looks the payload's decoder up by `type` in a table
 * built once; encoding splices: an event's payload is stored as JSON text and is never parsed or
 * serialised again on its way out (Envelope.ts).
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import type * as Schema from "effect/Schema"
import { type Envelope, isVersion, type Rejected, versions } from "./Envelope.js"
import { fault } from "./JsonText.js"
import { clientMessages } from "./Message.js"
import { dropping } from "./nulls.js"
import { describe } from "./Problem.js"
import { cut, isWellFormed } from "./Text.js"
import * as Trace from "./Trace.js"
import type { ClientMessage } from "./TypedMessage.js"
import { vendorName } from "./Vendor.js"

/** Deepest nesting of JSON accepted (§5). */
const maxDepth = 64

const rejected = (_tag: Rejected["_tag"], message: string, envelope?: Record<string, unknown>): Rejected => ({
  _tag,
  message,
  id: repeatable(envelope?.["id"]),
  type: typeof envelope?.["type"] === "string" ? cut(envelope["type"], 64) : undefined,
  sessionId: repeatable(envelope?.["session_id"]),
  jobId: repeatable(envelope?.["job_id"]) ?? repeatable(jobIn(envelope?.["payload"]))
})

/** The job that the payload of a frame names, which may be anything. */
const jobIn = (payload: unknown): unknown =>
  typeof payload === "object" && payload !== null && "job_id" in payload ? payload.job_id : undefined

/** An id that an answer may repeat. */
const repeatable = (u: unknown): string | undefined => (isId(u) && isWellFormed(u) ? u : undefined)

const isId = (u: unknown): u is string => typeof u === "string" && u.length > 0 && u.length <= 256

/** Arrays and objects of one frame: far more than honest ones have, and what `JSON.parse` makes in some milliseconds. */
const maxContainers = 100_000

interface ScannedText {
  /** Why the text is not to be parsed. */
  readonly problem: string | undefined
  /** It may have a number that is too large for JavaScript, or half a surrogate pair: what was parsed is to be looked at. */
  readonly suspect: boolean
}

/** One pass over a frame, before `JSON.parse` sees it. */
const scan = (text: string): ScannedText => {
  let depth = 0
  let containers = 0
  let digits = 0
  let suspect = false
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === quote) {
      // To the end of the string.
      for (i++; i < text.length; i++) {
        const inside = text.charCodeAt(i)
        if (inside === quote) break
        if (inside === backslash) {
          i++
          if (text.charCodeAt(i) === letterU && (text.charCodeAt(i + 1) | 32) === letterD) suspect = true
        } else if (inside >= 0xd800 && inside <= 0xdfff) suspect = true
      }
      digits = 0
    } else if (c >= 48 && c <= 57) {
      // The largest number has 309 digits.
      if (++digits > 308) suspect = true
    } else {
      if (c === openBrace || c === openBracket) {
        if (++depth > maxDepth) return { problem: `JSON is nested deeper than ${maxDepth} levels`, suspect }
        if (++containers > maxContainers)
          return { problem: `JSON of more than ${maxContainers} arrays and objects`, suspect }
      } else if (c === openBrace + 2 || c === openBracket + 2) depth--
      // An exponent, not the end of `true`.
      else if ((c | 32) === letterE && (digits > 0 || text.charCodeAt(i - 1) === 46)) suspect = true
      digits = 0
    }
  }
  return { problem: undefined, suspect }
}

/**
 * The outermost members of an object that is not to be parsed, without what is within them: whom to answer. `undefined` when they
 * cannot be read.
 */
const outline = (text: string): Record<string, unknown> | undefined => {
  let kept = ""
  let depth = 0
  let from = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === quote) {
      for (i++; i < text.length && text.charCodeAt(i) !== quote; i++)
        if (text.charCodeAt(i) === backslash) i++
    } else if (c === openBrace || c === openBracket) {
      if (++depth === 2) kept += `${text.slice(from, i)}0`
    } else if ((c === openBrace + 2 || c === openBracket + 2) && --depth === 1) from = i + 1
  }
  try {
    const read: unknown = JSON.parse(kept + text.slice(from))
    return typeof read === "object" && read !== null ? (read as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

const quote = 34
const backslash = 92
const openBracket = 91
const openBrace = 123
const letterD = 100
const letterE = 101
const letterU = 117

const extensionsProblem = (extensions: unknown): string | undefined => {
  if (typeof extensions !== "object" || extensions === null || Array.isArray(extensions))
    return "extensions: expected an object"
  for (const [key, value] of Object.entries(extensions)) {
    if (key === "optional") {
      if (value !== null && typeof value !== "boolean") return "extensions.optional: expected a boolean"
    } else if (!vendorName.test(key)) return "extensions: keys are optional or x-vendor.<vendor>.<name>"
  }
  return undefined
}

const envelopeProblem = (e: Record<string, unknown>): string | undefined => {
  if (typeof e["arcp"] !== "string") return "arcp: expected a protocol version string"
  if (!isId(e["id"])) return "id: expected a string of 1 to 256 characters"
  if (typeof e["type"] !== "string" || e["type"].length === 0) return "type: expected a message type"
  if (e["session_id"] !== undefined && !isId(e["session_id"]))
    return "session_id: expected a non-empty string"
  if (e["job_id"] !== undefined && !isId(e["job_id"])) return "job_id: expected a non-empty string"
  if (e["extensions"] !== undefined) {
    const problem = extensionsProblem(e["extensions"])
    if (problem !== undefined) return problem
  }
  if (typeof e["payload"] !== "object" || e["payload"] === null || Array.isArray(e["payload"]))
    return "payload: expected an object"
  return undefined
}

/** Optional fields of an envelope. */
const optional = ["session_id", "job_id", "trace_id", "extensions"] as const

const payloads = new Map(
  Object.entries(clientMessages).map(([type, message]) => {
    const schema = message as Schema.Schema.AnyNoContext
    const decode = ParseResult.decodeUnknownEither(schema)
    const drop = dropping(schema.ast)
    const decodePayload = (payload: unknown) => {
      drop?.(payload)
      return decode(payload)
    }
    return [type, decodePayload] as const
  })
)

/** A frame from a client. */
export const decodeClient = (text: string): Either.Either<ClientMessage, Rejected> => {
  const scanned = scan(text)
  if (scanned.problem !== undefined) return Either.left(rejected("Malformed", scanned.problem, outline(text)))
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return Either.left(rejected("Malformed", "the frame is not valid JSON"))
  }
  if (typeof json !== "object" || json === null || Array.isArray(json))
    return Either.left(rejected("Malformed", "the frame is not a JSON object"))
  const e = json as Record<string, unknown>
  for (const name of optional) if (e[name] === null) delete e[name]
  const problem = envelopeProblem(e) ?? (scanned.suspect ? fault(e, "", true) : undefined)
  if (problem !== undefined) return Either.left(rejected("Malformed", problem, e))
  if (!isVersion(e["arcp"] as string))
    return Either.left(rejected("BadVersion", `arcp: this runtime speaks ${versions.join(", ")}`, e))
  const type = e["type"] as string
  const decode = payloads.get(type)
  if (decode === undefined) {
    const optional = (e["extensions"] as Record<string, unknown> | undefined)?.["optional"] === true
    return Either.left(
      optional && vendorName.test(type)
        ? rejected("Ignored", "optional extension", e)
        : rejected("UnknownType", "type: not a message that a client sends", e)
    )
  }
  let traceId: string | undefined
  if (e["trace_id"] !== undefined) {
    traceId = typeof e["trace_id"] === "string" ? Trace.parse(e["trace_id"]) : undefined
    if (traceId === undefined)
      return Either.left(
        rejected("Malformed", "trace_id: expected 32 lower-case hex digits or a traceparent", e)
      )
  }
  const extension = (e["extensions"] as Record<string, unknown> | undefined)?.[Trace.extension]
  const parent =
    extension === undefined && e["trace_id"] === traceId
      ? undefined
      : Trace.remoteSpan(e["trace_id"] as string | undefined, extension)
  const payload = decode(e["payload"])
  if (Either.isLeft(payload)) return Either.left(rejected("Malformed", describe(payload.left, "payload"), e))
  return Either.right({
    arcp: e["arcp"],
    id: e["id"],
    type,
    session_id: e["session_id"],
    job_id: e["job_id"],
    trace_id: traceId ?? parent?.traceId,
    // A client's means nothing.
    event_seq: undefined,
    extensions: e["extensions"],
    payload: payload.right,
    ...(parent === undefined ? {} : { parentSpan: parent.span })
  } as Envelope as ClientMessage)
}

export * from "./Envelope.js"
export { decodeRuntime } from "./RuntimeFrame.js"
