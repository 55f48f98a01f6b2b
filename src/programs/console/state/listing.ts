/** Keeps a table of jobs as the list is at the runtime, by asking for what may have changed. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { jobStatuses } from "../../../protocol/JobStatus.js"
import type { ArcpClientService, ClientError } from "../../../services/client/ArcpClient.js"
import { type Entry, isOver, type JobTable } from "../model/JobTable.js"

/** What is kept, and who hears of it. */
export interface Listing {
  readonly list: ArcpClientService["list"]
  readonly table: JobTable
  /** Waits until somebody wants it to be looked at once. */
  readonly asked: Effect.Effect<void>
  /** Whether nobody sees it. */
  readonly isHidden: () => boolean
  /** Hears that the table has changed, that what there was has all been read, and that a look has come to its end. */
  readonly onChange: () => void
  readonly onRead: () => void
  readonly onLook: () => void
}

const iso = (ms: number) => new Date(ms).toISOString()

/**
 * Milliseconds of the stretch of time that is read first; each one before it is longer by this factor, up to the longest. A listing
 * has the oldest first, and there may be many.
 */
const recent = 15 * 60_000
const factor = 4
const longestStretch = 60 * 86_400_000

/** Milliseconds by which a job may be seen later than one that was submitted after it: nodes and their clocks differ. */
const overlap = 5_000

/** Jobs that one question is about, and milliseconds between the first and the last of them, since it brings all that are between. */
const atOnce = 50
const apart = 10_000

/** Jobs that have ended of which it is asked at once whether they are still there, and milliseconds between two questions. */
const verifiedAtOnce = 500
const verifiedEvery = 10_000

/** Milliseconds after which it is looked again however long a look takes: on a busy machine one may take many seconds. */
const longest = 10_000

/** Takes all of a listing; returns when the newest of it was submitted. */
const takeAll = (
  { onChange, table }: Asking,
  entries: Stream.Stream<Entry, ClientError>
): Effect.Effect<number | undefined, ClientError> =>
  Effect.suspend(() => {
    let newest: string | undefined
    return Effect.map(
      Stream.runForEach(entries, (entry) =>
        Effect.sync(() => {
          if (newest === undefined || entry.created_at > newest) newest = entry.created_at
          if (table.take([entry])) onChange()
        })
      ),
      () => (newest === undefined ? undefined : Date.parse(newest))
    )
  })

/** What is asked again whether jobs are there, and who hears of it. */
type Asking = Pick<Listing, "list" | "table" | "onChange">

/** Asks for the jobs that were submitted around then; one that is not there any more is forgotten. */
const again = (listing: Asking, gone: ReadonlyArray<Entry>, after: number, before: number | undefined) =>
  Effect.gen(function* () {
    const { list, onChange, table } = listing
    const found = new Set<string>()
    const stretch = list({
      created_after: iso(after),
      ...(before === undefined ? {} : { created_before: iso(before) })
    })
    yield* takeAll(
      listing,
      Stream.tap(stretch, ({ job_id }) => Effect.sync(() => found.add(job_id)))
    )
    const forgotten = gone.filter(({ job_id }) => !found.has(job_id))
    for (const { job_id } of forgotten) table.drop(job_id)
    if (forgotten.length > 0) onChange()
  })

/** Asks whether a job is still there. */
export const verifyOne = (listing: Asking, entry: Entry): Effect.Effect<void, ClientError> => {
  const at = Date.parse(entry.created_at)
  return again(listing, [entry], at - 1, at + 1)
}

/** Asks what has become of jobs that do not run any more. */
const settle = (listing: Listing, gone: ReadonlyArray<Entry>) =>
  Effect.gen(function* () {
    const times = new Map(gone.map((entry) => [entry, Date.parse(entry.created_at)]))
    const timeOf = (entry: Entry | undefined) => times.get(entry as Entry) ?? Number.POSITIVE_INFINITY
    const sorted = [...gone].sort((a, b) => timeOf(a) - timeOf(b))
    for (let from = 0, to = 0; from < sorted.length; from = to) {
      const first = timeOf(sorted[from])
      while (to - from < atOnce && timeOf(sorted[to]) - first <= apart) to++
      yield* again(listing, sorted.slice(from, to), first - 1, timeOf(sorted[to - 1]) + 1)
    }
  })

/** Looks once: for what runs, what has come `after` that, and what has become of what ran. Returns when the newest has come. */
const look = (listing: Listing, after: number) =>
  Effect.gen(function* () {
    const { list, table } = listing
    const before = table.active()
    const still = new Set<string>()
    yield* takeAll(
      listing,
      Stream.tap(list({ status: ["pending", "running"] }), ({ job_id }) =>
        Effect.sync(() => still.add(job_id))
      )
    )
    const newest = yield* takeAll(listing, list({ created_after: iso(after) }))
    const gone = before.filter(({ job_id }) => {
      const entry = table.get(job_id)
      return entry !== undefined && !still.has(job_id) && !isOver(entry.status)
    })
    yield* settle(listing, gone)
    return newest
  })

/** Reads what was submitted before `edge`, the newest first, as far as there is room; returns when the newest of it was. */
const older = (listing: Listing, now: number, edge: number) =>
  Effect.gen(function* () {
    const { list, table } = listing
    let newest: number | undefined
    let before = edge
    for (let back = recent * factor; ; back *= factor) {
      const stretch = { created_before: iso(before + 1) }
      if (table.isFull) {
        const more = yield* Stream.runCollect(list(stretch, { limit: 1 }))
        if (more.length > 0) table.cutAt(iso(before))
        break
      }
      const after = back > longestStretch ? undefined : now - back
      const found = yield* takeAll(
        listing,
        list(after === undefined ? stretch : { ...stretch, created_after: iso(after) })
      )
      newest ??= found
      if (after === undefined) break
      before = after
    }
    return newest
  })

/** Looks whether there still is what the table leaves out. */
const verifyCuts = ({ list, onChange, table }: Listing) =>
  Effect.gen(function* () {
    for (const cut of table.cuts) {
      const [which, { created_at }] = cut
      const left = list(
        {
          status: jobStatuses.filter((status) => isOver(status) === (which === "ended")),
          created_before: iso(Date.parse(created_at) + 1)
        },
        { limit: 1 }
      )
      if ((yield* Stream.runCollect(left)).length > 0) continue
      table.uncut(cut)
      onChange()
    }
  })

/** Asks again and again, of some at a time, whether jobs that have ended are still there: of their deletion nobody tells. */
const verify = (listing: Listing) =>
  Effect.gen(function* () {
    let before: string | undefined
    for (;;) {
      yield* Effect.sleep(verifiedEvery)
      if (listing.isHidden()) continue
      yield* verifyCuts(listing)
      const some = listing.table.ended(before, verifiedAtOnce)
      const from = some.at(-1)?.created_at
      if (from !== undefined)
        yield* again(
          listing,
          some,
          Date.parse(from) - 1,
          before === undefined ? undefined : Date.parse(before)
        )
      before = from
    }
  })

/**
 * Milliseconds between two looks: soon while something runs and somebody looks, and no more than a tenth of the time, as far as that
 * is not for too long.
 */
const pause = ({ isHidden, table }: Listing, took: number) =>
  Math.max(isHidden() ? longest : table.active().length > 0 ? 1_000 : 2_500, Math.min(longest, took * 10))

/** Reads what there is, what is older while it is looked for what is new already; and then goes on to look. */
export const keep = (listing: Listing): Effect.Effect<never, ClientError> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const edge = now - recent
    // Everything that was submitted after it is known, but for what is seen late.
    let after = edge
    const newest = yield* takeAll(listing, listing.list({ created_after: iso(edge) }))
    if (newest !== undefined) after = newest - overlap
    const reading = Effect.gen(function* () {
      const found = yield* older(listing, now, edge)
      // By the runtime's clock, where this one is ahead of it.
      if (after === edge) after = found === undefined ? 0 : found - overlap
      listing.onRead()
      return yield* verify(listing)
    })
    const looking = Effect.gen(function* () {
      for (;;) {
        const [took, newest] = yield* Effect.timed(look(listing, after))
        if (newest !== undefined) after = Math.max(after, newest - overlap)
        listing.onLook()
        yield* Effect.race(Effect.sleep(pause(listing, Duration.toMillis(took))), listing.asked)
      }
    })
    return yield* Effect.zipRight(Effect.all([reading, looking], { concurrency: "unbounded" }), Effect.never)
  })
