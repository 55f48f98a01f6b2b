/** Where the bars of a timeline are: no more of them than can be seen, however many there were. */
import { outcomeAt } from "./at.js"
import type { Span } from "./JobModel.js"

/** A bar, in thousandths of the width: one span, or several that could not be told apart. */
export interface Bar {
  readonly left: number
  right: number
  readonly span: Span
  /** Spans that it stands for. */
  spans: number
  outcome: Span["outcome"]
}

/** Rows of a lane; spans beyond share the last one. */
const maxRows = 6
/** Thousandths below which a bar, or the room between two, cannot be seen. */
const least = 2

const worse: ReadonlyArray<Span["outcome"]> = ["ended", "open", "failed", "denied"]
const worst = (a: Span["outcome"], b: Span["outcome"]) => (worse.indexOf(a) < worse.indexOf(b) ? b : a)

/** Returns the rows of bars of one lane, as it was after `upTo` events; an open span goes on until `now`. */
export const rowsOf = (
  spans: ReadonlyArray<Span>,
  [from, to]: readonly [from: number, to: number],
  upTo: number,
  now: number
): ReadonlyArray<ReadonlyArray<Bar>> => {
  const rows: Array<Array<Bar>> = []
  const place = (time: number) => Math.min(1000, Math.max(0, ((time - from) / (to - from)) * 1000))
  for (const span of spans) {
    const outcome = outcomeAt(span, upTo)
    // They are in the order in which they began.
    if (outcome === undefined || span.startedAt > to) break
    if ((outcome === "open" ? now : (span.endedAt ?? now)) < from) continue
    const left = Math.min(1_000 - least, place(span.startedAt))
    const right = Math.max(left + least, place(outcome === "open" ? now : (span.endedAt ?? now)))
    const narrow = right - left <= least
    const row =
      rows.find((bars) => {
        const last = bars.at(-1)
        return last === undefined || left >= last.right || (narrow && last.right - left < least * 2)
      }) ?? (rows.length < maxRows ? rows[rows.push([]) - 1] : rows.at(-1))
    const last = row?.at(-1)
    if (last !== undefined && left < last.right + least && (narrow || left < last.right)) {
      last.right = Math.max(last.right, right)
      last.spans++
      last.outcome = worst(last.outcome, outcome)
    } else row?.push({ left, right, span, spans: 1, outcome })
  }
  return rows
}

/** Points of a curve, as few as can be told apart. */
export const thinned = <P extends { readonly at: number }>(
  points: ReadonlyArray<P>,
  most: number
): ReadonlyArray<P> => {
  if (points.length <= most) return points
  const thin: Array<P> = []
  for (let i = 0; i < most; i++) {
    const point = points[Math.floor((i * (points.length - 1)) / (most - 1))]
    if (point !== undefined) thin.push(point)
  }
  return thin
}
