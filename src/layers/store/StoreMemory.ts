/**
 * The store of tests and of runtimes that need not survive their process. It commits at once, so the log commits to it
 * without a fiber switch; one event costs a few array pushes.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Turn } from "../../services/runtime/Turn.js"
import { type Batch, Fenced, Store, StoreError, type StoreService } from "../../services/store/Store.js"
import { allEnded, makeSearch } from "./ended.js"
import { list } from "./listing.js"
import * as reading from "./memory/reading.js"
import * as retaining from "./memory/retaining.js"
import { Tables } from "./memory/Tables.js"

const make = Effect.gen(function* () {
  const turn = yield* Turn
  return makeOver(turn.next)
})

const commitTo =
  (tables: Tables) =>
  ({ ops, owners }: Batch): Effect.Effect<void, StoreError | Fenced> =>
    Effect.suspend((): Effect.Effect<void, StoreError | Fenced> => {
      const taken = tables.takenOf(owners)
      if (taken.length > 0) return new Fenced({ owners: taken })
      const message = tables.mistakeIn(ops)
      if (message !== undefined) return new StoreError({ message, misuse: true })
      tables.applyAll(ops)
      return Effect.void
    })

const makeOver = (pause: Effect.Effect<void>): StoreService => {
  const tables = new Tables()
  const { indexes, jobs, sessions } = tables
  /** Each method but the commit reads the tables at once. */
  const reads =
    <In extends ReadonlyArray<unknown>, Out>(read: (tables: Tables, ...query: In) => Out) =>
    (...query: In): Effect.Effect<Out> =>
      Effect.sync(() => read(tables, ...query))

  const unneeded = makeSearch({
    ended: reads(retaining.endedAfter),
    neededOf: (jobIds) =>
      Effect.sync(() => new Set(jobIds.filter((jobId) => retaining.isNeeded(tables, jobId)))),
    pause
  })

  return {
    kind: "memory",
    commit: commitTo(tables),
    session: (sessionId) => Effect.sync(() => sessions.get(sessionId)?.record),
    sessions: Effect.sync(() =>
      Array.from(sessions.values(), (session) => session.record).filter((record) => record !== undefined)
    ),
    sessionPage: reads(reading.sessionPage),
    runs: reads(reading.runsFrom),
    job: (jobId) => Effect.sync(() => jobs.get(jobId)?.record),
    jobs: (filter) =>
      list(filter, (after) => Effect.sync(() => reading.listingStep(tables, filter, after)), pause),
    jobBySubmit: (sessionId, submitId) => Effect.sync(() => indexes.ofSubmit(sessionId, submitId)),
    jobByKey: (principal, key) => Effect.sync(() => indexes.ofKey(principal, key)),
    events: reads(reading.events),
    boundsOf: reads(reading.boundsOf),
    marks: (jobId) => Effect.sync(() => jobs.get(jobId)?.retainedMarks() ?? []),
    retired: ({ endedBefore, limit }) => unneeded(undefined, endedBefore, limit),
    surplus: ({ limit, needed, principal }) =>
      needed
        ? allEnded({ ended: reads(retaining.endedAfter), pause }, principal, limit)
        : unneeded(principal, Number.MAX_SAFE_INTEGER, limit),
    endedCounts: Effect.sync(() => indexes.endedCounts()),
    due: reads(reading.due),
    waitingObserved: reads(reading.waitingObserved),
    waitingOwners: (principal) => Effect.sync(() => indexes.waitingOwners(principal)),
    waitingCounts: (node) => Effect.sync(() => indexes.waitingCounts(node)),
    jobNodes: Effect.sync(() => reading.jobNodes(tables)),
    jobPlaces: reads(reading.jobPlaces),
    sessionPlaces: reads(reading.sessionPlaces),
    openOn: reads(reading.openOn),
    nodeCounts: Effect.sync(() => reading.nodeCounts(tables)),
    wishes: reads(reading.wishes),
    hookEvents: reads(reading.hookEvents),
    input: (jobId) => Effect.sync(() => jobs.get(jobId)?.input),
    journal: reads(reading.journal),
    journalValue: (jobId, kind, key) => Effect.sync(() => jobs.get(jobId)?.journalEntry(kind, key)?.value),
    view: (sessionId) => Effect.sync(() => sessions.get(sessionId)?.view ?? { first: 1, last: 0 }),
    page: reads(reading.page),
    numbering: reads(reading.numbering),
    observed: reads(retaining.observed),
    backlog: reads(reading.backlog),
    news: reads(reading.news),
    lagging: reads(retaining.lagging),
    need: (sessionId) => Effect.sync(() => sessions.get(sessionId)?.need ?? 1),
    hasLost: (sessionId) => Effect.sync(() => sessions.get(sessionId)?.lost === true),
    observersOf: reads(retaining.observersOf),
    viewers: reads(retaining.viewers),
    needed: reads(retaining.needed),
    neededAbove: reads(retaining.neededAbove),
    aliveAt: Effect.sync(() => tables.aliveAt),
    lives: Effect.sync(() => new Map([["", tables.aliveAt]])),
    freeing: Effect.succeed(0),
    retained: Effect.sync(() => retaining.retained(tables)),
    vacuum: Effect.succeed(false),
    held: () => tables.held
  }
}

/** Provides a store in memory: nothing outlives the layer, and only a mistake in a batch can fail. */
export const layer = (): Layer.Layer<Store> => Layer.effect(Store, make)
