/** What a node tells of its cluster to whoever keeps metrics. */
import * as Effect from "effect/Effect"
import type { ClusterService } from "../../services/cluster/Cluster.js"
import { families, type Sample, type Source } from "../../services/runtime/Metrics.js"

/** Jobs were taken over. */
export const taken = (count: number): void => families.jobsTaken.update(count)

/** Others were told that there is something for them. */
export const told = (count: number): void => families.wakes.update(count, "told")

/** Another node has said that there is something for this one. */
export const heard = (): void => families.wakes.update(1, "heard")

/** Returns what tells which node this is, and which there are; only that, when they cannot be listed. */
export const nodes = ({ node, nodes: { list } }: ClusterService): Source => {
  const self: Sample = [families.node, 1, node]
  return list.pipe(
    Effect.map((all): ReadonlyArray<Sample> => {
      const alive = all.filter(({ isAlive }) => isAlive).length
      return [self, [families.nodes, alive, "alive"], [families.nodes, all.length - alive, "gone"]]
    }),
    // That the store fails is told by its commits.
    Effect.catchAll(() => Effect.succeed([self]))
  )
}
