/** Several WebSocket endpoints, each at a path, on one HTTP server of Node that is somebody else's. */
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { TransportError } from "../../services/transport/Transport.js"
import { pathOf, trimmed } from "./requestPath.js"
import { type Acceptor, protect, refuse } from "./WebSocketAcceptor.js"
import { usage } from "./WebSocketListener.js"

/** What becomes of the upgrades of one path. */
type Endpoint = Pick<Acceptor, "accept" | "refusal">

/** The endpoints of one server, and the listeners that it has while there are any. */
class Endpoints {
  private readonly byPath = new Map<string, Endpoint>()

  constructor(private readonly server: Server) {}

  /** Adds an endpoint; returns false when its path has one. */
  add(path: string, endpoint: Endpoint): boolean {
    if (this.byPath.has(path)) return false
    if (this.byPath.size === 0) {
      protect(this.server)
      this.server.on("upgrade", this.onUpgrade)
      this.server.on("request", this.onRequest)
    }
    this.byPath.set(path, endpoint)
    return true
  }

  /** The application's own handlers get what comes to the path from now on. */
  remove(path: string): void {
    this.byPath.delete(path)
    if (this.byPath.size > 0) return
    this.server.off("upgrade", this.onUpgrade)
    this.server.off("request", this.onRequest)
  }

  private readonly onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const endpoint = this.byPath.get(pathOf(request))
    if (endpoint === undefined) {
      // Somebody else's, if there is somebody; unanswered, it would hang.
      if (this.server.listenerCount("upgrade") === 1)
        refuse(socket, { status: 404, message: this.notFound() })
      return
    }
    const refusal = endpoint.refusal(request)
    if (refusal === undefined) endpoint.accept(request, socket, head)
    else refuse(socket, refusal)
  }

  /** Requests that are no upgrades are the application's; answered here only when it has nothing that would. */
  private readonly onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    if (this.server.listenerCount("request") > 1) return
    const isHere = this.byPath.has(pathOf(request))
    response.writeHead(isHere ? 426 : 404, {
      "content-type": "text/plain; charset=utf-8",
      connection: "close",
      ...(isHere ? { upgrade: "websocket" } : {})
    })
    response.end(isHere ? usage : `${this.notFound()}\n`)
  }

  private notFound(): string {
    return `not found: the ARCP endpoint is at ${[...this.byPath.keys()].join(", ")}`
  }
}

const endpointsOf = new WeakMap<Server, Endpoints>()

/**
 * Gives a path of a server to what `make` makes, for the scope. The path stays taken until that has been closed, so that
 * what comes meanwhile is told so. Fails when something is mounted there already.
 */
export const endpointAt = <A extends Endpoint, R>(
  server: Server,
  path: string,
  make: Effect.Effect<A, never, R | Scope.Scope>
): Effect.Effect<A, TransportError, R | Scope.Scope> =>
  Effect.gen(function* () {
    const endpoints = endpointsOf.get(server) ?? new Endpoints(server)
    endpointsOf.set(server, endpoints)
    let endpoint: A | undefined
    const starting = { status: 503, message: "server is starting" }
    const added = yield* Effect.acquireRelease(
      Effect.sync(() =>
        endpoints.add(trimmed(path), {
          refusal: (request) => (endpoint === undefined ? starting : endpoint.refusal(request)),
          accept: (request, socket, head) => endpoint?.accept(request, socket, head)
        })
      ),
      (added) => Effect.sync(() => added && endpoints.remove(trimmed(path)))
    )
    if (!added)
      return yield* new TransportError({
        message: `something is mounted at ${path} of this server already: choose another path`
      })
    endpoint = yield* make
    return endpoint
  })
