/** Traces (§11): the W3C trace-id, 32 lower-case hex digits, not all zero, and the context that may ride beside it. */

/** Where a message carries its whole trace context: `{traceparent, tracestate?}`. */
export const extension = "x-vendor.opentelemetry.tracecontext"

/** The extension's value. */
export interface TraceContext {
  readonly traceparent: string
  readonly tracestate?: string | undefined
}

/** The span of another process under which something was asked for; its trace is that of the message. */
export interface RemoteSpan {
  /** 16 lower-case hex digits, not all zero. */
  readonly spanId: string
  readonly sampled: boolean
  /** The tracing systems' own words, passed on as they are. */
  readonly tracestate?: string | undefined
}

const traceIdPattern = /^(?!0{32}$)[0-9a-f]{32}$/
const traceparentPattern = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/
/** What version 00 defines of a `traceparent`, in this version and in those to come. */
const spanPattern = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/
/** The beginning of a `traceparent` whose ids are W3C's. */
const writtenPattern = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-/
/** Printable ASCII, as much as everybody has to pass on. */
const tracestatePattern = /^[ -~]{1,512}$/

/** The trace-id in a trace-id or a full `traceparent`; `undefined` when it is neither. */
export const parse = (text: string): string | undefined => {
  const id = traceparentPattern.exec(text)?.[1] ?? text
  return traceIdPattern.test(id) ? id : undefined
}

/** A fresh trace-id out of four random 32-bit integers. */
export const make = (random32: () => number): string => {
  let id = ""
  for (let i = 0; i < 4; i++) id += (random32() >>> 0).toString(16).padStart(8, "0")
  return /^0+$/.test(id) ? make(random32) : id
}

/** Writes a span as a `traceparent`; `undefined` when its ids are not W3C's. */
export const traceparent = (
  { spanId, traceId }: { readonly traceId: string; readonly spanId: string },
  sampled: boolean
): string | undefined => {
  const text = `00-${traceId}-${spanId}-0${+sampled}`
  return writtenPattern.test(text) ? text : undefined
}

/** A span and the trace that it is in. */
interface Traced {
  readonly traceId: string
  readonly span: RemoteSpan
}

/**
 * Reads the span that a `traceparent` names. As W3C says, one that breaks its form is as if it had not been there, and its
 * `tracestate` with it; so is a `tracestate` that breaks its own.
 */
const readSpan = (text: unknown, tracestate?: unknown): Traced | undefined => {
  if (typeof text !== "string") return undefined
  const [whole, traceId, spanId, flags] = spanPattern.exec(text) ?? []
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined
  if (text.startsWith("00") && text !== whole) return undefined
  const state = typeof tracestate === "string" && tracestatePattern.test(tracestate) ? { tracestate } : {}
  return { traceId, span: { spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1, ...state } }
}

/**
 * Reads the span under which a message was sent: of its extension, else of a `trace_id` that is a whole `traceparent`. A
 * context of another trace than `trace_id` says is not the message's.
 */
export const remoteSpan = (traceId: string | undefined, extension: unknown): Traced | undefined => {
  const { traceparent, tracestate } = (extension ?? {}) as { readonly [_ in keyof TraceContext]: unknown }
  const wanted = traceId === undefined ? undefined : parse(traceId)
  const found = [readSpan(traceparent, tracestate), readSpan(traceId)]
  return found.find((traced) => traced !== undefined && (wanted === undefined || traced.traceId === wanted))
}
