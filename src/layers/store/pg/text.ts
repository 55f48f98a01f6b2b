/** Names as Postgres can hold them: its text has no NUL, and its indexes nothing long. */
import { createHash } from "node:crypto"

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

/** Characters of a name that an index holds whatever they are: it takes 2 704 bytes. */
const longest = 500

/** Returns a name that others choose as it is stored to be looked up by: what is long as how it begins, and its digest. */
export const toKey = (name: string): string =>
  name.length <= longest
    ? toStored(name)
    : `${toStored(name.slice(0, 64))}\u0001\u0003${createHash("sha256").update(name).digest("hex")}`
