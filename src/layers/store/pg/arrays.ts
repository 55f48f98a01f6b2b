/**
 * Columns of events as Postgres takes them with the least work on either side: as arrays in its binary format. A literal
 * (`literals.ts`) is put together, gone over for its length, and copied; there it is taken apart again. Here each text is
 * written once, where it goes.
 */

/** The types that Postgres has for the elements, and their sizes. */
const types = { bigint: 20, integer: 23, text: 25 }

const headerSize = 20

/** What is written to before it is known how long it gets. One array is written at a time. */
let scratch = Buffer.alloc(64 * 1024)

/** Has room for so much after what is written. */
const reserve = (at: number, size: number): void => {
  if (at + size <= scratch.length) return
  const larger = Buffer.alloc(Math.max(at + size, 2 * scratch.length))
  scratch.copy(larger, 0, 0, at)
  scratch = larger
}

const writeHeader = (type: keyof typeof types, count: number, hasNull: boolean): void => {
  scratch.writeInt32BE(count === 0 ? 0 : 1, 0)
  scratch.writeInt32BE(hasNull ? 1 : 0, 4)
  scratch.writeInt32BE(types[type], 8)
  scratch.writeInt32BE(count, 12)
  scratch.writeInt32BE(1, 16)
}

/** What was written, on its own: it is kept until the statement has been answered. */
const written = (count: number, end: number): Buffer =>
  Buffer.from(scratch.subarray(0, count === 0 ? 12 : end))

/** Returns integers as an array of `bigint`. */
export const bigintArray = (cells: ReadonlyArray<number>): Buffer => {
  reserve(0, headerSize + 12 * cells.length)
  writeHeader("bigint", cells.length, false)
  let at = headerSize
  for (const cell of cells) {
    scratch.writeInt32BE(8, at)
    scratch.writeInt32BE(Math.floor(cell / 2 ** 32), at + 4)
    scratch.writeInt32BE(cell | 0, at + 8)
    at += 12
  }
  return written(cells.length, at)
}

/** Returns integers as an array of `integer`. */
export const integerArray = (cells: ReadonlyArray<number>): Buffer => {
  reserve(0, headerSize + 8 * cells.length)
  writeHeader("integer", cells.length, false)
  let at = headerSize
  for (const cell of cells) {
    scratch.writeInt32BE(4, at)
    scratch.writeInt32BE(cell, at + 4)
    at += 8
  }
  return written(cells.length, at)
}

/** Returns texts as an array of `text`; what is said again after itself is copied. */
export const textArray = (cells: ReadonlyArray<string | null>): Buffer => {
  let at = headerSize
  let before: string | null | undefined
  let sizeBefore = 0
  let hasNull = false
  for (const cell of cells) {
    // A character takes three bytes at the most.
    reserve(at, 4 + 3 * (cell ?? "").length)
    if (cell === before) scratch.copyWithin(at, at - sizeBefore, at)
    else if (cell === null) {
      hasNull = true
      sizeBefore = 4
      scratch.writeInt32BE(-1, at)
    } else {
      const size = scratch.write(cell, at + 4)
      sizeBefore = 4 + size
      scratch.writeInt32BE(size, at)
    }
    before = cell
    at += sizeBefore
  }
  writeHeader("text", cells.length, hasNull)
  return written(cells.length, at)
}
