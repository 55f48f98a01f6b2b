/** What fits into one frame (§4 of the protocol page, "Frames have a bound in both directions"), and what is cut where not. */
import * as Either from "effect/Either"
import { type Envelope, encode } from "../../protocol/Codec.js"
import { envelopeBytes } from "../../protocol/Envelope.js"
import { type ErrorPayload, InternalError, toPayload } from "../../protocol/Errors.js"
import { json } from "../../protocol/EventText.js"
import { repaired } from "../../protocol/JsonText.js"
import { byteLength, exceeds } from "../../protocol/Utf8.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"

export { envelopeBytes }

/** Returns what the payload of one event may take, in bytes. */
export const maxEventBytes = ({ maxOutboundFrameBytes }: Pick<Options, "maxOutboundFrameBytes">): number =>
  maxOutboundFrameBytes - envelopeBytes

/** The members of an error's details that an answer is found by. */
const answering = ({ details }: ErrorPayload): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(details ?? {}).filter(
      ([name, value]) => (name === "request_id" || name === "job_id") && typeof value === "string"
    )
  )

/**
 * Cuts the details of an error so that its frame is not over `maxBytes`: the largest members go first. Without those that
 * the error came with when JSON cannot say them.
 */
export const bounded = <Payload extends ErrorPayload>(payload: Payload, maxBytes: number): Payload => {
  if (payload.details === undefined) return payload
  const said = json({ ...payload }, "")
  if (Either.isLeft(said)) return { ...payload, details: { ...answering(payload), omitted: said.left } }
  if (!exceeds(said.right, maxBytes - envelopeBytes)) return payload
  let left = maxBytes / 2
  const kept = Object.entries(payload.details)
    .map(([name, value]) => ({ name, value, size: byteLength(JSON.stringify({ [name]: value })) }))
    .sort((a, b) => a.size - b.size)
    .filter(({ size }) => {
      left -= size
      return left >= 0
    })
    .map(({ name, value }) => [name, value] as const)
  return { ...payload, details: { ...Object.fromEntries(kept), limit: "outbound_frame_bytes" } }
}

/** Tells whether a value is written as an error of the protocol is, with details. */
export const isErrorPayload = (u: unknown): u is ErrorPayload =>
  typeof u === "object" && u !== null && "code" in u && "message" in u && "retryable" in u && "details" in u

/** A message of the runtime, before it is written. */
export interface Message extends Envelope {
  readonly payload: unknown
}

const isError = (type: string, _payload: unknown): _payload is ErrorPayload =>
  type === "session.error" || type === "job.error"

const requestOf = (payload: unknown): Record<string, unknown> =>
  typeof payload === "object" && payload !== null && "request_id" in payload
    ? { request_id: payload.request_id }
    : {}

/** The answer that takes the place of one that is too large. */
const tooLarge = ({ payload, type, ...envelope }: Message): Message => ({
  ...envelope,
  type: "session.error",
  payload: {
    ...toPayload(
      new InternalError({
        message: `the answer, ${type}, is too large for one frame`,
        details: { limit: "outbound_frame_bytes" }
      }),
      {
        ...requestOf(payload),
        ...(envelope.job_id === undefined ? {} : { job_id: envelope.job_id })
      }
    )
  }
})

/**
 * Returns the frame of a message, which is well-formed Unicode. An error of more than `maxBytes` loses its largest details; in the place of another
 * message, which whoever makes it has not held to the bound, an error says so.
 */
export const frameOf = (message: Message, maxBytes: number): string => {
  const { payload, type } = message
  // What an identity, a policy or a hook has said may have half a surrogate pair, too.
  const text = repaired(
    encode(isError(type, payload) ? { ...message, payload: bounded(payload, maxBytes) } : message)
  )
  return exceeds(text, maxBytes) ? encode(tooLarge(message)) : text
}
