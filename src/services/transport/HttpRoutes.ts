/** What an HTTP server answers beside its WebSocket endpoint. */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Evidence, TransportError } from "./Transport.js"

/** Who sent an HTTP request that the server has let in. */
export interface VisitorShape {
  /** Where it is, for logs. */
  readonly remote: string
  /** By what failed logins are slowed down, apart from those of others; behind a proxy that is trusted the client's. */
  readonly client: string
  /** See `Connection.exposed`. */
  readonly exposed?: boolean | undefined
  /** What the request shows of whoever sent it; as of an upgrade, only where it comes from when a page may be anybody's. */
  readonly evidence: Evidence
}

/** Who sent the request that is being answered. */
export class Visitor extends Context.Tag("arcp/services/Visitor")<Visitor, VisitorShape>() {}

/** Answers the requests of one mount. It sees the whole path. */
export type RouteApp = HttpApp.Default<unknown, Visitor | Scope.Scope>

/** Why a request to a mount is answered by the server, before the mount has seen it. */
export interface RouteRefusal {
  /** HTTP status. */
  readonly status: number
  readonly message: string
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** Returns what such a refusal says, as the other answers of a mount would. Where it throws, or gives what cannot be sent, a sentence is sent, and that is logged. */
export type RefusalWriter = (refusal: RouteRefusal) => { readonly contentType: string; readonly body: string }

/**
 * Where routes are mounted in the HTTP server of a transport. What comes to them has passed the rules for `Host`, `Origin`,
 * plaintext and the size of headers that hold for WebSocket upgrades; pages of allowed origins may read the answers.
 */
export class HttpRoutes extends Context.Tag("arcp/services/HttpRoutes")<
  HttpRoutes,
  {
    /**
     * Answers the requests to a path and to everything below it, for the scope; of two mounts the one with the longer path
     * does. `load` runs once, for the first request, in that scope: what is imported in it takes no time at the start.
     * Fails when something is mounted at this path already. What the server refuses itself is a sentence, unless `refusal` says
     * how it is written.
     */
    readonly mount: <R>(
      path: `/${string}`,
      load: Effect.Effect<RouteApp, unknown, R>,
      refusal?: RefusalWriter | undefined
    ) => Effect.Effect<void, TransportError, R | Scope.Scope>
  }
>() {}
