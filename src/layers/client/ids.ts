/** Ids of what a client sends. They need not be in order, unlike a runtime's, so they are made in fewer bytes. */
import { base32 } from "../../protocol/Ids.js"

const randomBytes = (): ReadonlyArray<number> => [...crypto.getRandomValues(new Uint8Array(16))]

/** Returns a ULID of that time, in epoch milliseconds. */
export const ulid = (now: number): string =>
  base32(now, 10) +
  randomBytes()
    .map((byte) => base32(byte, 1))
    .join("")

/** Returns a W3C trace id: 32 lower-case hexadecimal digits. */
export const traceId = (): string =>
  randomBytes()
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("")
