/** What both WebSocket dialers share: their options, and the rule that tokens do not travel readable. */

import type * as Duration from "effect/Duration"
import { isLoopback } from "../../protocol/Loopback.js"
import { TransportError } from "../../services/transport/Transport.js"

/** What both WebSocket dialers are told. */
export interface DialOptions {
  /** `ws://` or `wss://`, with the path. */
  readonly url: string
  /** Largest inbound frame, in bytes. Default: 16 MiB. */
  readonly maxFrameBytes?: number | undefined
  /** Time for connecting and the upgrade. Default: 10 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** Allow `ws://` to another machine: the token then travels readable. Default: false. */
  readonly allowInsecure?: boolean | undefined
}

/** The URL without what may be secret in it; for messages. */
export const label = (url: string): string => url.replace(/\/\/[^/@]*@/, "//").replace(/\?.*/, "")

/** What holds unless it is said otherwise: 16 MiB a frame, 10 seconds to connect. */
export const defaults = { maxFrameBytes: 16 * 1024 * 1024, connectTimeout: "10 seconds" } as const

/** Why this URL is not dialled, or `undefined`. */
export const refusal = ({ allowInsecure, url }: DialOptions): TransportError | undefined => {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || !/^wss?:$/.test(parsed.protocol))
    return new TransportError({
      message: `${label(url)} is no WebSocket URL: use ws:// or wss://`
    })
  if (parsed.protocol === "ws:" && !isLoopback(parsed.hostname) && allowInsecure !== true)
    return new TransportError({
      message: `refusing plaintext to ${parsed.hostname}: use wss://, or set allowInsecure`
    })
  return undefined
}
