/** Asks other servers over HTTP, whatever these are: for so long, for so many bytes, and nowhere else than where they are. */

/** How much of an answer is taken. */
export interface Bounds {
  /** Milliseconds for all of it. */
  readonly timeout: number
  readonly maxBytes: number
}

/** Why it came to nothing, in the words of whatever is at the bottom of it. */
export const why = (cause: unknown, { timeout }: Pick<Bounds, "timeout">): string => {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  return inner instanceof Error
    ? inner.name === "TimeoutError"
      ? `no whole answer within ${timeout / 1000} s`
      : inner.message
    : String(inner)
}

/** Sends a request, and reads the answer to its end; rejects where that is a redirect, late or too long. */
export const fetched = async (url: URL | string, init: RequestInit, { maxBytes, timeout }: Bounds) => {
  const answer = await fetch(url, { ...init, redirect: "error", signal: AbortSignal.timeout(timeout) })
  const parts: Array<Uint8Array> = []
  let bytes = 0
  const body = answer.body?.getReader()
  for (let read = await body?.read(); read?.value !== undefined; read = await body?.read()) {
    bytes += read.value.length
    if (bytes > maxBytes) {
      await body?.cancel()
      throw new Error(`the answer has more than ${maxBytes} bytes`)
    }
    parts.push(read.value)
  }
  return { status: answer.status, text: Buffer.concat(parts).toString() }
}
