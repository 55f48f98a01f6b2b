/** A streamed result as it comes: checks its chunks for order and size (§8.4), and decodes them. */
import * as Exit from "effect/Exit"
import type { Body } from "../../protocol/Event.js"
import type * as Message from "../../protocol/Message.js"
import { ProtocolViolation } from "../../services/client/ArcpClient.js"
import { encoder } from "../transport/Inbox.js"

/** The body of a `result_chunk`. */
export type ChunkBody = Body<"result_chunk">

const violation = (message: string) => Exit.fail(new ProtocolViolation({ message }))
const incomplete = () => violation("chunks are out of order")

const fromBase64 = (text: string): Uint8Array | undefined => {
  try {
    const characters = atob(text)
    const bytes = new Uint8Array(characters.length)
    // Ten times as fast as `Uint8Array.from` with a function.
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i)
    return bytes
  } catch {
    return undefined
  }
}

/** Takes the chunks of one result in order. */
export class Chunks {
  #resultId: string | undefined
  #next = 0
  #whole = false
  #size = 0
  declare encoding: ChunkBody["encoding"] | undefined

  /** The bytes of the chunk that follows. */
  decode(chunk: ChunkBody): Exit.Exit<Uint8Array, ProtocolViolation> {
    this.#resultId ??= chunk.result_id
    this.encoding ??= chunk.encoding
    if (
      this.#whole ||
      chunk.result_id !== this.#resultId ||
      chunk.encoding !== this.encoding ||
      chunk.chunk_seq !== this.#next
    )
      return incomplete()
    this.#next++
    this.#whole = !chunk.more
    const bytes = chunk.encoding === "utf8" ? encoder.encode(chunk.data) : fromBase64(chunk.data)
    if (bytes === undefined) return violation("a chunk is not base64")
    this.#size += bytes.length
    return Exit.succeed(bytes)
  }

  /** All chunks have come: are they what the end says? */
  check(result: Message.JobResult): Exit.Exit<void, ProtocolViolation> {
    if (!this.#whole || result.result_id !== this.#resultId) return incomplete()
    if (result.result_size !== undefined && result.result_size !== this.#size)
      return violation(`the result has ${this.#size} bytes, not ${result.result_size}`)
    return Exit.void
  }
}

/** What a result that is not streamed would have been as bytes. */
export const inlineBytes = (result: unknown): Uint8Array =>
  encoder.encode(typeof result === "string" ? result : JSON.stringify(result ?? null))

/** Returns the bytes of all parts. */
export const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
