/**
 * A connection: whole frames in order, nothing else. Every transport gives the same interface, and
 * everything above it behaves alike on all of them (§4).
 */
import type * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

/** What arrives: the text of a frame, or why a frame could not be one. */
export type Inbound = string | Unreadable

/** A frame that is not a text frame; a protocol error, not the end of the connection. */
export class Unreadable {
  readonly _tag = "Unreadable"
  readonly reason: string

  constructor({ reason }: { readonly reason: string }) {
    this.reason = reason
  }
}

/** The connection ended. `code` is a WebSocket close code; other transports use the same numbers. */
export class Closed extends Data.TaggedError("Closed")<{
  readonly code: number
  readonly reason: string
  /** The peer sends no more, and still reads: what is sent until `close` reaches it. */
  readonly stillReads?: boolean | undefined
}> {}

/** The connection could not be made, or was not usable. */
export class TransportError extends Data.TaggedError("TransportError")<{
  readonly message: string
  readonly cause?: unknown
  /** Milliseconds for which the other end has asked not to be dialled again. */
  readonly retryAfter?: number | undefined
}> {
  readonly code = "TRANSPORT_ERROR"
  readonly retryable = true
}

/** Close codes we use. */
export const closeCode = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  abnormal: 1006,
  policy: 1008,
  tooBig: 1009,
  tryLater: 1013,
  superseded: 4001,
  heartbeatLost: 4002,
  tokenEnded: 4003
} as const

/** A certificate that a client has shown and the TLS server has verified. */
export interface ClientCertificate {
  /** The fields of its subject, such as `CN`; a field that it has several times is an array. */
  readonly subject: Readonly<Record<string, string | ReadonlyArray<string>>>
  /** As OpenSSL writes it: `DNS:a.example.com, URI:spiffe://…`. */
  readonly subjectAltName?: string | undefined
  /** SHA-256 of the certificate, in hexadecimal with colons. */
  readonly fingerprint256: string
  /** Epoch milliseconds after which it is no longer valid. */
  readonly validTo: number
}

/** What a peer has shown of itself while it connected, beside where it is. */
export interface Evidence {
  /** The IP address of the other end, which may be a proxy's; absent on a Unix socket. */
  readonly address?: string | undefined
  /**
   * The headers of the upgrade request by lower-case name, each value as often as it was sent. All are redacted: which
   * of them are secrets is not known here. Absent, like the certificate, when a web page was let in by the origin `*`
   * alone: browsers send cookies and certificates for any page, so they say nothing about who asks.
   */
  readonly headers?: Readonly<Record<string, ReadonlyArray<Redacted.Redacted> | undefined>> | undefined
  /** The client's certificate, if it has shown one and the TLS server trusts it. */
  readonly certificate?: ClientCertificate | undefined
}

/** Who is at the other end of a connection, as far as the transport knows. */
export interface Peer extends Evidence {
  /** By what it is connected. */
  readonly kind: "websocket" | "stdio" | "memory" | "http"
  /** Where it is, for logs. */
  readonly remote: string
}

/** One connection: gives inbound frames in order, takes outbound ones in batches (§4). */
export interface Connection {
  /** `websocket`, `stdio`, `memory` or `http`, and where the peer is; for logs. */
  readonly kind: Peer["kind"]
  readonly remote: string
  /**
   * By what failed logins are slowed down, apart from those of others: the address of the client, also behind a proxy that
   * is trusted. Absent where peers have none.
   */
  readonly client?: string | undefined
  /**
   * What is sent crosses a network in the clear: neither TLS, nor within this machine. No credentials of jobs go there, though the jobs
   * have them. Default: `false`, as within the process.
   */
  readonly exposed?: boolean | undefined
  /** What else the peer has shown of itself. Given once, for the hello: afterwards the connection does not hold it. */
  readonly evidence?: Effect.Effect<Evidence> | undefined
  /**
   * All frames that have arrived since the last call, at least one; waits for the first. Reading pauses
   * when the consumer does not call: a bounded number of frames is held. Fails once closed and drained.
   */
  readonly take: Effect.Effect<Chunk.Chunk<Inbound>, Closed>
  /**
   * Hands frames over in order and returns when there is room for more, at the earliest on the next
   * turn of the event loop, so that a busy writer never starves its neighbours. Never fails: after a
   * close, frames are dropped and `take` tells.
   */
  readonly send: (frames: ReadonlyArray<string>) => Effect.Effect<void>
  /**
   * Returns how far the peer has got with what is being sent, to be compared only: another value whenever it has taken some
   * of it, also of a single large frame, and the same as long as it takes none. What the system holds for it counts as taken.
   */
  readonly progress: () => string
  /** Flushes what was sent and closes. Idempotent; returns when the transport is gone or after 2 s. */
  readonly close: (code: number, reason: string) => Effect.Effect<void>
  /** Sets the largest inbound frame from now on, in bytes. A larger one closes with 1009. */
  readonly setMaxFrameBytes: (bytes: number) => Effect.Effect<void>
  /**
   * Returns once the peer may go away, or be cut off, without the transport telling. Before that nobody has to ask whether
   * it is there. Only for transports of which this is known; of others it is so from the start.
   */
  readonly mayFallSilent?: Effect.Effect<void> | undefined
  /**
   * Many ask over it, and whoever writes it passes on what each of them asks: a request that is malformed is the fault of the one who
   * is told so, and no reason to end what the others share. Only of connections that this process has with itself.
   */
  readonly isShared?: boolean | undefined
  /** The peer has said who it is. Only for transports that bound how many of their peers have not. */
  readonly greeted?: Effect.Effect<void> | undefined
}

/**
 * The server side: connections as they come, for one consumer, which closes each when it is done with
 * it. Those still open when the layer's scope closes are closed with 1001.
 */
export class TransportServer extends /* @__PURE__ */ Context.Tag("arcp/services/TransportServer")<
  TransportServer,
  {
    /** `ws://host:port/path` as bound, `stdio:` or `memory:`. */
    readonly address: string
    readonly connections: Stream.Stream<Connection>
  }
>() {}

/** The client side: opens a connection that is closed with the scope. */
export class Dialer extends Context.Tag("arcp/services/Dialer")<
  Dialer,
  {
    readonly connect: Effect.Effect<Connection, TransportError, Scope.Scope>
    /** The runtime ends with the connection: a client does not close one only to read again from further back. */
    readonly ephemeral?: boolean | undefined
  }
>() {}
