/** A streamed result put together from the data of its chunks (§8.4), for whoever takes it whole. */

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
