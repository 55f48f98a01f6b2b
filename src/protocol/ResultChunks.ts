/** A streamed result put together from the data of its chunks (§8.4), for whoever takes it whole. */
import { membersOf, readJson } from "./Json.js"
import { byteLength } from "./Utf8.js"

/** What the body of a chunk says. */
export interface ResultChunk {
  readonly result_id: string
  readonly chunk_seq: number
  readonly data: string
  readonly encoding: string
}

/** Returns the body of a chunk from its payload; nothing of a payload that has been damaged. */
export const readChunk = (payload: string): ResultChunk | undefined => {
  const { chunk_seq, data, encoding, result_id } = membersOf(membersOf(readJson(payload))["body"])
  return typeof result_id === "string" &&
    typeof chunk_seq === "number" &&
    typeof data === "string" &&
    typeof encoding === "string"
    ? { result_id, chunk_seq, data, encoding }
    : undefined
}

/** Returns how many bytes the data of a chunk decodes to. */
export const sizeOfChunk = ({ data, encoding }: Pick<ResultChunk, "data" | "encoding">): number =>
  encoding === "base64" ? (data.length / 4) * 3 - padding(data) : byteLength(data)

const padding = (data: string): number => (data.endsWith("==") ? 2 : data.endsWith("=") ? 1 : 0)

/** Returns the whole of a streamed result: of text chunks their text, of others `{encoding: "base64", data}`. */
export const joinChunks = (
  parts: ReadonlyArray<{ readonly data: string; readonly encoding: string }>
): unknown =>
  parts.every((part) => part.encoding === "utf8")
    ? parts.map((part) => part.data).join("")
    : { encoding: "base64", data: joinBase64(parts.map((part) => part.data)) }

const joinBase64 = (parts: ReadonlyArray<string>): string => {
  // Only the last piece may be padded; anything else is decoded and encoded again.
  if (parts.slice(0, -1).every((part) => part.length % 4 === 0 && !part.endsWith("="))) return parts.join("")
  return btoa(parts.map((part) => atob(part)).join(""))
}
