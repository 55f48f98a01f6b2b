/**
 * Forgetting at once what somebody wants to be forgotten, on a store that no runtime has: jobs with everything that was
 * stored of them, and the sessions of a principal. By the changes with which a runtime's retention drops jobs; whoever has
 * the file then writes it anew (`owning` of the store), so that nothing is left in its free pages.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { type JobRecord, Op, type StoreError, type StoreService } from "../../../services/store/Store.js"
import { dropping } from "../../log/retention/dropping.js"
import { commitUnowned } from "../../store/unowned.js"

/** It is not forgotten, for a reason that the message says; nothing has changed. */
export class NotForgotten extends Data.TaggedError("NotForgotten")<{ readonly message: string }> {}

/** What is to be forgotten. */
export type Whose = { readonly jobIds: ReadonlyArray<string> } | { readonly principal: string }

/** What is found of it. */
export interface Found {
  /** Jobs, those that they have delegated to, and records of submits that were refused. */
  readonly jobs: ReadonlyArray<JobRecord>
  readonly sessions: ReadonlyArray<string>
  /** Of the jobs those that have not ended. */
  readonly unfinished: ReadonlyArray<JobRecord>
}

const every = Number.MAX_SAFE_INTEGER

/** Jobs, or sessions, that are dropped in one commit. */
const batch = 256

/** Returns the ids of everything that is stored of a principal as a job. */
const jobsOfPrincipal = (store: StoreService, principal: string) =>
  Effect.gen(function* () {
    const jobs = yield* store.jobs({ principals: [principal], limit: every })
    const ended = yield* store.surplus({ principal, limit: every, needed: true })
    return [...new Set([...jobs.map(({ jobId }) => jobId), ...ended])]
  })

/** Returns jobs and whatever they have delegated to, at any depth. */
const withDescendants = (store: StoreService, jobIds: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const found = new Map<string, JobRecord>()
    const waiting = [...jobIds]
    for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
      if (found.has(id)) continue
      const job = yield* store.job(id)
      if (job === undefined) return yield* new NotForgotten({ message: `${id} is not in this database` })
      found.set(id, job)
      const children = yield* store.jobs({ principals: "everyone", parentJobId: id, limit: every })
      waiting.push(...children.map(({ jobId }) => jobId))
    }
    return found
  })

/** Refuses to take a child away from a parent that still works with it. */
const refuseOrphaned = (store: StoreService, jobs: ReadonlyMap<string, JobRecord>) =>
  Effect.gen(function* () {
    for (const { jobId, parentJobId } of jobs.values()) {
      if (parentJobId === undefined || jobs.has(parentJobId)) continue
      const parent = yield* store.job(parentJobId)
      if (parent !== undefined && parent.endedAt === undefined)
        return yield* new NotForgotten({
          message: `${jobId} is part of ${parentJobId}, which has not ended; delete that one, or wait for its end`
        })
    }
  })

/** Finds what is to be forgotten. Fails when it is not there, or is a part of something that has not ended. */
export const find = (store: StoreService, whose: Whose): Effect.Effect<Found, NotForgotten | StoreError> =>
  Effect.gen(function* () {
    const jobIds = "jobIds" in whose ? whose.jobIds : yield* jobsOfPrincipal(store, whose.principal)
    const found = yield* withDescendants(store, jobIds)
    yield* refuseOrphaned(store, found)
    const sessions =
      "jobIds" in whose
        ? []
        : (yield* store.sessions).filter(({ principal }) => principal === whose.principal)
    const jobs = [...found.values()]
    return {
      jobs,
      sessions: sessions.map(({ sessionId }) => sessionId),
      unfinished: jobs.filter(({ endedAt }) => endedAt === undefined)
    }
  })

const pages = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(all.length / batch) }, (_, i) => all.slice(i * batch, (i + 1) * batch))

/** Drops the calls of hooks that are owed for jobs. They outlive their jobs, but not by somebody's wish. */
const dropHookEvents = (store: StoreService, jobIds: ReadonlySet<string>) =>
  Effect.gen(function* () {
    let after = { jobId: "", seq: 0 }
    for (;;) {
      const page = yield* store.hookEvents(after, batch)
      const last = page.at(-1)
      if (last === undefined) return
      after = { jobId: last.jobId, seq: last.seq }
      const events = page.filter(({ jobId }) => jobIds.has(jobId))
      if (events.length > 0) yield* commitUnowned(store, [Op.DropHookEvents({ events })])
    }
  })

/** Drops jobs and sessions, and deletes what they had from the tables. */
export const forget = (
  store: StoreService,
  {
    jobIds,
    sessionIds
  }: { readonly jobIds: ReadonlyArray<string>; readonly sessionIds: ReadonlyArray<string> },
  hooks: "keep" | "drop"
): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    for (const page of pages(sessionIds))
      yield* commitUnowned(
        store,
        page.map((sessionId) => Op.DropSession({ sessionId }))
      )
    for (const page of pages(jobIds)) yield* commitUnowned(store, (yield* dropping(store, page)).ops)
    if (hooks === "drop") yield* dropHookEvents(store, new Set(jobIds))
    while (yield* store.vacuum) yield* Effect.yieldNow()
  })
