/** The marks of a job's log: where it is cut, and how many bytes lie between. */
import type { Mark } from "../../services/store/Store.js"

/** Events, and bytes, that end a mark. */
export const maxEvents = 1024
export const maxBytes = 256 * 1024

/** A stretch of a log. */
interface Stretch {
  readonly count: number
  readonly bytes: number
}

/** Returns whether the next event begins a new stretch. */
export const isFull = ({ bytes, count }: Stretch): boolean => count >= maxEvents || bytes >= maxBytes

/** Returns what the newest `retained` events of a stretch account for, in proportion. */
export const share = ({ bytes, count }: Stretch, retained: number): number =>
  retained >= count ? bytes : Math.ceil((bytes * retained) / count)

/** Joins marks that follow each other while they are small: a log of many short appends has many. */
export const joined = (stretches: Iterable<Stretch & { readonly seq: number }>): ReadonlyArray<Mark> => {
  const marks: Array<Mark> = []
  let count = 0
  for (const next of stretches) {
    const newest = marks[marks.length - 1]
    if (newest !== undefined && count + next.count <= maxEvents && newest.bytes + next.bytes <= maxBytes) {
      marks[marks.length - 1] = { seq: next.seq, bytes: newest.bytes + next.bytes }
      count += next.count
    } else {
      marks.push({ seq: next.seq, bytes: next.bytes })
      count = next.count
    }
  }
  return marks
}
