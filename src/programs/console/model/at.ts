/** The state of a job when a number of its events had come. */
import type { JobModel, Money, Point, Question, Span } from "./JobModel.js"

/** Returns how many of the points are among the first `upTo` events. */
const before = (points: ReadonlyArray<{ readonly index: number }>, upTo: number): number => {
  let low = 0
  let high = points.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((points[middle]?.index ?? 0) < upTo) low = middle + 1
    else high = middle
  }
  return low
}

/** Returns the newest of the points among the first `upTo` events. */
export const latest = <A>(points: ReadonlyArray<Point<A>>, upTo: number): Point<A> | undefined =>
  points[before(points, upTo) - 1]

/** Returns the points among the first `upTo` events. */
export const until = <P extends { readonly index: number }>(
  points: ReadonlyArray<P>,
  upTo: number
): ReadonlyArray<P> => points.slice(0, before(points, upTo))

/** Returns the newest amount of each currency. */
export const remaining = (model: JobModel, upTo: number): ReadonlyMap<string, number> => {
  const amounts = new Map<string, number>()
  for (const { value } of until(model.remaining, upTo)) amounts.set(value.currency, value.amount)
  return amounts
}

/** Returns what was spent, by currency. */
export const spent = (model: JobModel, upTo: number): ReadonlyMap<string, number> =>
  sum(until(model.spent, upTo))

const sum = (points: ReadonlyArray<Point<Money>>): ReadonlyMap<string, number> => {
  const amounts = new Map<string, number>()
  for (const { value } of points)
    amounts.set(value.currency, (amounts.get(value.currency) ?? 0) + value.amount)
  return amounts
}

/** Tells how a span looked then; `undefined` when it had not begun. */
export const outcomeAt = (span: Span, upTo: number): Span["outcome"] | undefined =>
  span.from >= upTo ? undefined : span.to === undefined || span.to >= upTo ? "open" : span.outcome

/** Returns what was going on. */
export const running = (model: JobModel, upTo: number, most: number): ReadonlyArray<Span> => {
  // What goes on now is known; what went on then has to be looked for.
  const spans: Iterable<Span> = upTo >= model.events.length ? model.open.values() : model.spans
  const found: Array<Span> = []
  for (const span of spans) {
    if (outcomeAt(span, upTo) === "open") found.push(span)
    if (found.length >= most) break
  }
  return found
}

/** Returns the questions that waited for an answer. */
export const waiting = (model: JobModel, upTo: number): ReadonlyArray<Question> =>
  model.questions.filter(({ from, to }) => from < upTo && (to === undefined || to >= upTo))

/** Returns the times between which everything was: to the end of the job, which comes after its last event. */
export const extent = ({ endedAt, times }: JobModel): readonly [from: number, to: number] => {
  const from = times[0] ?? endedAt ?? 0
  return [from, Math.max(from + 1, times.at(-1) ?? from, endedAt ?? from)]
}

/** Returns how many milliseconds a job has taken from its beginning on; `undefined` as long as its events do not say. */
export const tookOf = (model: JobModel, began: number): number | undefined => {
  const to = model.endedAt ?? model.times.at(-1)
  return to === undefined || to < began ? undefined : to - began
}
