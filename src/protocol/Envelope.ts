/** The envelope around every payload (§5): reading it, and writing it by splicing. No schemas. */
import * as Either from "effect/Either"
import type { EventType } from "./Message.js"
import * as Trace from "./Trace.js"
import { vendorName } from "./Vendor.js"

/** Protocol versions we accept; a session answers with the one it was opened with. */
export const versions = ["1", "1.0", "1.1"] as const
export type Version = (typeof versions)[number]
export const isVersion = (version: string): version is Version =>
  (versions as ReadonlyArray<string>).includes(version)

/** Deepest nesting of JSON accepted (§5). */
export const maxDepth = 64

/** Every field of an envelope but its payload. */
export interface Envelope {
  readonly arcp: string
  readonly id: string
  readonly type: string
  readonly session_id?: string | undefined
  readonly job_id?: string | undefined
  readonly trace_id?: string | undefined
  readonly event_seq?: number | undefined
  readonly extensions?: Readonly<Record<string, unknown>> | undefined
}

/** Why a frame was not understood. */
export interface Rejected {
  /**
   * - `Malformed`: not JSON, not an envelope, or a payload that breaks its schema
   * - `BadVersion`: an `arcp` version we do not speak
   * - `UnknownType`: no such message in this direction
   * - `Ignored`: an optional extension message, to be dropped in silence
   */
  readonly _tag: "Malformed" | "BadVersion" | "UnknownType" | "Ignored"
  readonly message: string
  /** The frame's `id`, `type`, session and job where they could be read. */
  readonly id?: string | undefined
  readonly type?: string | undefined
  readonly sessionId?: string | undefined
  readonly jobId?: string | undefined
}

const rejected = (_tag: Rejected["_tag"], message: string, envelope?: Record<string, unknown>): Rejected => ({
  _tag,
  message,
  id: isId(envelope?.["id"]) ? envelope["id"] : undefined,
  type: typeof envelope?.["type"] === "string" ? envelope["type"].slice(0, 64) : undefined,
  sessionId: isId(envelope?.["session_id"]) ? envelope["session_id"] : undefined,
  jobId: isId(envelope?.["job_id"]) ? envelope["job_id"] : undefined
})

const isId = (u: unknown): u is string => typeof u === "string" && u.length > 0 && u.length <= 256

/** Is the text nested deeper than allowed? One pass, before `JSON.parse` sees it. */
const tooDeep = (text: string): boolean => {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (inString) {
      if (c === 92) i++
      else if (c === 34) inString = false
    } else if (c === 34) inString = true
    else if (c === 123 || c === 91) {
      if (++depth > maxDepth) return true
    } else if (c === 125 || c === 93) depth--
  }
  return false
}

const extensionsProblem = (extensions: unknown): string | undefined => {
  if (typeof extensions !== "object" || extensions === null || Array.isArray(extensions))
    return "extensions: expected an object"
  for (const [key, value] of Object.entries(extensions)) {
    if (key === "optional") {
      if (typeof value !== "boolean") return "extensions.optional: expected a boolean"
    } else if (!vendorName.test(key)) return "extensions: keys are optional or x-vendor.<vendor>.<name>"
  }
  return undefined
}

const isSeq = (u: unknown): boolean => typeof u === "number" && Number.isSafeInteger(u) && u >= 1

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

/**
 * Reads the frames that one side sends. `payloads` has, for each type, what decodes its payload or says in one
 * sentence, below `payload`, what is wrong with it.
 */
export const decoder =
  <M extends Envelope>(
    payloads: ReadonlyMap<string, (payload: unknown) => Either.Either<unknown, string>>,
    sender: "client" | "runtime"
  ) =>
  (text: string): Either.Either<M, Rejected> => {
    if (tooDeep(text))
      return Either.left(rejected("Malformed", `JSON is nested deeper than ${maxDepth} levels`))
    let json: unknown
    try {
      json = JSON.parse(text)
    } catch {
      return Either.left(rejected("Malformed", "the frame is not valid JSON"))
    }
    if (typeof json !== "object" || json === null || Array.isArray(json))
      return Either.left(rejected("Malformed", "the frame is not a JSON object"))
    const e = json as Record<string, unknown>
    const problem = envelopeProblem(e)
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
          : rejected("UnknownType", `type: not a message that a ${sender} sends`, e)
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
    // A client's `event_seq` means nothing; only a runtime's is looked at.
    if (sender === "runtime" && e["event_seq"] !== undefined && !isSeq(e["event_seq"]))
      return Either.left(rejected("Malformed", "event_seq: expected a positive integer", e))
    const payload = decode(e["payload"])
    if (Either.isLeft(payload)) return Either.left(rejected("Malformed", payload.left, e))
    return Either.right({
      arcp: e["arcp"],
      id: e["id"],
      type,
      session_id: e["session_id"],
      job_id: e["job_id"],
      trace_id: traceId,
      event_seq: sender === "runtime" ? e["event_seq"] : undefined,
      extensions: e["extensions"],
      payload: payload.right
    } as Envelope as M)
  }

/** A whole message as JSON text. */
export const encode = (
  message: Omit<Envelope, "arcp"> & { readonly arcp?: string; readonly payload: unknown }
): string =>
  JSON.stringify({
    arcp: message.arcp ?? "1.1",
    id: message.id,
    type: message.type,
    session_id: message.session_id,
    job_id: message.job_id,
    trace_id: message.trace_id,
    event_seq: message.event_seq,
    extensions: message.extensions,
    payload: message.payload
  })

/**
 * The frames of one job in one session: everything that does not change between two events is joined
 * once, and a frame is five string parts.
 */
export const eventFrames = (context: {
  readonly version: Version
  readonly sessionId: string
  readonly jobId: string
  readonly traceId: string
}): ((type: EventType, id: string, eventSeq: number, payload: string) => string) => {
  const head = `{"arcp":"${context.version}","id":"`
  const rest = `","session_id":${JSON.stringify(context.sessionId)},"job_id":${JSON.stringify(context.jobId)},"trace_id":"${context.traceId}","event_seq":`
  const event = `","type":"job.event${rest}`
  return (type, id, eventSeq, payload) =>
    `${head}${id}${type === "job.event" ? event : `","type":"${type}${rest}`}${eventSeq},"payload":${payload}}`
}
