/**
 * Jobs that sessions on other nodes observe. After a commit that appends to one of them its node wakes those nodes: once for
 * whatever has come until the wake goes out, never in the commit, and with nothing in it; they read what is stored. Which nodes
 * these are is found in the store: when somebody says that a session there has begun to observe something here, when a session of
 * this node has moved, and every so often. One that is not known, or not woken, looks by itself once a second.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ClusterService, matter, nobody } from "../../services/cluster/Cluster.js"
import { Signal } from "../../services/runtime/Signal.js"
import type { StoreError, StoreService } from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"
import type { LiveLogs } from "./Live.js"

/** Looks of a node, one a second, between two in which it finds out anew who watches. */
const looksBetween = 10

/** Between two times that a node finds out who watches, whoever says that somebody does. */
const pause = "100 millis"

/** Tells the nodes of sessions that observe jobs of this one. */
export interface Watchers {
  /** Something was appended to these jobs. */
  readonly appended: (jobs: Iterable<JobState>) => void
  /** A job was opened: whoever watches the one that delegated to it may watch it too. */
  readonly opened: (job: JobState) => void
  /** A session of this node has begun to observe a job of another. */
  readonly begun: (node: string) => void
}

/** What it works on. */
interface Parts {
  readonly cluster: ClusterService
  readonly store: StoreService
  readonly live: LiveLogs
  /** Looks at what sessions of this node observe on others. */
  readonly look: () => void
}

/** Finds the nodes whose sessions observe jobs of this one. */
const find = ({ cluster, live, store }: Parts): Effect.Effect<Map<string, Set<string>>, StoreError> =>
  Effect.gen(function* () {
    const found = new Map<string, Set<string>>()
    const own = [...live.jobs.values()].filter(({ closed, foreignTo }) => !closed && foreignTo === undefined)
    if (own.length === 0) return found
    const observers = yield* store.observersOf(own.map(({ jobId }) => jobId))
    const absent = new Set([...observers.values()].flat().filter((sessionId) => !live.views.has(sessionId)))
    if (absent.size === 0) return found
    const places = yield* store.sessionPlaces([...absent])
    for (const [jobId, sessionIds] of observers)
      for (const sessionId of sessionIds) {
        const node = places.get(sessionId)?.node
        if (node === undefined || node === "" || node === cluster.node) continue
        const nodes = found.get(jobId)
        if (nodes === undefined) found.set(jobId, new Set([node]))
        else nodes.add(node)
      }
    return found
  })

/** Makes what tells other nodes, and hears of them, for the scope. */
export const make = (parts: Parts): Effect.Effect<Watchers, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { cluster, live } = parts
    let watched = new Map<string, Set<string>>()
    const due = new Signal()
    let looks = 0
    live.onMoved = () => due.give()
    const wake = (node: string) => cluster.wake.tell(matter(node, "events"))
    const refresh = Effect.map(find(parts), (found) => {
      const before = watched
      watched = found
      const isNew = ([jobId, nodes]: readonly [string, ReadonlySet<string>]) =>
        [...nodes].filter((node) => before.get(jobId)?.has(node) !== true)
      // What was appended before they were known.
      for (const node of new Set([...found].flatMap(isNew))) wake(node)
    })
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.zipRight(
          Effect.zipRight(
            due.wait,
            Effect.catchAllCause(refresh, (cause) =>
              Effect.logWarning("who watches jobs of this node could not be found out", cause)
            )
          ),
          Effect.sleep(pause)
        )
      )
    )
    yield* cluster.wake.listen(matter(cluster.node, "watchers"), (isTold) => {
      if (isTold || ++looks % looksBetween === 0) due.give()
    })
    yield* cluster.wake.listen(matter(cluster.node, "events"), parts.look)
    return {
      appended: (jobs) => {
        if (watched.size === 0) return
        for (const { jobId } of jobs) for (const node of watched.get(jobId) ?? []) wake(node)
      },
      opened: ({ jobId, parentJobId }) => {
        const nodes = parentJobId === undefined ? undefined : watched.get(parentJobId)
        if (nodes !== undefined) watched.set(jobId, nodes)
      },
      begun: (node) => {
        if (node !== nobody) cluster.wake.tell(matter(node, "watchers"))
      }
    }
  })
