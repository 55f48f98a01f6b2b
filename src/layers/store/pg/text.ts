/** Text that Postgres cannot hold: it has no NUL. */

const unsafe = /[\u0000\u0001]/g
const written = /\u0001([\u0001\u0002])/g

/**
 * Returns a name as it is stored: NUL is written as two other characters, so that different names stay so, and keep their
 * order by bytes. JSON has none, and needs this not.
 */
export const toStored = (name: string): string =>
  name.replace(unsafe, (character) => (character === "\u0000" ? "\u0001\u0001" : "\u0001\u0002"))

/** Returns the name that was stored. */
export const fromStored = (stored: string): string =>
  stored.replace(written, (_, character) => (character === "\u0001" ? "\u0000" : "\u0001"))
