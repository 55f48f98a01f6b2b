/** Runtimes that are nodes of a cluster on one Postgres. */

export { layer, type Options } from "../layers/cluster/RuntimeCluster.js"
export type { Cluster } from "../services/cluster/Cluster.js"
