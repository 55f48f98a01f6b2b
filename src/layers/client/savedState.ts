/**
 * How the state of a client is written: its place in the session as one value, and its jobs as records of a few each, so
 * that a change costs the same however many jobs there are. Records are written before the place that counts them.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Check from "../../protocol/Check.js"
import type { ResumeState } from "../../services/client/ArcpClient.js"
import type { Opened, Saved, SavedJob, StateStore } from "./ClientState.js"

/** Jobs of one record: few writes where many change at once, few bytes where one does. */
const perRecord = 16

/** Where the session is, and how many records of jobs there are. */
interface Place extends ResumeState {
  readonly records: number
}

/** Some of the jobs; of another session than the place is in, it is not counted. */
interface JobsRecord {
  readonly sessionId: string
  readonly jobs: ReadonlyArray<SavedJob>
}

interface Versioned {
  readonly version: number
}

const placeCheck = Check.object<Place & Versioned>({
  version: Check.count,
  sessionId: Check.text,
  resumeToken: Check.text,
  lastEventSeq: Check.count,
  records: Check.count
})

/** Some were written as -1, of a job that has gone on in another session before its first event. */
const position: Check.Check<number> = (value, path) => Check.count(value === -1 ? 0 : value, path)

const recordCheck = Check.object<JobsRecord & Versioned>({
  version: Check.count,
  sessionId: Check.text,
  jobs: Check.array(
    Check.object<SavedJob>({
      jobId: Check.text,
      agent: Check.text,
      traceId: Check.optional(Check.string),
      lease: Check.record(Check.array(Check.string)),
      expiresAt: Check.optional(Check.string),
      idempotencyKey: Check.optional(Check.string),
      eventsAfter: position,
      chunksAfter: position,
      gap: Check.optional(Check.boolean),
      lost: Check.optional(Check.boolean),
      rebased: Check.optional(Check.boolean)
    })
  )
})

/** A value under `key` and `KEY.2`, which are written in turn: a process that ends while it writes leaves the one before. */
class Slots<A extends object> {
  #version = 0
  #text = ""

  readonly #store: StateStore
  readonly #key: string
  readonly #check: Check.Check<A & Versioned>
  constructor(store: StateStore, key: string, check: Check.Check<A & Versioned>) {
    this.#store = store
    this.#key = key
    this.#check = check
  }

  #slot(version: number): string {
    return version % 2 === 1 ? this.#key : `${this.#key}.2`
  }
  #read(key: string): Effect.Effect<(A & Versioned) | undefined, unknown> {
    return Effect.flatMap(this.#store.get(key), (text) =>
      Option.isNone(text)
        ? Effect.succeed(undefined)
        : Effect.try({ try: () => this.#check(JSON.parse(text.value), "state"), catch: (problem) => problem })
    )
  }

  /** Returns the newest that is wanted; `undefined` when there is none, and says why one could not be read. */
  load(what: string, isWanted: (value: A) => boolean = () => true): Effect.Effect<A | undefined> {
    return Effect.gen(this, function* () {
      let newest: (A & Versioned) | undefined
      let problem: unknown
      for (const version of [1, 2]) {
        const found = yield* Effect.either(this.#read(this.#slot(version)))
        if (Either.isLeft(found)) problem = found.left
        else if (
          found.right !== undefined &&
          isWanted(found.right) &&
          found.right.version > (newest?.version ?? -1)
        )
          newest = found.right
      }
      if (newest === undefined && problem !== undefined)
        yield* Effect.logWarning(`the saved state of the session cannot be read; ${what}`, problem)
      // The next write goes over the other one.
      this.#version = newest?.version ?? 0
      return newest
    })
  }

  /** Writes it, unless it is what was written last. */
  save(value: A): Effect.Effect<void, unknown> {
    return Effect.suspend(() => {
      const text = JSON.stringify(value)
      if (text === this.#text) return Effect.void
      const version = this.#version + 1
      return Effect.map(this.#store.set(this.#slot(version), JSON.stringify({ ...value, version })), () => {
        this.#version = version
        this.#text = text
      })
    })
  }
}

const same = (a: SavedJob | undefined, b: SavedJob): boolean =>
  a?.eventsAfter === b.eventsAfter &&
  a.chunksAfter === b.chunksAfter &&
  a.idempotencyKey === b.idempotencyKey &&
  a.gap === b.gap &&
  a.lost === b.lost &&
  a.rebased === b.rebased

/** Which job is in which record. A job stays where it is; the place of one that is gone is taken by another. */
class Places {
  readonly #jobs: Array<SavedJob | undefined> = []
  readonly #of = new Map<string, number>()
  /** No place before it is free. */
  #lowest = 0
  /** Records that are not as they were written. */
  readonly changed = new Set<number>()

  /** How many records there are, up to the last that has a job. */
  get records(): number {
    return Math.ceil(this.#jobs.length / perRecord)
  }
  record(index: number): ReadonlyArray<SavedJob> {
    return this.#jobs.slice(index * perRecord, (index + 1) * perRecord).filter((job) => job !== undefined)
  }
  /** The jobs of a record, as they were found. */
  restore(index: number, jobs: ReadonlyArray<SavedJob>): void {
    for (const [i, job] of jobs.entries()) this.#put(index * perRecord + i, job)
    this.changed.clear()
  }
  /** These are the jobs that there are now. */
  set(jobs: ReadonlyArray<SavedJob>): void {
    const there = new Set(jobs.map(({ jobId }) => jobId))
    for (const [jobId, place] of [...this.#of]) if (!there.has(jobId)) this.#free(jobId, place)
    for (const job of jobs) {
      const place = this.#of.get(job.jobId)
      if (place === undefined) this.#put(this.#lowestFree(), job)
      else if (!same(this.#jobs[place], job)) this.#put(place, job)
    }
    while (this.#jobs.length > 0 && this.#jobs[this.#jobs.length - 1] === undefined) this.#jobs.length--
  }
  /** All of them have to be written again. */
  touch(): void {
    for (let i = 0; i < this.records; i++) this.changed.add(i)
  }

  #put(place: number, job: SavedJob): void {
    this.#jobs[place] = job
    this.#of.set(job.jobId, place)
    this.changed.add(Math.floor(place / perRecord))
  }
  #free(jobId: string, place: number): void {
    this.#jobs[place] = undefined
    this.#of.delete(jobId)
    this.changed.add(Math.floor(place / perRecord))
    this.#lowest = Math.min(this.#lowest, place)
  }
  #lowestFree(): number {
    while (this.#jobs[this.#lowest] !== undefined) this.#lowest++
    return this.#lowest
  }
}

/** Opens what is kept under `key`, `KEY.2` and `KEY.jobs.N`. */
export const open = (
  store: StateStore,
  key: string
): Effect.Effect<{ readonly saved: Saved | undefined; readonly save: Opened["save"] }> =>
  Effect.gen(function* () {
    const slots = new Slots(store, key, placeCheck)
    const records = new Map<number, Slots<JobsRecord>>()
    const recordOf = (index: number) => {
      const known = records.get(index) ?? new Slots(store, `${key}.jobs.${index + 1}`, recordCheck)
      records.set(index, known)
      return known
    }
    /** Ready to be written: one that was dropped and is used again comes after what it was before. */
    const ready = (index: number) =>
      Effect.gen(function* () {
        const isNew = !records.has(index)
        const record = recordOf(index)
        if (isNew) yield* record.load("it is written anew")
        return record
      })
    const places = new Places()
    const place = yield* slots.load("a new one is opened")
    const jobs: Array<SavedJob> = []
    for (let i = 0; i < (place?.records ?? 0); i++) {
      const isOurs = ({ sessionId }: JobsRecord) => sessionId === place?.sessionId
      const record = yield* recordOf(i).load("some of its jobs are not found again", isOurs)
      places.restore(i, record?.jobs ?? [])
      jobs.push(...(record?.jobs ?? []))
    }
    let sessionId = place?.sessionId
    const write = (current: () => Saved) =>
      Effect.gen(function* () {
        const { jobs, ...now } = current()
        places.set(jobs)
        if (now.sessionId !== sessionId) places.touch()
        sessionId = now.sessionId
        for (const index of places.changed) {
          yield* (yield* ready(index)).save({ sessionId, jobs: places.record(index) })
          places.changed.delete(index)
        }
        yield* slots.save({ ...now, records: places.records })
      })
    return {
      saved: place && { ...place, jobs },
      save: yield* oneByOne(write)
    }
  })

/** One after the other, each to its end. A store that fails is told of once, and the session goes on. */
const oneByOne = (
  write: (current: () => Saved) => Effect.Effect<void, unknown>
): Effect.Effect<Opened["save"]> =>
  Effect.map(Effect.makeSemaphore(1), (lock) => {
    let failed = false
    return (current) =>
      // One that was cut off must not leave its mark on both slots.
      lock.withPermits(1)(
        Effect.uninterruptible(
          Effect.catchAll(write(current), (error) => {
            if (failed) return Effect.void
            failed = true
            return Effect.logWarning(
              "the session's state cannot be saved; another process could not resume it",
              Cause.fail(error)
            )
          })
        )
      )
  })
