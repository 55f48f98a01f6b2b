/**
 * Listing jobs by a filter that few of them may match: in steps over a bounded number of jobs, with a turn of the event
 * loop after each, so that others are served however many there are.
 */
import * as Effect from "effect/Effect"
import type { JobFilter, StoreError } from "../../services/store/Store.js"

/** A place in the order of listings. */
export interface ListingPlace {
  readonly createdAt: number
  readonly jobId: string
}

/** What one step found, and where the next goes on; without a place the listing is at its end. */
export interface ListingStep<A> {
  readonly found: ReadonlyArray<A>
  readonly next: ListingPlace | undefined
}

/** Jobs that one step looks at. */
export const stepSize = 512

const isAfter = (a: ListingPlace, b: ListingPlace): boolean =>
  a.createdAt > b.createdAt || (a.createdAt === b.createdAt && a.jobId > b.jobId)

const start = (filter: JobFilter): ListingPlace => {
  const { after, createdAfter } = filter
  // No job id comes after this one.
  const bound = createdAfter === undefined ? undefined : { createdAt: createdAfter, jobId: "\u{10ffff}" }
  if (after === undefined) return bound ?? { createdAt: Number.MIN_SAFE_INTEGER, jobId: "" }
  return bound !== undefined && bound.createdAt >= after.createdAt ? bound : after
}

/** Lists jobs step by step, with a pause after each step, until `limit` are found. */
export const list = <A>(
  filter: JobFilter,
  step: (after: ListingPlace) => Effect.Effect<ListingStep<A>, StoreError>,
  pause: Effect.Effect<void>
): Effect.Effect<ReadonlyArray<A>, StoreError> =>
  Effect.gen(function* () {
    const all: Array<A> = []
    let place: ListingPlace | undefined = start(filter)
    while (place !== undefined && all.length < filter.limit) {
      const { found, next }: ListingStep<A> = yield* step(place)
      for (const item of found) if (all.length < filter.limit) all.push(item)
      if (next !== undefined && !isAfter(next, place))
        throw new Error(`a listing goes on at ${next.jobId}, where it has been, and would be read for ever`)
      place = next
      if (place !== undefined && all.length < filter.limit) yield* pause
    }
    return all
  })
