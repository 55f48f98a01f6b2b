/**
 * Jobs that are parked on a node of a cluster, offered to the others: one of them may have what this one lacks. They are left to
 * nobody, from where whoever has their agents takes them at once; others leave them there for a while (Takeover.ts), and then one of
 * them keeps them. So each is offered once when it is parked. Of all that is here one of each agent is offered when a node comes, and
 * the others when that one went on: there may be very many of them, and most nodes that come are no others than those that were there.
 */
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import { type ClusterService, isOurs, nobody } from "../../services/cluster/Cluster.js"
import type { SeenNode } from "../../services/cluster/Nodes.js"
import { dueAt } from "../../services/store/dueAt.js"
import { mapJobs } from "../../services/store/paged.js"
import type { JobRecord, StoreError } from "../../services/store/Store.js"
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
  parts.log.leaving(
    record,
    Effect.map(Moving.move(parts, [[Moving.movableOf(record)]], nobody), (moved) => moved.length > 0)
  )

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

/** Returns what is parked here, by agent. */
const parkedHere = ({ running, store }: JobParts, node: string) =>
  Effect.map(
    mapJobs(store, { principals: "everyone", waiting: "parked", node, damaged: "left out" }, (record) =>
      isParkedRow(record) ? [{ agent: record.agent, jobId: record.jobId }] : []
    ),
    (rows) =>
      Object.values(
        Arr.groupBy([...rows.flat(), ...[...running.queue.all].filter(isParkedInLine)], ({ agent }) => agent)
      ).map((jobs) => jobs.map(({ jobId }) => jobId))
  )

/** Looks, one a second, at a job that was offered: within the first ones nobody takes it who has not its agent (Takeover.ts). */
const looks = 10
const looksAtOnce = 2

/** Tells whether a job that was offered has gone on; what has ended since says nothing of whether others would. */
const wentOn = (parts: JobParts, jobId: string, look = 1): Effect.Effect<boolean, StoreError> =>
  Effect.gen(function* () {
    yield* Effect.sleep(pause)
    const record = yield* parts.store.job(jobId)
    if (record === undefined || record.endedAt !== undefined) return true
    if (isOurs(parts.cluster, record)) return false
    const isParked = record.survival?.parked !== undefined || record.queued?.parked !== undefined
    if (record.node !== nobody && (look <= looksAtOnce || !isParked)) return true
    return look < looks && (yield* wentOn(parts, jobId, look + 1))
  })

/** Offers jobs; returns how many. */
const offerEach = (parts: JobParts, jobIds: Iterable<string>) =>
  Effect.map(
    Effect.forEach(jobIds, (jobId) => offer(parts, jobId), { concurrency: atOnce }),
    (offered) => offered.filter((isOffered) => isOffered).length
  )

/** Offers one of the jobs that need an agent, and the others when that went on; returns how many. */
const offerByOne = (parts: JobParts, jobIds: ReadonlyArray<string>, told: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const first = Option.getOrUndefined(yield* Effect.findFirst(jobIds, (jobId) => offer(parts, jobId)))
    if (first === undefined) return 0
    yield* told
    const isAlone = jobIds.at(-1) === first
    if (isAlone || !(yield* wentOn(parts, first))) return 1
    return 1 + (yield* offerEach(parts, jobIds.slice(jobIds.indexOf(first) + 1)))
  })

/** Offers jobs to the nodes that are there. */
const offerAll = (parts: JobParts, { node, nodes, wake }: ClusterService, { jobs }: Offered) =>
  Effect.gen(function* () {
    const others = (yield* nodes.list).filter(({ isAlive, name }) => isAlive && name !== node)
    if (others.length === 0) return
    const told = Effect.sync(() => {
      for (const { name } of others) wake.tell(name)
    })
    const offering =
      jobs === "all"
        ? Effect.map(
            Effect.flatMap(
              parkedHere(parts, node),
              Effect.forEach((jobIds) => offerByOne(parts, jobIds, told), { concurrency: atOnce })
            ),
            (counts) => counts.reduce((sum, count) => sum + count, 0)
          )
        : offerEach(parts, jobs)
    const count = yield* offering
    if (count === 0) return
    yield* told
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
