/**
 * Agents over plain HTTP, for whoever has no client of the protocol: submit, list, follow by server-sent events, results,
 * cancel and answers. A client of the runtime in its own process, which knows no more than a session may.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Jobs } from "../../services/jobs/Jobs.js"
import { needs } from "../../services/runtime/needs.js"
import type { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import type { Sessions } from "../../services/session/Sessions.js"
import type { HttpRoutes, RouteApp } from "../../services/transport/HttpRoutes.js"
import type { TransportError } from "../../services/transport/Transport.js"
import * as Routes from "../transport/HttpRoutes.js"
import type { Bounds } from "./app.js"
import { refusal } from "./problems.js"

/** Options of a gateway. */
export interface Options {
  /** Requests that are answered at once, streams among them. Default: 2 000. */
  readonly maxRequests?: number | undefined
  /** Requests of one principal that are answered at once. Default: 500. */
  readonly maxRequestsPerPrincipal?: number | undefined
  /** Streams, of events and results, and waits for the end of a job, of one principal. Default: 100. */
  readonly maxStreamsPerPrincipal?: number | undefined
  /** Sessions with the runtime: one for each principal and what their token allows. Default: 1 000. */
  readonly maxSessions?: number | undefined
  /** How long a session is kept that nobody uses. Default: one minute. */
  readonly idle?: Duration.DurationInput | undefined
  /** Time after which a stream in which nothing happens says that it is there. Default: 15 seconds. */
  readonly heartbeat?: Duration.DurationInput | undefined
}

/** A bound of a gateway is no number that it could be. */
export class HttpGatewayError extends Data.TaggedError("HttpGatewayError")<{ readonly message: string }> {}

const positive = (name: string, value: number): Effect.Effect<number, HttpGatewayError> =>
  Number.isInteger(value) && value > 0
    ? Effect.succeed(value)
    : new HttpGatewayError({ message: `${name}: takes a number, 1 or more` })

const lasting = (
  name: string,
  value: Duration.DurationInput
): Effect.Effect<Duration.Duration, HttpGatewayError> => {
  const duration = Duration.decode(value)
  return Duration.toMillis(duration) > 0 && Duration.isFinite(duration)
    ? Effect.succeed(duration)
    : new HttpGatewayError({ message: `${name}: takes a time that is more than none, and ends` })
}

const boundsOf = (options: Options): Effect.Effect<Bounds, HttpGatewayError> =>
  Effect.all({
    maxRequests: positive("maxRequests", options.maxRequests ?? 2_000),
    maxRequestsPerPrincipal: positive("maxRequestsPerPrincipal", options.maxRequestsPerPrincipal ?? 500),
    maxStreams: positive("maxStreamsPerPrincipal", options.maxStreamsPerPrincipal ?? 100),
    maxSessions: positive("maxSessions", options.maxSessions ?? 1_000),
    idle: lasting("idle", options.idle ?? "1 minute"),
    heartbeat: lasting("heartbeat", options.heartbeat ?? "15 seconds")
  })

const loaded = needs("HttpGateway", "@effect/platform-node", () => import("./app.js"))

/**
 * The gateway as an app of the platform, for a router of yours, whose paths it takes whole: those below `/v1`. A router has
 * to provide `HttpRoutes.Visitor`, who asks; `TransportWebSocket.layer({ routes })` does so itself.
 *
 * @example
 * HttpRouter.mountApp("/v1", Effect.provideServiceEffect(app, HttpRoutes.Visitor, visitor), { includePrefix: true })
 */
export const app = (
  options: Options = {}
): Effect.Effect<RouteApp, unknown, Sessions | Jobs | RuntimeOptions | Scope.Scope> =>
  Effect.flatMap(boundsOf(options), (bounds) => Effect.flatMap(loaded, ({ make }) => make(bounds)))

/**
 * Mounts the gateway at `/v1` of the server in context. What it is made of is loaded with the first request.
 *
 * @example
 * TransportWebSocket.layer({ port: 7777, routes: HttpGateway.layer() })
 */
export const layer = (
  options: Options = {}
): Layer.Layer<never, TransportError | HttpGatewayError, HttpRoutes | Sessions | Jobs | RuntimeOptions> =>
  Layer.unwrapEffect(Effect.as(boundsOf(options), Routes.layer("/v1", app(options), refusal)))
