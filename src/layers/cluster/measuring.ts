/** What a node tells of its cluster to whoever keeps metrics. */
import * as Effect from "effect/Effect"
import type { ClusterService } from "../../services/cluster/Cluster.js"
import { families, type Source } from "../../services/runtime/Metrics.js"

/** Jobs were taken over. */
export const taken = (count: number): void => families.jobsTaken.update(count)

/** Others were told that there is something for them. */
export const told = (count: number): void => families.wakes.update(count, "told")

/** Another node has said that there is something for this one. */
export const heard = (): void => families.wakes.update(1, "heard")

/** Returns what tells which nodes there are; none, when they cannot be listed. */
export const nodes = ({ nodes: { list } }: ClusterService): Source =>
  list.pipe(
    Effect.map((all) => {
      const alive = all.filter(({ isAlive }) => isAlive).length
      return [
        [families.nodes, alive, "alive"] as const,
        [families.nodes, all.length - alive, "gone"] as const
      ]
    }),
    // That the store fails is told by its commits.
    Effect.catchAll(() => Effect.succeed([]))
  )
