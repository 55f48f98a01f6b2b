/** A streamed result as it comes: checks its chunks for order and size (§8.4), and decodes them. */

import { ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Body } from "../../protocol/Event.js"
import type * as Message from "../../protocol/Message.js"
import { encoder } from "../../protocol/Utf8.js"
import type { ClientError } from "../../services/client/ArcpClient.js"
import { violation } from "./violation.js"

/** The body of a `result_chunk`. */
export type ChunkBody = Body<"result_chunk">

/** Gives room for so many bytes. */
export type Place = (bytes: number) => Uint8Array

const fromBase64 = (text: string, place: Place): Uint8Array | undefined => {
  try {
    const characters = atob(text)
    const bytes = place(characters.length)
    // Ten times as fast as `Uint8Array.from` with a function.
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i)
    return bytes
  } catch {
    return undefined
  }
}

const fromUtf8 = (text: string, place: Place): Uint8Array => {
  const encoded = encoder.encode(text)
  const bytes = place(encoded.length)
  bytes.set(encoded)
  return bytes
}

/** Takes the chunks of one result in order. */
export class Chunks {
  #resultId: string | undefined
  #next = 0
  #whole: boolean | undefined
  /** Bytes so far. */
  size = 0
  declare encoding: ChunkBody["encoding"] | undefined

  readonly #isRebased: () => unknown
  /** Where `isRebased`, the session that it began in was lost: chunks that are missing are not the runtime's mistake. */
  constructor(isRebased: () => unknown = () => false) {
    this.#isRebased = isRebased
  }
  #missing(): ClientError {
    const message = "chunks are missing"
    return this.#isRebased() ? new ResumeWindowExpired({ message }) : violation(message)
  }

  /** The bytes of the chunk that follows, in their `place`. */
  decode(chunk: ChunkBody, place: Place = (bytes) => new Uint8Array(bytes)): Uint8Array | ClientError {
    this.#resultId ??= chunk.result_id
    this.encoding ??= chunk.encoding
    if (
      this.#whole ||
      chunk.result_id !== this.#resultId ||
      chunk.encoding !== this.encoding ||
      chunk.chunk_seq !== this.#next
    )
      return this.#missing()
    this.#next++
    this.#whole = !chunk.more
    const bytes = chunk.encoding === "utf8" ? fromUtf8(chunk.data, place) : fromBase64(chunk.data, place)
    if (bytes === undefined) return violation("chunks are no base64")
    this.size += bytes.length
    return bytes
  }

  /** All chunks have come: returns in what they are not what the end says. */
  check(result: Message.JobResult): ClientError | undefined {
    if (!this.#whole || result.result_id !== this.#resultId) return this.#missing()
    return (result.result_size ?? this.size) === this.size
      ? undefined
      : violation(`chunks are ${this.size} bytes, not ${result.result_size}`)
  }
}

/** What a result that is not streamed would have been as bytes. */
export const inlineBytes = (result: unknown): Uint8Array =>
  encoder.encode(typeof result === "string" ? result : JSON.stringify(result ?? null))

/** Returns the bytes of all parts, `size` of them. */
export const concat = (parts: ReadonlyArray<Uint8Array>, size: number): Uint8Array => {
  const whole = new Uint8Array(size)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
