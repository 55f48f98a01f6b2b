/**
 * What becomes of jobs whose node is gone: the nodes that are there take them, each as many as it can get, and go on with them
 * as with what a last process has left (Recovery.ts). How a job is moved: Moving.ts.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Random from "effect/Random"
import type { Scope } from "effect/Scope"
import { type ClusterService, nobody } from "../../services/cluster/Cluster.js"
import type { SeenNode } from "../../services/cluster/Nodes.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { Signal } from "../../services/runtime/Signal.js"
import type { StoreError } from "../../services/store/Store.js"
import { keeperOf } from "../cluster/keeper.js"
import * as Measuring from "../cluster/measuring.js"
import { resolve } from "./durable/Rerun.js"
import type { JobParts } from "./JobParts.js"
import * as Moving from "./Moving.js"
import * as Offering from "./Offering.js"
import type { Recovery } from "./Recovery.js"
import { ofWish } from "./wishes/Want.js"

/** Families that are taken by one commit. */
const familiesAtOnce = 32

/** Looks of a node, one a second, between two at who is there while nobody else has jobs. */
const looksBetween = 10

/** Wishes that are looked at: there are seldom more than a few. */
const maxWishes = 10_000

/** Returns which jobs of a node others want to end: so they end as that, also when they would not go on. */
const cancelsOf = ({ store }: JobParts, name: string): Effect.Effect<Moving.Cancels, StoreError> =>
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

/**
 * Takes families, some by each commit, and goes on with them, for as long as their node is not back under its name. `tookOne` is told of
 * each job that this node has then.
 */
const takeAll = (
  parts: JobParts,
  { node }: ClusterService,
  recovery: Recovery,
  families: Array<ReadonlyArray<Moving.Movable>>,
  options: Moving.TakeOptions,
  tookOne: (jobId: string) => void
) =>
  Effect.gen(function* () {
    const { log, metrics, running, turn, unsettled } = parts
    while (families.length > 0 && !running.stopping) {
      const wanted = families.splice(0, familiesAtOnce)
      // Whoever wants something of one waits from before it is this node's until it is known what becomes of it.
      for (const { jobId } of wanted.flat()) unsettled.add(jobId)
      const settleAll = Effect.sync(() => {
        for (const { jobId } of wanted.flat()) unsettled.settle(jobId)
      })
      const taken = yield* Effect.onError(Moving.take(parts, wanted, node, options), () => settleAll)
      const isTaken = new Set(taken.map(({ jobId }) => jobId))
      for (const { jobId } of wanted.flat()) if (!isTaken.has(jobId)) unsettled.settle(jobId)
      log.took(taken)
      for (const jobId of isTaken) tookOne(jobId)
      if (metrics !== undefined) Measuring.taken(taken.length)
      // What cannot be gone on with here is nobody's again: as this node's own nobody would look at it before its next start.
      if (taken.length > 0)
        yield* Effect.tapErrorCause(recovery.recover(taken), () =>
          Effect.zipRight(
            Effect.ignoreLogged(leaveToNobody(parts, Moving.familiesOf(taken.map(Moving.movableOf)))),
            settleAll
          )
        )
      yield* turn.next
    }
  }).pipe(
    Effect.catchTag("NodeIsBack", ({ node }) =>
      Effect.logInfo(`node ${node} is back, and goes on with the jobs that it still has`)
    )
  )

/** Lets go of what waits here of jobs that others go on with: from here on it is for whoever takes them to begin or end it. */
const withdraw = ({ running: { queue } }: JobParts, jobs: ReadonlyArray<Pick<Moving.Movable, "jobId">>) => {
  for (const { jobId } of jobs) {
    const queued = queue.get(jobId)
    if (queued === undefined) continue
    queue.withdraw(queued)
    queue.remove(queued)
  }
}

/** Leaves jobs to nobody, of which nothing runs here; returns how many. Those that look at them from here do so where they go on. */
const leaveToNobody = (parts: JobParts, families: ReadonlyArray<ReadonlyArray<Moving.Movable>>) =>
  Effect.gen(function* () {
    const { log } = parts
    withdraw(parts, families.flat())
    const moved = yield* Moving.move(parts, families, nobody)
    yield* log.left(moved.map(({ jobId }) => jobId))
    return moved.length
  })

/** Looks at jobs that nobody can go on with, as they are damaged, or a part of what is: so many are passed over, about a minute. */
const looksAtDamaged = 60

/** Knows which nodes have left nothing but what cannot be taken: such are seldom looked at, until they are there again. */
class Leftovers {
  private readonly left = new Map<string, number>()

  /** Tells whether it is to be looked at what a node has that is gone. */
  isDue(name: string): boolean {
    const looks = this.left.get(name)
    if (looks === undefined || looks === 0) return true
    this.left.set(name, looks - 1)
    return false
  }
  /** It has been looked at. */
  looked(name: string, hasAny: boolean): void {
    if (hasAny) this.left.delete(name)
    else this.left.set(name, looksAtDamaged)
  }
  /** These have jobs; those that are alive may have others by the time they are gone. */
  retain(names: ReadonlyArray<string>, alive: ReadonlySet<string>): void {
    for (const name of this.left.keys()) if (alive.has(name) || !names.includes(name)) this.left.delete(name)
  }
}

/** Milliseconds for which what cannot go on here is left to nodes that have its agents: a look of theirs, when a wake is lost, and more. */
const leftToOthers = 3_000

/** Knows since when families are there to be taken that cannot go on here. */
class Strangers {
  private readonly since = new Map<string, ReadonlyMap<string, number>>()

  constructor(
    private readonly registry: JobParts["registry"],
    private readonly elapsed: () => number
  ) {}

  /** Returns which of the families that a node has left are to be taken now. */
  due(name: string, families: ReadonlyArray<ReadonlyArray<Moving.Movable>>, areOthers: boolean) {
    return Effect.gen(this, function* () {
      const now = this.elapsed()
      const before = this.since.get(name)
      const strange = new Map<string, number>()
      const isDue = (family: ReadonlyArray<Moving.Movable>) =>
        Effect.map(this.leftFor(family), (ms) => {
          const [first] = family
          if (ms === 0 || !areOthers || first === undefined) return true
          const since = before?.get(first.jobId) ?? now
          strange.set(first.jobId, since)
          return now - since >= ms
        })
      const due = yield* Effect.filter(families, isDue)
      if (strange.size === 0) this.since.delete(name)
      else this.since.set(name, strange)
      return due
    })
  }
  /** Only these have any jobs. */
  retain(names: ReadonlyArray<string>): void {
    for (const name of this.since.keys()) if (!names.includes(name)) this.since.delete(name)
  }

  /**
   * Returns for how many milliseconds a family is left to others. Where nobody has all that it needs, it is first for whoever has the
   * agent of the job above the others: without that nothing of it goes on.
   */
  private leftFor(family: ReadonlyArray<Moving.Movable>): Effect.Effect<number> {
    return Effect.map(
      Effect.filter(family, (job) => Effect.negate(this.has(job))),
      (missing) => {
        if (missing.length === 0) return 0
        const root = Moving.rootOf(family)
        return family.length > 1 && missing.some((job) => job === root) ? 2 * leftToOthers : leftToOthers
      }
    )
  }
  private has({ needs }: Moving.Movable): Effect.Effect<boolean> {
    return needs === undefined
      ? Effect.succeed(true)
      : Effect.map(Effect.either(resolve(this.registry, needs)), Either.isRight)
  }
}

/** What a node remembers from one look to the next. */
interface Memory {
  readonly leftovers: Leftovers
  /** Given when there are jobs that no node has. */
  readonly offered: Signal
  readonly strangers: Strangers
}

/** Takes the jobs of a node that is gone, as far as no other does; tells whether there were any to take. */
const takeFrom = (
  parts: JobParts,
  cluster: ClusterService,
  recovery: Recovery,
  name: string,
  strangers: Strangers,
  areOthers: boolean
) =>
  Effect.gen(function* () {
    const all = yield* Moving.takeable(parts, Moving.familiesOf(yield* Moving.openJobs(parts, name)))
    const families = yield* strangers.due(name, all, areOthers)
    const cancels = families.length === 0 ? Moving.noCancels : yield* cancelsOf(parts, name)
    const taken = new Set<string>()
    // In an order of its own, so that nodes seldom try for the same.
    const shuffled = [...(yield* Random.shuffle(families))]
    const gone = name === nobody ? undefined : name
    const taking = yield* Effect.exit(
      takeAll(parts, cluster, recovery, shuffled, { cancels, gone }, (jobId) => taken.add(jobId))
    )
    // However far it came: what is owed for them nobody else calls.
    yield* parts.hooks.took(taken)
    const count = taken.size
    if (count > 0)
      yield* Effect.logInfo(
        name === nobody
          ? `took ${count} jobs that no node has`
          : `took ${count} jobs of node ${name}, which is gone`
      )
    yield* taking
    return all.length > 0
  })

/** Has one node make the calls of hooks that others have left: each time that it is another list of nodes which are there. */
const inheriting = ({ hooks }: JobParts, { node }: ClusterService) => {
  let known = ""
  let looks = 0
  /** Whether it is time for a look at who is there, also when there is no job to take. */
  const isDue = () => ++looks % looksBetween === 0
  const inherit = (nodes: ReadonlyArray<SeenNode>, alive: ReadonlySet<string>) =>
    Effect.suspend(() => {
      const now = JSON.stringify([...alive])
      if (now === known) return Effect.void
      const inherited = keeperOf(nodes) === node ? hooks.inherit(alive) : Effect.void
      // What could not be read is read at a later look.
      return Effect.tap(inherited, () => {
        known = now
      })
    })
  return { inherit, isDue }
}

const aliveOf = (nodes: ReadonlyArray<SeenNode>): ReadonlySet<string> =>
  new Set(nodes.filter(({ isAlive }) => isAlive).map(({ name }) => name))

/** Takes what no node has, as far as no other does. */
const takeOffered = (
  parts: JobParts,
  cluster: ClusterService,
  recovery: Recovery,
  { strangers }: Pick<Memory, "strangers">
) =>
  Effect.flatMap(cluster.nodes.list, (seen) =>
    takeFrom(parts, cluster, recovery, nobody, strangers, aliveOf(seen).size > 1)
  ).pipe(
    Effect.catchAllCause((cause) =>
      Effect.logWarning("jobs that no node has could not be taken; looking again", cause)
    )
  )

/** Looks for jobs whose node is gone. */
const look = (
  parts: JobParts,
  cluster: ClusterService,
  recovery: Recovery,
  { inherit, isDue }: ReturnType<typeof inheriting>,
  { leftovers, offered, strangers }: Memory,
  sawNodes: (seen: ReadonlyArray<SeenNode>) => void
) =>
  Effect.gen(function* () {
    // In this order: whoever has jobs was there before them.
    const names = yield* parts.store.jobNodes
    const others = names.filter((name) => name !== cluster.node)
    if (!isDue() && others.length === 0) return
    const seen = yield* cluster.nodes.list
    const alive = aliveOf(seen)
    sawNodes(seen)
    strangers.retain(others)
    leftovers.retain(others, alive)
    if (others.includes(nobody)) offered.give()
    for (const name of others) {
      if (parts.running.stopping) return
      if (name === nobody || alive.has(name) || !leftovers.isDue(name)) continue
      // What keeps the jobs of one node from being taken keeps nobody from those of another.
      yield* Effect.catchAllCause(
        Effect.if(cluster.nodes.bury(name), {
          onTrue: () =>
            Effect.map(takeFrom(parts, cluster, recovery, name, strangers, alive.size > 1), (hasAny) =>
              leftovers.looked(name, hasAny)
            ),
          onFalse: () => Effect.void
        }),
        (cause) =>
          Effect.logWarning(`jobs of node ${JSON.stringify(name)} could not be taken; looking again`, cause)
      )
    }
    // Taking takes its time, and whoever came meanwhile calls its own.
    const nodes = others.length === 0 ? seen : yield* cluster.nodes.list
    yield* inherit(nodes, aliveOf(nodes))
  })

/** Takes jobs whose node is gone, for as long as the scope: it looks when it is woken, and once in a while in any case. */
export const start = (parts: JobParts, recovery: Recovery): Effect.Effect<void, never, Scope> =>
  Effect.gen(function* () {
    const { cluster, metrics } = parts
    if (cluster === undefined) return
    if (metrics !== undefined) yield* metrics.watch(Measuring.nodes(cluster))
    const woken = new Signal()
    yield* cluster.wake.listen(cluster.node, () => woken.give())
    const memory = {
      leftovers: new Leftovers(),
      offered: new Signal(),
      strangers: new Strangers(parts.registry, monotonic(yield* Effect.clock))
    }
    const sawNodes = Offering.newcomers(parts, cluster)
    const looking = look(parts, cluster, recovery, inheriting(parts, cluster), memory, sawNodes).pipe(
      Effect.catchAllCause((cause) =>
        Effect.logWarning("jobs whose node is gone could not be taken; looking again", cause)
      )
    )
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(woken.wait, looking)))
    // Beside that: of these there may be very many, and what a node had that is gone waits for none of them.
    const taking = takeOffered(parts, cluster, recovery, memory)
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(memory.offered.wait, taking)))
    woken.give()
  })

/**
 * Lets go of what this node has and does not run any more, for others to take at once: jobs that wait, that have not begun,
 * and those that were left to be run again.
 */
export const handOver = (parts: JobParts): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const { cluster, log, running } = parts
    if (cluster === undefined) return
    const { queue } = running
    // What was emitted until then is stored first, or it is not known to whoever goes on.
    yield* Effect.ignore(log.commit([]))
    const families = Moving.familiesOf(yield* Moving.openJobs(parts, cluster.node)).filter((family) =>
      family.every(({ jobId }) => running.get(jobId) === undefined && queue.get(jobId)?.ending === undefined)
    )
    // All at once: none of them begins while others are left.
    withdraw(parts, families.flat())
    let count = 0
    for (let from = 0; from < families.length; from += familiesAtOnce)
      count += yield* leaveToNobody(parts, families.slice(from, from + familiesAtOnce))
    if (count === 0) return
    for (const { isAlive, name } of yield* cluster.nodes.list)
      if (isAlive && name !== cluster.node) cluster.wake.tell(name)
    yield* Effect.logInfo(`left ${count} jobs to other nodes`)
  })
