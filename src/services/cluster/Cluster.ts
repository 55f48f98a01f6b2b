/** That a runtime is one of several over one store, its nodes; which of them it is, and how it reaches the others. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { NodesService } from "./Nodes.js"
import type { WakeService } from "./Wake.js"

/** What a runtime that is a node knows of its cluster. */
export interface ClusterService {
  /** The name of this node: whatever it runs or holds is stored with it. */
  readonly node: string
  readonly nodes: NodesService
  readonly wake: WakeService
}

/** The node of what no node has: it was left to whoever takes it. */
export const nobody = ""

/** A runtime that finds it in its context is a node of it; one without it has its store for itself. */
export class Cluster extends Context.Tag("arcp/services/Cluster")<Cluster, ClusterService>() {}

/** The cluster of which the runtime here is a node; nothing where it is alone. */
export const here: Effect.Effect<ClusterService | undefined> = Effect.map(
  Effect.serviceOption(Cluster),
  Option.getOrUndefined
)

/**
 * What a node is woken for: sessions of its own that others have taken, events of others' jobs, who watches its own, or what is
 * wanted of them.
 */
export type Matter = "sessions" | "events" | "watchers" | "wishes"

/** Returns the name by which a node is woken for something. */
export const matter = (node: string, what: Matter): string => `${node}/${what}`

/** Returns whether what is stored is this runtime's to go on with: of one that is alone all is. */
export const isOurs = (
  cluster: ClusterService | undefined,
  { node }: { readonly node?: string | undefined }
): boolean => cluster === undefined || node === cluster.node
