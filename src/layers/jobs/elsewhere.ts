/** What is asked of a job that runs on another node of the cluster, and that only its own node can do. */
import * as Effect from "effect/Effect"
import { InternalError } from "../../protocol/Errors.js"
import * as Cluster from "../../services/cluster/Cluster.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { JobParts } from "./JobParts.js"

/** Fails when a job has not ended and is another node's: what is written of it is that node's to write. */
export const isHere = (
  { cluster }: Pick<JobParts, "cluster">,
  record: Pick<JobRecord, "node" | "endedAt">
): Effect.Effect<void, InternalError> =>
  record.endedAt !== undefined || Cluster.isOurs(cluster, record)
    ? Effect.void
    : new InternalError({
        message: `this job is on another node (${record.node ?? "none"}), and nothing was done; ask there`,
        details: { reason: "other_node", ...(record.node === undefined ? {} : { node: record.node }) }
      })
