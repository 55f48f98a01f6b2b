/** Which nodes there are, and which of them are alive. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../store/Store.js"

/** What a node says of itself. */
export interface NodeInfo {
  /** By which others know it: the same after a restart, and of one node at a time. */
  readonly name: string
  /** Where others reach it, `HOST:PORT`; absent when they do not. */
  readonly address: string | undefined
  /** Of this package. */
  readonly version: string
}

/** A node as others see it. Times are those of whoever keeps the list, in milliseconds, so clocks of nodes need not agree. */
export interface SeenNode extends NodeInfo {
  readonly startedAt: number
  /** How long ago it has said that it is alive. */
  readonly silentFor: number
  /** It has said so within its expiry. */
  readonly isAlive: boolean
}

/** Somebody else has the name of a node, and is alive. */
export class NameTaken extends Data.TaggedError("NameTaken")<{ readonly name: string }> {}

/**
 * A node is one no more: another has its name since, or it could not say that it is alive for as long as others wait for that.
 * What it runs, others may run by now.
 */
export class NodeLost extends Data.TaggedError("NodeLost")<{
  readonly name: string
  readonly why: "replaced" | "silent"
}> {}

/** What keeps the list of nodes; see {@link Nodes}. */
export interface NodesService {
  /**
   * Adds a node for the scope, and says that it is alive for as long. Whoever had the name, and has been silent for its
   * expiry, is replaced. The effect that it gives fails when the node is one no more.
   */
  readonly join: (
    node: NodeInfo
  ) => Effect.Effect<Effect.Effect<never, NodeLost>, NameTaken | StoreError, Scope.Scope>
  /**
   * Has a node that is not alive be one no more, whatever it still does: it is told when it asks, and of what it writes to a
   * store that nodes share nothing is stored. Returns whether none of that name is alive.
   */
  readonly bury: (name: string) => Effect.Effect<boolean, StoreError>
  /** All nodes by name, those included that have gone without a word, for an hour. */
  readonly list: Effect.Effect<ReadonlyArray<SeenNode>, StoreError>
  /** The time of whoever keeps the list, in epoch ms. */
  readonly time: Effect.Effect<number, StoreError>
}

/**
 * Keeps the list of nodes. It says who is to be asked, and who may be given work; that nothing is written twice never rests on
 * it, but on the epochs of commits.
 */
export class Nodes extends Context.Tag("arcp/services/Nodes")<Nodes, NodesService>() {}
