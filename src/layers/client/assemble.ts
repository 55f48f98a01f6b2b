/** Puts a streamed result together, and checks that it is what the runtime says it is (§8.4). */
import * as Either from "effect/Either"
import * as Encoding from "effect/Encoding"
import * as Exit from "effect/Exit"
import type { Body } from "../../protocol/Event.js"
import type * as Message from "../../protocol/Message.js"
import { ProtocolViolation } from "../../services/ArcpClient.js"

export type ResultChunk = Body<"result_chunk">

const violation = (message: string) => Exit.fail(new ProtocolViolation({ message }))
const utf8 = new TextEncoder()

/** The result with its value inline: text of `utf8` chunks, bytes of `base64` ones. */
export const assemble = (
  result: Message.JobResult,
  all: ReadonlyArray<ResultChunk>
): Exit.Exit<Message.JobResult, ProtocolViolation> => {
  if (result.result_id === undefined) return Exit.succeed(result)
  const chunks = all.filter((chunk) => chunk.result_id === result.result_id)
  const encoding = chunks[0]?.encoding
  const inOrder = chunks.every(
    (chunk, i) => chunk.chunk_seq === i && chunk.encoding === encoding && chunk.more === i < chunks.length - 1
  )
  if (!inOrder || encoding === undefined) return violation("chunks of the result are missing or out of order")
  const parts: Array<Uint8Array> = []
  let size = 0
  for (const { data } of chunks) {
    const part = encoding === "utf8" ? Either.right(utf8.encode(data)) : Encoding.decodeBase64(data)
    if (Either.isLeft(part)) return violation("a chunk of the result is not base64")
    parts.push(part.right)
    size += part.right.length
  }
  if (result.result_size !== undefined && size !== result.result_size)
    return violation(`the result has ${size} bytes, not ${result.result_size}`)
  return Exit.succeed({
    ...result,
    result: encoding === "utf8" ? chunks.map((chunk) => chunk.data).join("") : concat(parts, size)
  })
}

const concat = (parts: ReadonlyArray<Uint8Array>, size: number): Uint8Array => {
  const whole = new Uint8Array(size)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
