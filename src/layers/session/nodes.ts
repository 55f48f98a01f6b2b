/** Which nodes there are, and what each of them has, for those who run them. */
import * as Effect from "effect/Effect"
import { PermissionDenied } from "../../protocol/Errors.js"
import type { Identity } from "../../services/auth/Auth.js"
import type { Policy } from "../../services/auth/Policy.js"
import type { ClusterService } from "../../services/cluster/Cluster.js"
import type { Sessions } from "../../services/session/Sessions.js"
import { type StoreService, toInternalError } from "../../services/store/Store.js"

/** What nodes are listed from. */
export interface NodesServices {
  readonly cluster: ClusterService | undefined
  readonly store: StoreService
  readonly policy: Policy["Type"]
}

/** How long an answer holds: however many look, the store is asked as often as for one. */
const holds = "3 seconds"

const unread = toInternalError("the nodes could not be read")

const look = ({ node, nodes }: ClusterService, store: StoreService) =>
  Effect.map(Effect.all([store.nodeCounts, nodes.list]), ([counts, seen]) =>
    seen.map((each) => ({
      ...each,
      isSelf: each.name === node,
      jobs: counts.jobs.get(each.name) ?? 0,
      sessions: counts.sessions.get(each.name) ?? 0
    }))
  )

/** Makes what lists nodes. */
export const make = ({ cluster, policy, store }: NodesServices): Effect.Effect<Sessions["Type"]["nodes"]> =>
  Effect.gen(function* () {
    if (cluster === undefined) return () => Effect.succeed([])
    const looked = Effect.mapError(look(cluster, store), unread)
    // Whoever begins it may leave; others wait for it too.
    const listed = yield* Effect.cachedWithTTL(Effect.uninterruptible(looked), holds)
    const mayLook = (identity: Identity) =>
      Effect.zipWith(
        policy.listable(identity),
        policy.deletable?.(identity) ?? Effect.succeed([]),
        (listable, deletable) => listable === "everyone" || deletable === "everyone"
      )
    return (identity: Identity) =>
      Effect.gen(function* () {
        if (yield* mayLook(identity)) return yield* listed
        return yield* new PermissionDenied({
          message: "nodes are told to those who may list or delete everybody's jobs"
        })
      })
  })
