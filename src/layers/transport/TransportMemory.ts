/**
 * Connections inside one process (§4): for tests, and for runtime and client in one program. Frames go
 * over as they are; order, limits, back-pressure and closing are those of a socket. No Node built-ins.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import type * as Scope from "effect/Scope"
import { exceeds } from "../../protocol/Utf8.js"
import { Turn } from "../../services/runtime/Turn.js"
import {
  Closed,
  type Connection,
  closeCode,
  Dialer,
  TransportError,
  TransportServer
} from "../../services/transport/Transport.js"
import { tooBig } from "./Inbox.js"
import { PausingInbox } from "./PausingInbox.js"

/** What a server takes before the handshake is over, and a client ever, unless told otherwise. */
const serverFrameBytes = 64 * 1024
const clientFrameBytes = 16 * 1024 * 1024

const nextTurn = Effect.flatMap(Turn, (turn) => turn.next)

class End {
  readonly waiting = new Set<() => void>()
  /** How often its reader has taken all that a sender waited with. */
  taken = 0
  readonly inbox = new PausingInbox({
    pause: () => {},
    resume: () => {
      this.taken++
      this.wake()
    }
  })

  constructor(public maxFrameBytes: number) {}

  wake() {
    for (const resume of [...this.waiting]) resume()
  }

  end(closed: Closed) {
    this.inbox.end(closed)
    this.wake()
  }
}

const connection = (own: End, peer: End): Connection => {
  const close = (closed: Closed) => {
    own.end(closed)
    peer.end(closed)
  }
  const isFull = () => peer.inbox.paused && !peer.inbox.ended
  const room = Effect.async<void>((resume) => {
    // It may have been read since it was full.
    if (!isFull()) return resume(Effect.void)
    const done = () => {
      peer.waiting.delete(done)
      resume(Effect.void)
    }
    peer.waiting.add(done)
    return Effect.sync(() => peer.waiting.delete(done))
  })
  return {
    kind: "memory",
    remote: "memory",
    take: own.inbox.take,
    send: (frames) =>
      Effect.suspend(() => {
        for (const frame of frames) {
          if (peer.inbox.ended) break
          if (exceeds(frame, peer.maxFrameBytes)) close(tooBig(peer.maxFrameBytes))
          else peer.inbox.offer(frame, frame.length)
        }
        return isFull() ? room : nextTurn
      }),
    progress: () => `${peer.taken}`,
    close: (code, reason) => Effect.sync(() => close(new Closed({ code, reason }))),
    setMaxFrameBytes: (bytes) =>
      Effect.sync(() => {
        own.maxFrameBytes = bytes
      })
  }
}

/** Two connected ends, closed with the scope. The server's takes 64 KiB per frame until told otherwise. */
export const make: Effect.Effect<[client: Connection, server: Connection], never, Scope.Scope> =
  Effect.acquireRelease(
    Effect.sync((): [Connection, Connection] => {
      const client = new End(clientFrameBytes)
      const server = new End(serverFrameBytes)
      return [connection(client, server), connection(server, client)]
    }),
    ([client]) => client.close(closeCode.normal, "")
  )

/** A server and the dialer that reaches it. What is still open when the layer goes is closed with it. */
export const layer = (): Layer.Layer<TransportServer | Dialer> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const accepted = yield* Mailbox.make<Connection>()
      const open = new Set<Connection>()
      yield* Effect.addFinalizer(() =>
        Effect.zipRight(
          accepted.end,
          Effect.forEach([...open], (server) => server.close(closeCode.goingAway, "server is stopping"))
        )
      )
      const connect = Effect.gen(function* () {
        const [client, server] = yield* make
        yield* Effect.acquireRelease(
          Effect.sync(() => open.add(server)),
          () => Effect.sync(() => open.delete(server))
        )
        if (!(yield* accepted.offer(server)))
          return yield* new TransportError({ message: "the in-memory server has stopped" })
        return client
      })
      return Context.make(TransportServer, {
        address: "memory:",
        connections: Mailbox.toStream(accepted)
      }).pipe(Context.add(Dialer, { connect }))
    })
  )
