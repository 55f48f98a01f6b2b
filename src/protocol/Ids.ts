/**
 * Identifiers (§5): ULIDs with a type prefix, and the derived `id` of event messages.
 * Pure: time and randomness are arguments.
 */

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

export type IdPrefix = "sess" | "job" | "del" | "cred" | "inp" | "wish"

/** What an outbound id looks like: a ULID, optionally prefixed. */
export const idPattern = /^([a-z]+_)?[0-9A-HJKMNP-TV-Z]{26}$/

/** `n` as `length` Crockford base-32 characters, most significant first. */
export const base32 = (n: number, length: number): string => {
  let out = ""
  for (let i = 0; i < length; i++) {
    out = alphabet.charAt(n % 32) + out
    n = Math.floor(n / 32)
  }
  return out
}

/** A source of monotonic ULIDs: within one millisecond the random part counts up. */
export const ulidFactory = (now: () => number, random32: () => number): (() => string) => {
  let lastTime = -1
  /** The time and the upper half of the random bits, which rarely change between two ids. */
  let head = ""
  // The 80 random bits as two halves of 40, so that each stays an exact integer.
  let high = 0
  let low = 0
  const random40 = () => random32() * 256 + (random32() & 255)
  return () => {
    const time = now()
    if (time > lastTime) {
      lastTime = time
      high = random40()
      low = random40()
      head = base32(time, 10) + base32(high, 8)
    } else {
      low = low + 1
      if (low >= 2 ** 40) {
        low = 0
        high = (high + 1) % 2 ** 40
        head = base32(lastTime, 10) + base32(high, 8)
      }
    }
    return head + base32(low, 8)
  }
}

// The mark keeps it out of a browser's bundle, which has no use for it.
const segments = /* @__PURE__ */ Array.from({ length: 1024 }, (_, i) => base32(i, 2))

/**
 * The `id` of the message that carries `event_seq` n of a session: a function of the two and
 * nothing else, so every replay repeats it and nothing has to be stored. Time and the first
 * 40 random bits come from the session id, the rest is the number.
 */
export const eventIds = (sessionId: string): ((eventSeq: number) => string) => {
  const ulid = sessionId.slice(sessionId.indexOf("_") + 1)
  const base = ulid.slice(0, 10) + base32(hash40(ulid), 8)
  let block = -1
  let head = ""
  return (eventSeq) => {
    const b = Math.floor(eventSeq / 1024)
    if (b !== block) {
      block = b
      head = base + base32(b, 6)
    }
    return head + segments[eventSeq % 1024]
  }
}

/** FNV-1a over two lanes, 40 bits. Spreads ids that differ in their last character only. */
const hash40 = (text: string): number => {
  let a = 0x811c9dc5
  let b = 0x01000193
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    a = Math.imul(a ^ c, 0x01000193)
    b = Math.imul(b ^ c, 0x85ebca6b)
  }
  return (a >>> 0) * 256 + (b >>> 24)
}
