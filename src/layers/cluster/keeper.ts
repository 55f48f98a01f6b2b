/**
 * Which of the nodes does what one is to do for all: the one that has been there for longest. That two take themselves for it for a
 * moment must cost nothing but the work.
 */
import type { SeenNode } from "../../services/cluster/Nodes.js"

/** Returns the name of the node that does what one does for all; `undefined` when none is alive. */
export const keeperOf = (nodes: ReadonlyArray<SeenNode>): string | undefined =>
  nodes
    .filter(({ isAlive }) => isAlive)
    .sort((a, b) => a.startedAt - b.startedAt || (a.name < b.name ? -1 : 1))
    .at(0)?.name
