/** What `arcp nodes` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Nodes } from "../../../services/cluster/Nodes.js"
import { Store, StoreError } from "../../../services/store/Store.js"
import { aligned, stdoutColumns } from "../columns.js"
import type { NodesFlags } from "../observe.js"
import { json } from "../text.js"
import { age } from "../time.js"
import { UsageError } from "../UsageError.js"
import { postgresOf } from "./stored.js"

/** How many jobs each node has that have not ended. */
const openJobs = Effect.flatMap(Store, ({ nodeCounts }) => Effect.map(nodeCounts, ({ jobs }) => jobs))

export const run = (flags: NodesFlags) =>
  Effect.gen(function* () {
    const url = yield* postgresOf({ db: undefined, pg: flags.pg })
    if (Option.isNone(url))
      return yield* new UsageError({ message: "nodes share a Postgres: give --pg URL, or ARCP_PG" })
    const [NodesPg, beside] = yield* Effect.promise(() =>
      Promise.all([
        import("../../../layers/cluster/NodesPg.js"),
        import("../../../layers/store/pg/beside.js")
      ])
    )
    // First: it refuses tables of another version, which a list of nodes would bring up to date.
    const jobs = yield* Effect.provide(openJobs, beside.layerReadOnly(url.value))
    const seen = yield* Nodes.pipe(
      Effect.flatMap(({ list }) => list),
      Effect.provide(NodesPg.layer({ url: url.value })),
      Effect.mapError((error) =>
        error instanceof StoreError ? error : new StoreError({ message: String(error) })
      )
    )
    const now = Date.now()
    const nodes = seen.map(({ address, isAlive, name, silentFor, startedAt, version }) => ({
      node: name,
      state: isAlive ? ("alive" as const) : ("gone" as const),
      address,
      version,
      started_at: new Date(startedAt).toISOString(),
      silent_ms: Math.round(silentFor),
      jobs: jobs.get(name) ?? 0
    }))
    if (flags.json) return yield* Effect.forEach(nodes, (node) => Console.log(json(node)), { discard: true })
    if (nodes.length === 0) return yield* Console.error("no nodes")
    const rows = nodes.map((node) => [
      node.node,
      node.state,
      node.address ?? "",
      node.version,
      age(now - Date.parse(node.started_at)),
      age(node.silent_ms),
      String(node.jobs)
    ])
    const headings = ["NODE", "STATE", "ADDRESS", "VERSION", "UP", "SILENT", "JOBS"]
    for (const line of aligned([headings, ...rows], stdoutColumns())) yield* Console.log(line)
  })
