/**
 * Moving jobs from one node to another: a family (a job and all that was delegated below it) in one commit, which states the epoch
 * that each was read with and puts the next one. So of two nodes that try one is told that it was too late, and whoever was gone
 * only for others writes nothing to it any more.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { dueAt } from "../../services/store/dueAt.js"
import { mapJobs } from "../../services/store/paged.js"
import { epochOf, type JobRecord, Op, type StoreError } from "../../services/store/Store.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import * as Terminal from "./Terminal.js"

/** Which jobs are to end, and why. */
export type Cancels = ReadonlyMap<string, JobRecord["cancelRequested"]>

export const noCancels: Cancels = new Map()

/** What it takes to know of a job to move it: little, since a node may have very many. */
export interface Movable extends Pick<JobRecord, "jobId" | "parentJobId"> {
  readonly epoch: number
  /** What has not begun, or is a row, is ended when the wish is granted; and no cancel is put over another. */
  readonly takesCancel: boolean
  /** The agent without which it would not go on; nothing of what only ends, or goes where its parent does. */
  readonly needs: string | undefined
}

/**
 * Returns the agent without which a job would not go on. One that is parked below another goes where that does, and waits for its own
 * there as it did before.
 */
const needsOf = ({
  agent,
  cancelRequested,
  parentJobId,
  queued,
  survival
}: JobRecord): string | undefined => {
  if (queued !== undefined) return agent
  if (survival === undefined || cancelRequested !== undefined) return undefined
  return parentJobId !== undefined && survival.parked !== undefined ? undefined : agent
}

/** Returns what is to be known of a job. */
export const movableOf = (record: JobRecord): Movable => ({
  jobId: record.jobId,
  parentJobId: record.parentJobId,
  epoch: epochOf(record),
  takesCancel:
    record.cancelRequested === undefined && record.queued === undefined && dueAt(record) === undefined,
  needs: needsOf(record)
})

/** The jobs of one node that have not ended, read a page after the other. What is damaged there is left where it is. */
export const openJobs = ({ store }: Pick<JobParts, "store">, node: string) =>
  mapJobs(
    store,
    { principals: "everyone", status: ["pending", "running"], node, damaged: "left out" },
    movableOf
  )

/** Returns jobs by families: those that have a parent among them are with that. */
export const familiesOf = <Job extends Pick<JobRecord, "jobId" | "parentJobId">>(
  jobs: ReadonlyArray<Job>
): ReadonlyArray<ReadonlyArray<Job>> => {
  const byId = new Map(jobs.map((job) => [job.jobId, job]))
  const families = new Map<string, Array<Job>>()
  for (const job of jobs) {
    let root = job
    // One that is above itself is nobody's to go on with; here it only must come to an end.
    for (let steps = 0; steps < jobs.length; steps++) {
      const parent = root.parentJobId === undefined ? undefined : byId.get(root.parentJobId)
      if (parent === undefined) break
      root = parent
    }
    const family = families.get(root.jobId)
    if (family === undefined) families.set(root.jobId, [job])
    else family.push(job)
  }
  return [...families.values()]
}

/** Returns the job of a family that is above all others in it. */
export const rootOf = (family: ReadonlyArray<Movable>): Movable | undefined => {
  const all = new Set(family.map(({ jobId }) => jobId))
  return family.find(({ parentJobId }) => parentJobId === undefined || !all.has(parentJobId))
}

/** Returns the families that have a job above all others: the rest is above itself, and recovery would refuse what comes with it. */
const rootedOf = (families: ReadonlyArray<ReadonlyArray<Movable>>): ReadonlyArray<ReadonlyArray<Movable>> => {
  const all = new Set(families.flat().map(({ jobId }) => jobId))
  return families.filter((family) =>
    family.some(({ parentJobId }) => parentJobId === undefined || !all.has(parentJobId))
  )
}

/**
 * Returns the families that can be gone on with: not what is above itself, nor what is below a job whose record is damaged, since
 * that would be ended without it, and the record may be restored.
 */
export const takeable = (
  { store }: Pick<JobParts, "store">,
  families: ReadonlyArray<ReadonlyArray<Movable>>
) =>
  Effect.filter(
    rootedOf(families),
    (family) => {
      const all = new Set(family.map(({ jobId }) => jobId))
      const above = family.flatMap(({ parentJobId }) =>
        parentJobId === undefined || all.has(parentJobId) ? [] : [parentJobId]
      )
      return Effect.catchIf(
        Effect.as(
          Effect.forEach(above, (jobId) => store.job(jobId), { discard: true }),
          true
        ),
        Faults.isDamage,
        () => Effect.succeed(false)
      )
    },
    { concurrency: 8 }
  )

/** The node whose jobs are taken since it is gone is back under its name: it goes on with what it still has. */
export class NodeIsBack extends Data.TaggedError("NodeIsBack")<{ readonly node: string }> {}

/** What comes with taking jobs. */
export interface TakeOptions {
  readonly cancels?: Cancels | undefined
  /** The node that was buried, and whose jobs these are: nothing is moved when it is back. */
  readonly gone?: string | undefined
}

/**
 * Moves jobs to a node, or to nobody, a family whole or not at all; with a cancel where one is given. Returns those that nobody else
 * has taken meanwhile, as they were read. Nothing of a record but that is written: its node may be there and go on writing, this one
 * when it leaves.
 */
const moving = (
  { store }: Pick<JobParts, "store">,
  families: ReadonlyArray<ReadonlyArray<Movable>>,
  node: string,
  { cancels = noCancels, gone }: TakeOptions
): Effect.Effect<ReadonlyArray<Movable>, StoreError | NodeIsBack> => {
  const jobs = families.flat()
  if (jobs.length === 0) return Effect.succeed([])
  return store
    .commit({
      ops: jobs.map(({ epoch, jobId, takesCancel }) =>
        Op.MoveJob({
          ...{ jobId, node, epoch: epoch + 1 },
          cancelRequested: takesCancel ? cancels.get(jobId) : undefined
        })
      ),
      owners: jobs.map(({ epoch, jobId }) => ({ job: jobId, epoch })),
      gone
    })
    .pipe(
      Effect.as(jobs),
      Effect.catchTag(
        "Fenced",
        ({ back, owners }): Effect.Effect<ReadonlyArray<Movable>, StoreError | NodeIsBack> => {
          if (back !== undefined) return new NodeIsBack({ node: back })
          const taken = new Set(owners.flatMap((owner) => ("job" in owner ? [owner.job] : [])))
          const left = families.filter((family) => !family.some(({ jobId }) => taken.has(jobId)))
          // What is not its own fault is tried at the next look.
          return left.length === families.length
            ? Effect.succeed([])
            : moving({ store }, left, node, { cancels, gone })
        }
      )
    )
}

/** Moves jobs that this node has; returns those that nobody else has taken. */
export const move = (
  parts: Pick<JobParts, "store">,
  families: ReadonlyArray<ReadonlyArray<Movable>>,
  node: string
): Effect.Effect<ReadonlyArray<Movable>, StoreError> =>
  Effect.catchTag(moving(parts, families, node, {}), "NodeIsBack", Effect.die)

/** Reads a job that this node has by now; nothing when it is damaged, which is said. */
const readTaken = ({ store }: Pick<JobParts, "store">, jobId: string) =>
  Effect.retry(store.job(jobId), {
    schedule: Terminal.pauses,
    while: (error) => !Faults.isDamage(error)
  }).pipe(
    Effect.catchAll(({ message }) =>
      Effect.as(Effect.logError(`nobody goes on with ${jobId}: ${message}`), undefined)
    )
  )

/**
 * Takes jobs for a node; returns those that it has, as they are stored then: cancelled, when that is wished for. What has ended
 * meanwhile is nobody's to go on with.
 */
export const take = (
  parts: Pick<JobParts, "store">,
  families: ReadonlyArray<ReadonlyArray<Movable>>,
  node: string,
  options: TakeOptions = {}
): Effect.Effect<ReadonlyArray<JobRecord>, StoreError | NodeIsBack> =>
  Effect.gen(function* () {
    const moved = yield* moving(parts, families, node, options)
    // They are this node's by now, and nobody else looks at them.
    const stored = yield* Effect.forEach(moved, ({ jobId }) => readTaken(parts, jobId), { concurrency: 8 })
    return stored.flatMap((record) =>
      record === undefined || record.endedAt !== undefined || record.node !== node ? [] : [record]
    )
  })
