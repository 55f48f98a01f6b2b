/** What is to be forgotten because somebody wants it to be: jobs, with what they have delegated to, and sessions. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { mapJobs } from "../../../services/store/paged.js"
import type { JobRecord, StoreError, StoreService } from "../../../services/store/Store.js"

/** It is not forgotten, for a reason that the message says; nothing has changed. */
export class NotForgotten extends Data.TaggedError("NotForgotten")<{
  readonly message: string
  /** A job that was named is not there: it never was, or has gone meanwhile. */
  readonly isGone?: boolean | undefined
}> {}

/** What is to be forgotten. */
export type Whose = { readonly jobIds: ReadonlyArray<string> } | { readonly principal: string }

/** What is kept of a job that is found, apart from what it was allowed and has stored: of a principal there may be very many. */
export type FoundJob = Pick<
  JobRecord,
  "jobId" | "parentJobId" | "principal" | "agent" | "status" | "rejected" | "answeredWith"
>
const foundOf = ({
  agent,
  answeredWith,
  jobId,
  parentJobId,
  principal,
  rejected,
  status
}: JobRecord): FoundJob => ({
  ...{ jobId, parentJobId, principal, agent, status, rejected, answeredWith }
})

/** What is found of it. */
export interface Found {
  /** Jobs, those that they have delegated to, before whoever did, and records of submits that were refused. */
  readonly jobs: ReadonlyArray<FoundJob>
  readonly sessions: ReadonlyArray<string>
  /** Of the jobs those that have not ended. */
  readonly unfinished: ReadonlyArray<JobRecord>
}

const idOf = ({ jobId }: JobRecord): string => jobId

/** Puts whoever has delegated before those that it has delegated to. */
const parentsFirst = (jobs: ReadonlyMap<string, FoundJob>): ReadonlyMap<string, FoundJob> => {
  const ordered = new Map<string, FoundJob>()
  const seen = new Set<string>()
  for (const job of jobs.values()) {
    const line: Array<FoundJob> = []
    for (let at: FoundJob | undefined = job; at !== undefined && !seen.has(at.jobId); ) {
      seen.add(at.jobId)
      line.push(at)
      at = at.parentJobId === undefined ? undefined : jobs.get(at.parentJobId)
    }
    for (const each of line.reverse()) ordered.set(each.jobId, each)
  }
  return ordered
}

/** Returns everything that is stored of a principal as a job. What a job has delegated to is of the same principal. */
const ofPrincipal = (store: StoreService, principal: string) =>
  Effect.gen(function* () {
    const jobs = new Map<string, FoundJob>()
    const unfinished = new Map<string, JobRecord>()
    const take = (job: JobRecord): void => {
      jobs.set(job.jobId, foundOf(job))
      if (job.endedAt === undefined) unfinished.set(job.jobId, job)
    }
    yield* mapJobs(store, { principals: [principal] }, take)
    // Submits that were refused are not listed.
    for (const id of yield* store.surplus({ principal, limit: Number.MAX_SAFE_INTEGER, needed: true })) {
      const refused = jobs.has(id) ? undefined : yield* store.job(id)
      if (refused !== undefined) take(refused)
    }
    // Listed newest first, told oldest first.
    return { jobs: parentsFirst(new Map([...jobs].reverse())), unfinished }
  })

/** Returns jobs and whatever they have delegated to, at any depth. What goes while it is looked for is not there any more. */
const withDescendants = (store: StoreService, jobIds: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const jobs = new Map<string, FoundJob>()
    const unfinished = new Map<string, JobRecord>()
    const waiting = [...jobIds]
    for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
      if (jobs.has(id)) continue
      const job = yield* store.job(id)
      if (job === undefined) continue
      jobs.set(id, foundOf(job))
      if (job.endedAt === undefined) unfinished.set(id, job)
      for (const child of yield* mapJobs(store, { principals: "everyone", parentJobId: id }, idOf))
        waiting.push(child)
    }
    return { jobs, unfinished }
  })

/** Refuses to take a child away from a parent that still works with it. */
const refuseOrphaned = (store: StoreService, jobs: ReadonlyMap<string, FoundJob>) =>
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
    const { jobs: found, unfinished } =
      "jobIds" in whose
        ? yield* withDescendants(store, whose.jobIds)
        : yield* ofPrincipal(store, whose.principal)
    const gone = "jobIds" in whose ? whose.jobIds.find((id) => !found.has(id)) : undefined
    if (gone !== undefined)
      return yield* new NotForgotten({ message: `${gone} is not in this database`, isGone: true })
    yield* refuseOrphaned(store, found)
    const sessions =
      "jobIds" in whose
        ? []
        : (yield* store.sessions).filter(({ principal }) => principal === whose.principal)
    // Whoever dies in the middle leaves those by which the others are found.
    return {
      jobs: [...found.values()].reverse(),
      sessions: sessions.map(({ sessionId }) => sessionId),
      unfinished: [...unfinished.values()].reverse()
    }
  })
