/** What one node does for all: it drops what nodes that are gone have left, and nobody takes. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { ClusterService } from "../../services/cluster/Cluster.js"
import type { SeenNode } from "../../services/cluster/Nodes.js"
import { mapSessions } from "../../services/store/paged.js"
import { Op } from "../../services/store/Store.js"
import { keeperOf } from "../cluster/keeper.js"
import { sinceOf, surviving } from "../session/surviving.js"
import type { JobParts } from "./JobParts.js"

/** Between two looks. */
const sweepEvery = Duration.seconds(30)

/** Wishes that are looked at: of those that live nobody needs more. */
const page = 1_000

/** What sweeping works on. */
export type SweepParts = Pick<JobParts, "now" | "store" | "turn"> & {
  readonly log: Pick<JobParts["log"], "dropView">
  readonly options: Pick<JobParts["options"], "resumeWindow">
}

/**
 * Drops sessions whose node is gone, and that nobody has resumed within their window. Each drop states the epoch of its session.
 */
const sweepSessions = (parts: SweepParts, seen: ReadonlyMap<string, SeenNode>, node: string) =>
  Effect.gen(function* () {
    const { log, now, options, store, turn } = parts
    const at = now()
    const lives = yield* store.lives
    const alive = [...seen.values()].flatMap(({ isAlive, name }) => (isAlive ? [name] : []))
    const over = yield* mapSessions(store, { notOf: [node, ...alive] }, (record) =>
      // One that was attached was seen for as long as its node was.
      surviving(record, sinceOf(lives, record, at, options)).left > 0 ? [] : [record]
    )
    for (const record of over.flat()) {
      yield* log.dropView(record)
      yield* turn.next
    }
  })

/** Drops wishes of nodes that are gone: what has been answered to nobody, and what nobody can grant any more. */
const sweepWishes = ({ store }: SweepParts, seen: ReadonlyMap<string, SeenNode>) =>
  Effect.gen(function* () {
    const wishes = yield* store.wishes(undefined, page)
    const ids = wishes
      .filter(({ from }) => seen.get(from)?.isAlive !== true)
      .filter(({ answer, job }) => answer !== undefined || job === undefined || job.ended)
      .map(({ id }) => id)
    if (ids.length > 0) yield* store.commit({ ops: [Op.DropWishes({ ids })], owners: [] })
  })

/**
 * Forgets when nodes have lived of which no session can be resumed any more: names need not come back, and each resume reads all of
 * them. Twice the window, and a minute, is more than any session has after that.
 */
const sweepLives = ({ now, options, store }: SweepParts) =>
  Effect.gen(function* () {
    const before = Math.floor(now() - 2 * Duration.toMillis(options.resumeWindow)) - 60_000
    const lives = yield* store.lives
    if ([...lives.values()].some((at) => at < before))
      yield* store.commit({ ops: [Op.ForgetLives({ before })], owners: [] })
  })

/** Does one of several, none of which waits for another to go well. */
const apart = <E>(what: string, sweeping: Effect.Effect<void, E>): Effect.Effect<void> =>
  Effect.catchAllCause(sweeping, (cause) =>
    Effect.logWarning(`${what} of nodes that are gone could not be dropped; looking again`, cause)
  )

/** Sweeps, when this node is the one that does. */
export const sweep = (parts: SweepParts, { node, nodes }: Pick<ClusterService, "node" | "nodes">) =>
  Effect.gen(function* () {
    const all = yield* nodes.list
    if (keeperOf(all) !== node) return
    const seen = new Map(all.map((one) => [one.name, one]))
    yield* apart("sessions", sweepSessions(parts, seen, node))
    yield* apart("wishes", sweepWishes(parts, seen))
    yield* apart("lives", sweepLives(parts))
  })

/** Sweeps every so often, for as long as the scope. */
export const start = (parts: JobParts): Effect.Effect<void, never, Scope> => {
  const { cluster } = parts
  if (cluster === undefined) return Effect.void
  const sweeping = Effect.catchAllCause(sweep(parts, cluster), (cause) =>
    Effect.logWarning("which nodes are there could not be read; looking again", cause)
  )
  return Effect.asVoid(Effect.forkScoped(Effect.forever(Effect.delay(sweeping, sweepEvery))))
}
