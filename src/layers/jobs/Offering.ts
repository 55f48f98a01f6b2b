/**
 * Jobs that are parked on a node of a cluster, offered to the others: one of them may have what this one lacks. They are left to
 * nobody, from where whoever has their agents takes them at once; others leave them there for a while (Takeover.ts), and then one of
 * them keeps them. So each is offered once when it is parked, and once for each node that comes, which may have its agent.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Scope } from "effect/Scope"
import { type ClusterService, isOurs, nobody } from "../../services/cluster/Cluster.js"
import type { SeenNode } from "../../services/cluster/Nodes.js"
import { dueAt } from "../../services/store/dueAt.js"
import { mapJobs } from "../../services/store/paged.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { Offered } from "./durable/Parked.js"
import * as Rerun from "./durable/Rerun.js"
import type { JobParts } from "./JobParts.js"
import * as Moving from "./Moving.js"
import type { QueuedJob } from "./scheduling/Queue.js"
import * as Scheduler from "./scheduling/Scheduler.js"

/** Between two times that a node offers something: what is said of a job that is parked is told by then. */
const pause = Duration.seconds(1)

/** Jobs that are offered at once. */
const atOnce = 16

/** Whether a job is parked, and nothing of it is in memory. */
const isParkedRow = (record: JobRecord): boolean =>
  record.survival?.parked !== undefined && record.parentJobId === undefined && dueAt(record) !== undefined

/** Whether a job is parked that has not begun, and nothing ends it. */
const isParkedInLine = ({ ending, record }: QueuedJob): boolean =>
  record.queued.parked !== undefined && ending === undefined

/** Leaves a job to nobody, and tells whether nobody else had taken it before. */
const leave = (parts: JobParts, record: JobRecord) =>
  Effect.gen(function* () {
    const { log } = parts
    if ((yield* Moving.move(parts, [[Moving.movableOf(record)]], nobody)).length === 0) return false
    // Whoever observes it here looks at it from now on as at any job of another node: its log finds out by a write.
    yield* Effect.ignore(log.holding(record, (job) => log.amend(job, record, () => {})))
    return true
  })

/** Offers a job that has not begun. Whoever ends it meanwhile finds it gone. */
const offerInLine = (parts: JobParts, job: QueuedJob) => {
  const { queue } = parts.running
  queue.withdraw(job)
  queue.remove(job)
  return Effect.tapError(leave(parts, job.record), () => Scheduler.restore(parts, job.record))
}

/** Offers a job, if it still is parked here; tells whether it has. */
const offer = (parts: JobParts, jobId: string) => {
  const { cluster, registry, running, store, unsettled, waits } = parts
  const offering = Effect.gen(function* () {
    const queued = running.queue.get(jobId)
    const record = queued?.record ?? (yield* store.job(jobId))
    if (record === undefined || !isOurs(cluster, record) || running.get(jobId) !== undefined) return false
    if (Either.isRight(yield* Effect.either(Rerun.resolve(registry, record.agent)))) return false
    if (running.stopping) return false
    if (queued !== undefined) return isParkedInLine(queued) ? yield* offerInLine(parts, queued) : false
    if (!isParkedRow(record) || !(yield* leave(parts, record))) return false
    waits.over(record.principal)
    return true
  })
  return Effect.zipRight(
    unsettled.settled(jobId),
    // What else is done with it under its lock comes before this, or finds it gone.
    waits.locked(jobId, Effect.uninterruptible(offering))
  )
}

/** Returns the ids of what is parked here. */
const parkedHere = ({ running, store }: JobParts, node: string) =>
  Effect.map(
    mapJobs(store, { principals: "everyone", waiting: "rows", node, damaged: "left out" }, (record) =>
      isParkedRow(record) ? [record.jobId] : []
    ),
    (rows) => [...rows.flat(), ...[...running.queue.all].filter(isParkedInLine).map(({ jobId }) => jobId)]
  )

/** Offers jobs to the nodes that are there. */
const offerAll = (parts: JobParts, { node, nodes, wake }: ClusterService, { jobs }: Offered) =>
  Effect.gen(function* () {
    const others = (yield* nodes.list).filter(({ isAlive, name }) => isAlive && name !== node)
    if (others.length === 0) return
    const ids = jobs === "all" ? yield* parkedHere(parts, node) : [...jobs]
    const offered = yield* Effect.forEach(ids, (jobId) => offer(parts, jobId), { concurrency: atOnce })
    const count = offered.filter((isOffered) => isOffered).length
    if (count === 0) return
    for (const { name } of others) wake.tell(name)
    yield* Effect.logInfo(`left ${count} jobs that are parked to nodes that have their agents`)
  })

/** Tells of nodes that were not there before. */
export const newcomers = ({ waits }: Pick<JobParts, "waits">, { node }: ClusterService) => {
  let known: ReadonlySet<string> = new Set()
  return (seen: ReadonlyArray<SeenNode>): void => {
    const others = seen.filter(({ isAlive, name }) => isAlive && name !== node)
    const now = new Set(others.map(({ name, startedAt }) => `${startedAt} ${name}`))
    if ([...now].some((one) => !known.has(one))) waits.parked.offerAll()
    known = now
  }
}

/** Offers what is parked here, for as long as the scope. */
export const start = (parts: JobParts): Effect.Effect<void, never, Scope> => {
  const { cluster, waits } = parts
  const { parked } = waits
  if (cluster === undefined) return Effect.void
  const offering = Effect.suspend(() => offerAll(parts, cluster, parked.take())).pipe(
    Effect.catchAllCause((cause) =>
      Effect.zipRight(
        Effect.logWarning("jobs that are parked could not be offered to other nodes; trying again", cause),
        Effect.sync(() => parked.offerAll())
      )
    )
  )
  return Effect.asVoid(
    Effect.forkScoped(Effect.forever(Effect.zipRight(parked.offers.wait, Effect.delay(offering, pause))))
  )
}
