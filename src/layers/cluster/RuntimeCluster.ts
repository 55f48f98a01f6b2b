/**
 * What makes a runtime a node of a cluster: the store that it shares with the others, and its place among them. All of it is one
 * Postgres: who is there, who has what, and what was written stand in the same tables, so no two of them can disagree for
 * longer than a statement takes.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import * as Argument from "../../protocol/Argument.js"
import { Cluster } from "../../services/cluster/Cluster.js"
import { type NodeInfo, type NodeLost, Nodes, type NodesService } from "../../services/cluster/Nodes.js"
import { Wake } from "../../services/cluster/Wake.js"
import { inRealTime } from "../../services/runtime/within.js"
import { Store, StoreError } from "../../services/store/Store.js"
import * as StorePg from "../store/pg/StorePg.js"
import * as NodesPg from "./NodesPg.js"
import { ownName } from "./ownName.js"
import * as SharedClock from "./SharedClock.js"
import * as WakePg from "./WakePg.js"

/** Options of a runtime that is a node. */
export interface Options extends Omit<StorePg.Options, "lease" | "node"> {
  /**
   * Its name, by which others know it: of one runtime at a time; up to 255 letters, digits and `. _ : @ / + ~ -`. One that keeps it goes on with its own jobs and sessions after a
   * restart; what a name leaves that does not come back others take. Default: the name of the machine, and something random.
   */
  readonly node?: string | undefined
  /** Where others, and whoever runs them, reach it: `HOST:PORT`. It is only shown. */
  readonly advertise?: string | undefined
  /** Shown with it. */
  readonly version?: string | undefined
  /**
   * After how long without a sign of life others take a node for gone, and go on with its jobs. It says so three times in that
   * time. Default: 6 seconds.
   */
  readonly expiry?: Duration.DurationInput | undefined
}

const optionsRule = Argument.options<Options>({
  ...StorePg.optionRules,
  advertise: Argument.maybe(Argument.string),
  version: Argument.maybe(Argument.string),
  expiry: Argument.maybe(Argument.positiveDuration)
})

const usualExpiry = Duration.seconds(6)

/** Between two tries for a name that somebody has who may be gone. */
const again = Schedule.spaced("200 millis")

/** Joins; waits for as long as it takes until whoever had the name is taken for gone, and fails when that is alive. */
const joined = ({ join }: NodesService, info: NodeInfo, expiry: Duration.Duration) =>
  Effect.gen(function* () {
    const until = performance.now() + 1.5 * Duration.toMillis(expiry)
    return yield* join(info).pipe(
      inRealTime,
      Effect.retry({
        schedule: again,
        while: (error) => error._tag === "NameTaken" && performance.now() < until
      }),
      Effect.catchTag(
        "NameTaken",
        ({ name }) =>
          new StoreError({
            message: `there is a node ${name}, which is alive; give each node a name of its own`
          })
      )
    )
  })

const told = ({ name, why }: NodeLost): StoreError =>
  new StoreError({
    message:
      why === "replaced"
        ? `node ${name} was taken for gone by others, which go on with what it ran; start it again`
        : `node ${name} could not say that it is alive, and others go on with what it ran; start it again`,
    publicMessage: "this node is none any more",
    fenced: true
  })

const make = (
  options: Options
): Effect.Effect<Context.Context<StorePg.Stores | Cluster>, StoreError, Scope> =>
  Effect.gen(function* () {
    const { advertise, expiry: given, node, version = "", ...rest } = options
    const name = node ?? ownName()
    const expiry = Duration.decode(given ?? usualExpiry)
    // First: it brings the tables up to date, which only whoever may write to them does.
    const stores = yield* StorePg.open({ ...rest, node: name, lease: expiry })
    const store = Context.get(stores, Store)
    const { prefix = "arcp_", url } = options
    const others = yield* Layer.build(
      Layer.merge(
        NodesPg.layer({ url, prefix, expiry }),
        WakePg.layer({ url, prefix: prefix.replace(/_$/, "") })
      )
    )
    const nodes = Context.get(others, Nodes)
    yield* SharedClock.use(nodes.time)
    const lost = yield* joined(nodes, { name, address: advertise, version }, expiry)
    const gone = Effect.mapError(lost, told)
    const died = store.died === undefined ? gone : Effect.raceFirst(store.died, gone)
    return stores.pipe(
      Context.add(Store, { ...store, died }),
      Context.add(Cluster, { node: name, nodes, wake: Context.get(others, Wake) })
    )
  })

/**
 * Provides the stores of a runtime that is one of several on a Postgres (of all that it keeps, and of the credentials that are
 * provisioned for its jobs), and its place among them, for the lifetime of the layer. What is built on it has the clock of
 * Postgres, as all nodes have.
 * Needs the package `pg`, and a connection that no pooler in transaction mode is in the way of, since it listens.
 *
 * When it is a node no more (it could not say for `expiry` that it is alive, or was stopped for as long) nothing that it writes
 * is stored, its event log stops, and the process is to be started again.
 *
 * @example
 * Runtime.layer().pipe(Layer.provideMerge(RuntimeCluster.layer({ url, node: "a", advertise: "10.0.0.1:7777" })))
 */
export const layer = (options: Options): Layer.Layer<StorePg.Stores | Cluster, StoreError> => {
  Argument.check("RuntimeCluster.layer", ["options", optionsRule, options])
  return Layer.scopedContext(make(options))
}
