/** The runtime's door: a connection goes in, a session is opened or resumed, and served until it ends. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { InternalError, PermissionDenied, Unauthenticated } from "../../protocol/Errors.js"
import type { About } from "../agents/Agent.js"
import type { Identity } from "../auth/Auth.js"
import type { SeenNode } from "../cluster/Nodes.js"
import type { Connection, Peer } from "../transport/Transport.js"

/** A session as those see it who may list it. */
export interface ListedSession {
  readonly sessionId: string
  readonly principal: string
  /** Whether a connection is attached; else it can be resumed for a while. */
  readonly isConnected: boolean
  /** Epoch ms. */
  readonly createdAt: number
  /** Epoch ms of its last message. */
  readonly lastSeenAt: number
  /** Events that it was sent, or is owed, and has not acknowledged; `undefined` where it acknowledges none. */
  readonly lag: number | undefined
}

/** An agent that may be used. */
export interface UsableAgent {
  readonly name: string
  readonly default?: string | undefined
  readonly versions: ReadonlyArray<{ readonly version: string; readonly about: About }>
}

/** A node of the cluster as those see it who run it. */
export interface ListedNode extends SeenNode {
  /** Whether it is the one that was asked. */
  readonly isSelf: boolean
  /** Jobs of it that have not ended. */
  readonly jobs: number
  /** Sessions of it that are connected. */
  readonly sessions: number
}

/** Serves the connections of a transport: one session each, which outlives its connection (§6). */
export class Sessions extends Context.Tag("arcp/services/Sessions")<
  Sessions,
  {
    /**
     * Serves one connection: handshake, dispatch, delivery, heartbeats. Returns when the transport is
     * gone; the session and its jobs live on for the resume window. Never fails.
     */
    readonly serve: (connection: Connection) => Effect.Effect<void>
    /** Returns whether a shutdown has begun: nobody comes in any more. */
    readonly isStopping: Effect.Effect<boolean>
    /**
     * Tells who asks for something without a session of their own, as a hello would: failed logins of an address are slowed
     * down together with those of hellos. Fails with `InternalError` when that cannot be told at the moment.
     */
    readonly authenticate: (
      peer: Peer & Pick<Connection, "client">,
      token: Redacted.Redacted | undefined
    ) => Effect.Effect<Identity, Unauthenticated | InternalError>
    /** Returns the agents that this identity may use now; a welcome says which it might use when its session was opened. */
    readonly agents: (identity: Identity) => Effect.Effect<ReadonlyArray<UsableAgent>>
    /** Returns the sessions of those whose jobs this identity may list, in the order in which they were opened. */
    readonly list: (identity: Identity) => Effect.Effect<ReadonlyArray<ListedSession>>
    /**
     * Returns the nodes of the cluster, to an identity that may list, or have deleted, everybody's jobs: none of a runtime that is alone. The
     * answer is a few seconds old at the most. Fails with `InternalError` when the store does not answer.
     */
    readonly nodes: (
      identity: Identity
    ) => Effect.Effect<ReadonlyArray<ListedNode>, PermissionDenied | InternalError>
    /**
     * Ends the sessions of a principal for good, those that are connected too, and those of other nodes: they cannot be resumed. Their
     * jobs go on. Returns how many there were.
     */
    readonly forget: (principal: string) => Effect.Effect<number, InternalError>
    /**
     * Graceful shutdown (§6.7): refuses new connections and submits, gives running jobs the shutdown
     * grace, ends the rest, sends `session.bye {reason: "shutdown"}` everywhere and closes.
     */
    readonly shutdown: Effect.Effect<void>
  }
>() {}
