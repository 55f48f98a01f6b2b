/** Trace ids: the W3C trace-id, 32 lower-case hex digits, not all zero (§11). */

const traceIdPattern = /^(?!0{32}$)[0-9a-f]{32}$/
const traceparentPattern = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/

/** The trace-id in a trace-id or a full `traceparent`; `undefined` when it is neither. */
export const parse = (text: string): string | undefined => {
  const id = traceparentPattern.exec(text)?.[1] ?? text
  return traceIdPattern.test(id) ? id : undefined
}

/** A fresh trace-id out of four random 32-bit integers. */
export const make = (random32: () => number): string => {
  let id = ""
  for (let i = 0; i < 4; i++) id += (random32() >>> 0).toString(16).padStart(8, "0")
  return /^0+$/.test(id) ? make(random32) : id
}
