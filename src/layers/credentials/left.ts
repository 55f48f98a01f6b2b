/**
 * What is recorded and held by no job: what this runtime has not revoked yet, and what nodes have left that are gone. Of those any
 * other takes the records, all of one node at once, and of two that try one gets each record. So a credential is revoked by the node
 * whose record it is, or by the one that has taken it over; also when its job has ended, was never stored, or is run again elsewhere,
 * where it is minted new ones.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { type ClusterService, nobody } from "../../services/cluster/Cluster.js"
import type { CredentialRecord, SharedCredentials } from "../../services/credentials/CredentialStore.js"
import type { StoreError } from "../../services/store/Store.js"
import type { MintingDependencies } from "./minting.js"
import type { Revoker } from "./Revoker.js"
import { unsettledFrom } from "./unsettled.js"

/** Between two looks at what nodes have left. */
const betweenLooks = Duration.seconds(5)

/** Returns what is this runtime's to revoke: where it is alone, or the store no other's, that is all but what its jobs hold. */
export const ours = ({
  holdings,
  node,
  store
}: MintingDependencies): Effect.Effect<ReadonlyArray<CredentialRecord>, StoreError> =>
  Effect.map(store.list, (records) =>
    records.filter(
      (record) =>
        (node === undefined || store.shared === undefined || record.node === node) &&
        !holdings.isWanted(record)
    )
  )

/** A record as another has left it: until its node was known to be gone it may have asked for it, by whatever clock it had. */
const unsettled = ({ clock, options }: MintingDependencies, record: CredentialRecord): CredentialRecord =>
  record.unsettledUntil === undefined
    ? record
    : {
        ...record,
        unsettledUntil: unsettledFrom(clock.unsafeCurrentTimeMillis(), options)
      }

/** Takes what nodes have left that are gone, and has it revoked. `unanswered`: records may have been taken by it all the same. */
const look = (
  deps: MintingDependencies,
  shared: SharedCredentials,
  { node, nodes }: ClusterService,
  revoker: Revoker,
  unanswered: () => void
) =>
  Effect.gen(function* () {
    // In this order: whoever has records was there before them.
    const others = (yield* shared.nodes).filter((name) => name !== node)
    if (others.length === 0) return
    const alive = new Set((yield* nodes.list).flatMap(({ isAlive, name }) => (isAlive ? [name] : [])))
    const takeOver = (name: string) =>
      Effect.gen(function* () {
        if (name !== nobody && !(yield* nodes.bury(name))) return
        const taken = yield* Effect.onError(shared.take(name, node), () => Effect.sync(unanswered))
        for (const record of taken) revoker.pursue(unsettled(deps, record))
        if (taken.length > 0)
          yield* Effect.logInfo(
            `revoking ${taken.length} credentials that node ${JSON.stringify(name)} has left`
          )
      })
    // What one has left that cannot be taken keeps nobody from taking what others have.
    yield* Effect.validateAll(
      others.filter((name) => !alive.has(name)),
      takeOver,
      { discard: true }
    )
  })

/** Looks at once, and once in a while, for as long as the scope. */
export const inherit = (
  deps: MintingDependencies,
  cluster: ClusterService,
  revoker: Revoker
): Effect.Effect<void, never, Scope> => {
  const { shared } = deps.store
  if (shared === undefined) return Effect.void
  // What was taken, and of which no answer came, is found among what is this node's.
  let isUnsure = false
  const again = Effect.map(ours(deps), (records) => {
    isUnsure = false
    // What was given up is tried again at the next start only.
    for (const record of records) if (record.state !== "failed") revoker.pursue(unsettled(deps, record))
  })
  const unanswered = () => {
    isUnsure = true
  }
  const looking = Effect.suspend(() => (isUnsure ? again : Effect.void)).pipe(
    Effect.zipRight(look(deps, shared, cluster, revoker, unanswered)),
    Effect.catchAllCause((cause) =>
      Effect.logWarning("credentials that nodes have left could not be looked for; looking again", cause)
    )
  )
  return Effect.asVoid(
    Effect.forkScoped(Effect.forever(Effect.zipRight(looking, Effect.sleep(betweenLooks))))
  )
}
