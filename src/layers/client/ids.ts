/** Ids of what a client sends. They need not be in order, nor say when they were made, unlike a runtime's. */

/** Returns a W3C trace id: 32 lower-case hexadecimal digits. */
export const traceId = (): string =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")

/** Returns a message's id, which has the form of a ULID: 100 random bits, since a ULID's alphabet would be 100 bytes more in a browser. */
export const messageId = (): string => `0${traceId().slice(7).toUpperCase()}`
