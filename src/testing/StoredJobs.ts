/** A job and what it delegated to, as the store has them when they have ended: read for a comparison. */
import * as Effect from "effect/Effect"
import type { JobRecord, StoredEvent, StoreError, StoreService } from "../services/store/Store.js"

/** A key of a durable job, and what it came to. */
export interface StoredKey {
  readonly kind: string
  readonly key: string
  /** JSON text; `undefined` without an outcome. */
  readonly outcome: string | undefined
}

/** A job that has ended. */
export interface StoredJob {
  readonly record: JobRecord
  readonly events: ReadonlyArray<StoredEvent>
  readonly keys: ReadonlyArray<StoredKey>
  /** Jobs that it delegated to, the oldest first. */
  readonly children: ReadonlyArray<StoredJob>
}

const page = 1_000

const events = (store: StoreService, jobId: string): Effect.Effect<ReadonlyArray<StoredEvent>, StoreError> =>
  Effect.gen(function* () {
    const all: Array<StoredEvent> = []
    for (;;) {
      const some = yield* store.events(jobId, (all.at(-1)?.seq ?? 0) + 1, page)
      all.push(...some)
      if (some.length === 0) return all
    }
  })

const keys = (store: StoreService, jobId: string): Effect.Effect<ReadonlyArray<StoredKey>, StoreError> =>
  Effect.gen(function* () {
    const all: Array<StoredKey> = []
    let after = { kind: "", key: "" }
    for (;;) {
      const entries = yield* store.journal(jobId, after, page)
      for (const { key, kind, size } of entries)
        all.push({
          kind,
          key,
          outcome: size === undefined ? undefined : yield* store.journalValue(jobId, kind, key)
        })
      const last = entries.at(-1)
      if (last === undefined) return all
      after = last
    }
  })

const children = (store: StoreService, parentJobId: string) =>
  Effect.gen(function* () {
    const all: Array<JobRecord> = []
    for (;;) {
      const some = yield* store.jobs({
        principals: "everyone",
        parentJobId,
        after: all.at(-1),
        limit: page
      })
      all.push(...some)
      if (some.length === 0) return all
    }
  })

/** Returns a stored job with everything below it; `undefined` when there is none. */
export const read = (store: StoreService, jobId: string): Effect.Effect<StoredJob | undefined, StoreError> =>
  Effect.gen(function* () {
    const record = yield* store.job(jobId)
    if (record === undefined) return undefined
    const below = yield* Effect.forEach(yield* children(store, jobId), (child) => read(store, child.jobId))
    return {
      record,
      events: yield* events(store, jobId),
      keys: yield* keys(store, jobId),
      children: below.filter((child) => child !== undefined)
    }
  })
