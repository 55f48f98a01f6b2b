/**
 * What becomes of jobs whose node is gone: the nodes that are there take them, each as many as it can get, and go on with them
 * as with what a last process has left (Recovery.ts). A job is taken by a commit that states the epoch it was read with and
 * puts the next one, a family (a job and all that was delegated below it) in one commit, so of two nodes that try one is
 * told that it was too late; and whoever was gone only for others writes nothing to it any more.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Scope } from "effect/Scope"
import type { ClusterService } from "../../services/cluster/Cluster.js"
import type { SeenNode } from "../../services/cluster/Nodes.js"
import { Signal } from "../../services/runtime/Signal.js"
import { dueAt } from "../../services/store/dueAt.js"
import { epochOf, type JobFilter, type JobRecord, Op, type StoreError } from "../../services/store/Store.js"
import { keeperOf } from "../cluster/keeper.js"
import * as Measuring from "../cluster/measuring.js"
import type { JobParts } from "./JobParts.js"
import type { Recovery } from "./Recovery.js"
import { ofWish } from "./wishes/Want.js"

/** Jobs that are read at once, and families that are taken by one commit. */
const page = 500
const familiesAtOnce = 32

/** The jobs of one node that have not ended. */
const openJobs = ({ store, turn }: JobParts, node: string) =>
  Effect.gen(function* () {
    const found: Array<JobRecord> = []
    for (let after: JobFilter["after"]; ; ) {
      const records = yield* store.jobs({
        principals: "everyone",
        status: ["pending", "running"],
        node,
        after,
        limit: page
      })
      found.push(...records)
      if (records.length < page) return found
      after = records.at(-1)
      yield* turn.next
    }
  })

/** Returns jobs by families: those that have a parent among them are with that. */
export const familiesOf = (records: ReadonlyArray<JobRecord>): ReadonlyArray<ReadonlyArray<JobRecord>> => {
  const byId = new Map(records.map((record) => [record.jobId, record]))
  const families = new Map<string, Array<JobRecord>>()
  for (const record of records) {
    let root = record
    // One that is above itself is refused by whoever takes it; here it only must come to an end.
    for (let steps = 0; steps < records.length; steps++) {
      const parent = root.parentJobId === undefined ? undefined : byId.get(root.parentJobId)
      if (parent === undefined) break
      root = parent
    }
    const family = families.get(root.jobId)
    if (family === undefined) families.set(root.jobId, [record])
    else family.push(record)
  }
  return [...families.values()]
}

/**
 * Puts jobs to a node, or to none; returns those that nobody else has taken meanwhile, as they are stored then: cancelled, when
 * that is wished for.
 */
export const put = (
  { store }: Pick<JobParts, "store">,
  families: ReadonlyArray<ReadonlyArray<JobRecord>>,
  node: string | undefined,
  cancels: Cancels = noCancels
): Effect.Effect<ReadonlyArray<JobRecord>, StoreError> => {
  const records = families.flat()
  if (records.length === 0) return Effect.succeed([])
  const next = records.map((record) => ({
    ...record,
    node,
    epoch: epochOf(record) + 1,
    // What has not begun, or is a row, is ended when the wish is granted.
    ...(record.cancelRequested === undefined && record.queued === undefined && dueAt(record) === undefined
      ? { cancelRequested: cancels.get(record.jobId) }
      : {})
  }))
  return store
    .commit({
      ops: next.map((job) => Op.PutJob({ job })),
      owners: records.map((record) => ({ job: record.jobId, epoch: epochOf(record) }))
    })
    .pipe(
      Effect.as(next),
      Effect.catchTag("Fenced", ({ owners }) => {
        const gone = new Set(owners.flatMap((owner) => ("job" in owner ? [owner.job] : [])))
        const left = families.filter((family) => !family.some(({ jobId }) => gone.has(jobId)))
        // What is not its own fault is tried at the next look.
        return left.length === families.length ? Effect.succeed([]) : put({ store }, left, node, cancels)
      })
    )
}

/** Which jobs are to end, and why. */
type Cancels = ReadonlyMap<string, JobRecord["cancelRequested"]>

const noCancels: Cancels = new Map()

/** Wishes that are looked at: there are seldom more than a few. */
const maxWishes = 10_000

/** Returns which jobs of a node others want to end: so they end as that, also when they would not go on. */
const cancelsOf = ({ store }: JobParts, name: string): Effect.Effect<Cancels, StoreError> =>
  Effect.map(
    store.wishes(name, maxWishes),
    (wishes) =>
      new Map(
        wishes.flatMap((wish) => {
          const want = wish.from === name ? undefined : ofWish(wish)
          return want?.kind === "cancel" ? [[wish.jobId, { reason: want.reason, at: wish.at }] as const] : []
        })
      )
  )

/** Takes the jobs of a node that is gone, as far as no other does. */
const takeFrom = (parts: JobParts, { node }: ClusterService, recovery: Recovery, name: string) =>
  Effect.gen(function* () {
    const { hooks, log, metrics, running, turn, unsettled } = parts
    // In an order of its own, so that nodes seldom try for the same.
    const families = [...(yield* Random.shuffle(familiesOf(yield* openJobs(parts, name))))]
    const cancels = yield* cancelsOf(parts, name)
    const all = new Set<string>()
    while (families.length > 0 && !running.stopping) {
      const wanted = families.splice(0, familiesAtOnce)
      // Whoever wants something of one waits from before it is this node's until it is known what becomes of it.
      for (const { jobId } of wanted.flat()) unsettled.add(jobId)
      const settleAll = Effect.sync(() => {
        for (const { jobId } of wanted.flat()) unsettled.settle(jobId)
      })
      const taken = yield* Effect.onError(put(parts, wanted, node, cancels), () => settleAll)
      const isTaken = new Set(taken.map(({ jobId }) => jobId))
      for (const { jobId } of wanted.flat()) if (!isTaken.has(jobId)) unsettled.settle(jobId)
      log.took(taken)
      for (const jobId of isTaken) all.add(jobId)
      if (metrics !== undefined) Measuring.taken(taken.length)
      // What cannot be gone on with here is nobody's again: as this node's own nobody would look at it before its next start.
      if (taken.length > 0)
        yield* Effect.tapErrorCause(recovery.recover(taken), () =>
          Effect.zipRight(Effect.ignoreLogged(put(parts, familiesOf(taken), undefined)), settleAll)
        )
      yield* turn.next
    }
    yield* hooks.took(all)
    const count = all.size
    if (count > 0)
      yield* Effect.logInfo(
        name === ""
          ? `took ${count} jobs that no node has`
          : `took ${count} jobs of node ${name}, which is gone`
      )
  })

/** Has one node make the calls of hooks that others have left: each time that it is another list of nodes which are there. */
const inheriting = ({ hooks }: JobParts, { node }: ClusterService) => {
  let known = ""
  return (nodes: ReadonlyArray<SeenNode>, alive: ReadonlySet<string>): Effect.Effect<void> =>
    Effect.suspend(() => {
      const now = JSON.stringify([...alive])
      if (now === known) return Effect.void
      known = now
      return keeperOf(nodes) === node ? hooks.inherit(alive) : Effect.void
    })
}

/** Looks for jobs whose node is gone. */
const look = (
  parts: JobParts,
  cluster: ClusterService,
  recovery: Recovery,
  inherit: ReturnType<typeof inheriting>
) =>
  Effect.gen(function* () {
    // In this order: whoever has jobs was there before them.
    const names = yield* parts.store.jobNodes
    const others = names.filter((name) => name !== cluster.node)
    const nodes = yield* cluster.nodes.list
    const alive = new Set(nodes.filter(({ isAlive }) => isAlive).map(({ name }) => name))
    yield* inherit(nodes, alive)
    for (const name of others) {
      if (parts.running.stopping) return
      if (alive.has(name) || (name !== "" && !(yield* cluster.nodes.bury(name)))) continue
      yield* takeFrom(parts, cluster, recovery, name)
    }
  })

/** Takes jobs whose node is gone, for as long as the scope: it looks when it is woken, and once in a while in any case. */
export const start = (parts: JobParts, recovery: Recovery): Effect.Effect<void, never, Scope> =>
  Effect.gen(function* () {
    const { cluster, metrics } = parts
    if (cluster === undefined) return
    if (metrics !== undefined) yield* metrics.watch(Measuring.nodes(cluster))
    const woken = new Signal()
    yield* cluster.wake.listen(cluster.node, () => woken.give())
    const looking = look(parts, cluster, recovery, inheriting(parts, cluster)).pipe(
      Effect.catchAllCause((cause) =>
        Effect.logWarning("jobs whose node is gone could not be taken; looking again", cause)
      )
    )
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(woken.wait, looking)))
    woken.give()
  })

/**
 * Lets go of what this node has and does not run any more, for others to take at once: jobs that wait, that have not begun,
 * and those that were left to be run again.
 */
export const handOver = (parts: JobParts): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const { cluster, running } = parts
    if (cluster === undefined) return
    const families = familiesOf(yield* openJobs(parts, cluster.node)).filter((family) =>
      family.every(({ jobId }) => running.get(jobId) === undefined)
    )
    let count = 0
    for (let from = 0; from < families.length; from += familiesAtOnce)
      count += (yield* put(parts, families.slice(from, from + familiesAtOnce), undefined)).length
    if (count === 0) return
    for (const { isAlive, name } of yield* cluster.nodes.list)
      if (isAlive && name !== cluster.node) cluster.wake.tell(name)
    yield* Effect.logInfo(`left ${count} jobs to other nodes`)
  })
