/**
 * WebSocket text frames as a server sends them (RFC 6455 §5.2: unmasked, unfragmented), many in one buffer.
 * `ws` makes two writes and several objects per frame; for thousands of small frames a second that is most of
 * the cost of sending.
 */

const headerLength = (bytes: number): number => (bytes < 126 ? 2 : bytes < 65_536 ? 4 : 10)

/** Returns texts as the bytes of unmasked WebSocket text frames. */
export const encodeTextFrames = (texts: ReadonlyArray<string>): Buffer => {
  const lengths: Array<number> = []
  let total = 0
  for (const text of texts) {
    const bytes = Buffer.byteLength(text)
    lengths.push(bytes)
    total += headerLength(bytes) + bytes
  }
  const buffer = Buffer.allocUnsafe(total)
  let at = 0
  let next = 0
  for (const text of texts) {
    const bytes = lengths[next++] ?? 0
    buffer[at++] = 0x81
    if (bytes < 126) buffer[at++] = bytes
    else if (bytes < 65_536) {
      buffer[at++] = 126
      buffer[at++] = bytes >> 8
      buffer[at++] = bytes & 0xff
    } else {
      buffer[at++] = 127
      buffer.writeUInt32BE(0, at)
      buffer.writeUInt32BE(bytes, at + 4)
      at += 8
    }
    at += buffer.write(text, at, bytes, bytes === text.length ? "latin1" : "utf8")
  }
  return buffer
}
