/** Headers that may be there once. */
import type { IncomingMessage } from "node:http"

/** Of two of these the first would count here, and to a proxy perhaps the other (RFC 9112, 3.2; RFC 9110, 5.3). */
const single: ReadonlySet<string> = new Set([
  "host",
  "origin",
  "authorization",
  "content-type",
  "idempotency-key",
  "last-event-id",
  "range",
  "if-range"
])

/** Returns the name of a header that is there more than once, and may not; `undefined` when there is none. */
export const repeatedHeader = ({ rawHeaders }: IncomingMessage): string | undefined => {
  const seen = new Set<string>()
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]?.toLowerCase() ?? ""
    if (!single.has(name)) continue
    if (seen.has(name)) return name
    seen.add(name)
  }
  return undefined
}

/** What is said of such a request. */
export const repeatedMessage = (name: string): string => `${name}: this header is there more than once`
