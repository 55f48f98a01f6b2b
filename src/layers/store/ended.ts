/**
 * Finding ended jobs that nobody needs. Jobs that are needed stay where they are in the order of ends, so a search that
 * began at its start each time would look at the same ones again and again: it goes on where the one before stopped,
 * round and round, and looks at a bounded number of jobs.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../services/store/Store.js"

/** A place in the order of ends. */
export interface EndPlace {
  readonly endedAt: number
  readonly key: number
}

/** A job, or refused submit, that has ended. */
export interface Ended extends EndPlace {
  readonly id: string
}

/** What a search for ended jobs reads. */
export interface EndedJobsSource {
  /** Jobs that ended after a place and before a time, oldest end first. */
  readonly ended: (
    principal: string | undefined,
    after: EndPlace,
    endedBefore: number,
    limit: number
  ) => Effect.Effect<ReadonlyArray<Ended>, StoreError>
  /** Returns those of these jobs that a stored session needs something of. */
  readonly neededOf: (jobIds: ReadonlyArray<string>) => Effect.Effect<ReadonlySet<string>, StoreError>
  /** Waits between two steps. */
  readonly pause: Effect.Effect<void>
}

/** Jobs that are looked at in one step, and in one search at the most. */
const stepSize = 64
const maxLooked = 1024
/** Principals of which the place is remembered. */
const maxPlaces = 10_000

/** The place before every job. */
export const firstPlace: EndPlace = { endedAt: Number.MIN_SAFE_INTEGER, key: 0 }
const isAfter = (a: EndPlace, b: EndPlace): boolean =>
  a.endedAt > b.endedAt || (a.endedAt === b.endedAt && a.key > b.key)

/** Ended jobs that are read at once when all are wanted. */
const pageSize = 512

/** Returns all that has ended of a principal, oldest end first, at most `limit`; a page at a time, and others go on in between. */
export const allEnded = (
  { ended, pause }: Omit<EndedJobsSource, "neededOf">,
  principal: string,
  limit: number
) =>
  Effect.gen(function* () {
    const found: Array<string> = []
    for (let place = firstPlace; ; ) {
      const most = Math.min(pageSize, limit - found.length)
      const page = yield* ended(principal, place, Number.MAX_SAFE_INTEGER, most)
      for (const { id } of page) found.push(id)
      const last = page.at(-1)
      if (last === undefined || page.length < most || found.length >= limit) return found
      if (!isAfter(last, place))
        throw new Error(`a page of ended jobs goes on at ${last.id}, where it has been`)
      place = last
      yield* pause
    }
  })

/** Returns what searches one store: one round over all jobs, and one over those of each principal. */
export const makeSearch = (source: EndedJobsSource) => {
  const places = new Map<string | undefined, EndPlace>()

  /** Keeps the place for the next search; the start needs none. */
  const remember = (principal: string | undefined, place: EndPlace): void => {
    places.delete(principal)
    if (place === firstPlace) return
    if (places.size >= maxPlaces) places.clear()
    places.set(principal, place)
  }

  return (principal: string | undefined, endedBefore: number, limit: number) =>
    Effect.gen(function* () {
      const from = places.get(principal) ?? firstPlace
      const found: Array<Ended> = []
      let place = from
      let wrapped = from === firstPlace
      for (let looked = 0; looked < maxLooked && found.length < limit; ) {
        const step = yield* source.ended(
          principal,
          place,
          endedBefore,
          Math.min(stepSize, maxLooked - looked)
        )
        const jobs = wrapped && from !== firstPlace ? step.filter((job) => !isAfter(job, from)) : step
        const needed = yield* source.neededOf(jobs.map((job) => job.id))
        let taken = 0
        for (const job of jobs) {
          if (found.length >= limit) break
          taken++
          place = job
          if (!needed.has(job.id)) found.push(job)
        }
        looked += step.length
        if (taken < jobs.length) break
        if (jobs.length < stepSize) {
          place = firstPlace
          if (wrapped) break
          wrapped = true
        } else yield* source.pause
      }
      remember(principal, place)
      return found.sort((a, b) => (isAfter(a, b) ? 1 : -1)).map((job) => job.id)
    })
}
