/** The envelope around every payload (§5), and how it is written: by splicing. */
import { written } from "./JsonText.js"
import type { EventType } from "./Message.js"

/** Protocol versions we accept; a session answers with the one it was opened with. */
export const versions = ["1", "1.0", "1.1"] as const
export type Version = (typeof versions)[number]
export const isVersion = (version: string): version is Version => versions.some((one) => one === version)

/** What an envelope takes of a frame beside its payload, in bytes. */
export const envelopeBytes = 4 * 1024

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

type Outbound = Omit<Envelope, "arcp"> & { readonly arcp?: string; readonly payload: unknown }

const whole = (message: Outbound) => ({ arcp: "1.1", ...message })

/** A whole message as JSON text. */
export const encode = (message: Outbound): string => JSON.stringify(whole(message))

/** The same of what an application gives, which may be no JSON: then it says so. */
export const encodeChecked = (message: Outbound, refused: (problem: string) => void) =>
  written(whole(message), refused)

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
