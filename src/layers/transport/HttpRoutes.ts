/** The HTTP routes of a listener: who may ask, which mount answers, and how its answers reach pages of other origins. */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { needs } from "../../services/runtime/needs.js"
import { within } from "../../services/runtime/within.js"
import {
  HttpRoutes,
  type RefusalWriter,
  type RouteApp,
  Visitor,
  type VisitorShape
} from "../../services/transport/HttpRoutes.js"
import { TransportError } from "../../services/transport/Transport.js"
import { addressGroup, clientAddress, type TrustedProxies } from "./clientAddress.js"
import { begun, plainly, type Refuse, type RequestLine, refusing } from "./requestLine.js"
import { trimmed } from "./requestPath.js"
import { isExposed, isTrusted, type UpgradePolicy } from "./UpgradePolicy.js"
import { evidenceOf } from "./upgradeEvidence.js"
import type { UpgradeRefusal } from "./WebSocketAcceptor.js"

export {
  HttpRoutes,
  type RefusalWriter,
  type RouteApp,
  type RouteRefusal,
  Visitor,
  type VisitorShape
} from "../../services/transport/HttpRoutes.js"

/** Answers one request. */
export type Answer = (request: IncomingMessage, response: ServerResponse) => void

const adapter = needs("HTTP routes", "@effect/platform-node", () =>
  Promise.all([
    import("@effect/platform-node/NodeHttpServer"),
    import("@effect/platform-node/NodeHttpServerRequest"),
    import("@effect/platform/HttpServerRequest"),
    import("@effect/platform/HttpServerResponse"),
    import("@effect/platform/HttpBody"),
    import("@effect/platform/HttpMiddleware")
  ])
)

/**
 * Tells whether a request may come from a page that has nothing to do with this server: browsers send no `Origin` with
 * what a page only embeds, and say so otherwise.
 */
const isEmbedded = ({ headers }: IncomingMessage): boolean => {
  const site = headers["sec-fetch-site"]
  return headers.origin === undefined && (site === "cross-site" || site === "same-site")
}

/** Returns who sent a request. */
export const visitorOf = (
  request: IncomingMessage,
  policy: UpgradePolicy,
  proxies: TrustedProxies
): VisitorShape => {
  const client = clientAddress(request, proxies)
  return {
    remote: `${client}:${request.socket.remotePort ?? 0}`,
    client: addressGroup(client),
    exposed: isExposed(request, proxies),
    evidence: evidenceOf(request, isTrusted(request, policy) && !isEmbedded(request))
  }
}

/** What of an answer pages of other origins may read beside its body. */
const exposed =
  "Accept-Ranges, Allow, Content-Range, ETag, Link, Location, Preference-Applied, Retry-After, WWW-Authenticate"

/** How long answers get to end when their mount does. */
const ending = Duration.seconds(1)

/** How long a browser may remember what a preflight was answered, in seconds. */
const preflightAge = 600

/**
 * Lets the page that asks, whose origin is allowed, read the answer. Without credentials: a token has to say who asks.
 * Returns true when that is all there is to answer, to a preflight.
 */
const allowOrigin = ({ headers, method }: IncomingMessage, response: ServerResponse): boolean => {
  if (headers.origin === undefined) return false
  response.setHeader("access-control-allow-origin", headers.origin)
  response.setHeader("access-control-expose-headers", exposed)
  response.setHeader("vary", "Origin")
  const asked = headers["access-control-request-method"]
  if (method !== "OPTIONS" || asked === undefined) return false
  response.writeHead(204, {
    "access-control-allow-methods": asked,
    "access-control-allow-headers": headers["access-control-request-headers"] ?? "",
    "access-control-max-age": `${preflightAge}`
  })
  response.end()
  return true
}

/** A handler of Node for an app, which ends with the scope: what is being answered then is interrupted. */
const handlerOf = (
  app: RouteApp,
  visitorOf: (request: IncomingMessage) => VisitorShape
): Effect.Effect<Answer, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const [
      { makeHandler },
      { toIncomingMessage },
      { HttpServerRequest },
      { setBody },
      HttpBody,
      { withTracerDisabledWhenEffect }
    ] = yield* adapter
    /**
     * The platform waits, and cannot be interrupted, until a body is gone that it was given whole: for ever when whoever asked
     * has gone meanwhile. For a stream it does not.
     */
    const streamed = (response: Effect.Effect.Success<RouteApp>) => {
      const { body } = response
      return body._tag === "Uint8Array"
        ? setBody(response, HttpBody.stream(Stream.make(body.body), body.contentType, body.contentLength))
        : response
    }
    const running = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
    yield* Effect.addFinalizer(() =>
      within(
        Effect.suspend(() => Fiber.interruptAll(running)),
        ending
      )
    )
    /**
     * The platform would make a span of each request: of probes, scrapes and streams of hours, with their addresses and headers.
     * An app that wants one makes it.
     */
    const handler = makeHandler(
      Effect.withFiberRuntime<Effect.Effect.Success<RouteApp>, unknown, Effect.Effect.Context<RouteApp>>(
        (fiber) => {
          running.add(fiber)
          fiber.addObserver(() => running.delete(fiber))
          // The platform does not let it be interrupted before its body, and whoever asks may have gone long before.
          return Effect.interruptible(Effect.map(app, streamed))
        }
      ).pipe(
        Effect.provideServiceEffect(
          Visitor,
          Effect.map(HttpServerRequest, (request) => visitorOf(toIncomingMessage(request)))
        )
      )
    )
    return yield* withTracerDisabledWhenEffect(handler, () => true)
  })

/** How long a mount that could not be loaded is not tried again: whoever asks meanwhile is told at once. */
const untilNextLoad = Duration.seconds(1)

/** Returns what loads a handler once, however many wait for it; and again for who asks a while after that has failed. */
const loadedOnce = <R>(
  load: Effect.Effect<Answer, unknown, R | Scope.Scope>,
  scope: Scope.Scope
): Effect.Effect<Answer, unknown, Exclude<R, Scope.Scope>> => {
  let loading: Deferred.Deferred<Answer, unknown> | undefined
  const forget = Effect.zipRight(
    Effect.sleep(untilNextLoad),
    Effect.sync(() => {
      loading = undefined
    })
  )
  // What an attempt has acquired goes with it.
  const attempt = Effect.flatMap(Scope.fork(scope, ExecutionStrategy.sequential), (own) =>
    Effect.onExit(Scope.extend(load, own), (exit) =>
      Exit.isFailure(exit) ? Scope.close(own, exit) : Effect.void
    )
  )
  return Effect.suspend(() => {
    if (loading !== undefined) return Deferred.await(loading)
    const made = Deferred.unsafeMake<Answer, unknown>(FiberId.none)
    loading = made
    return Effect.onExit(attempt, (exit) =>
      Effect.zipRight(
        Deferred.done(made, exit),
        Exit.isFailure(exit) ? Effect.forkIn(Effect.interruptible(forget), scope) : Effect.void
      )
    )
  })
}

/** Responses that are not over, by connection. */
const underway = new WeakMap<Socket, Set<ServerResponse>>()

/**
 * Has a response end with its connection. Of several on one connection Node tells only the first that it has ended: those
 * that wait behind it would keep what they hold for ever.
 */
const endWithConnection = ({ socket }: IncomingMessage, response: ServerResponse): void => {
  let all = underway.get(socket)
  if (all === undefined) {
    const responses = new Set<ServerResponse>()
    all = responses
    underway.set(socket, responses)
    socket.once("close", () => {
      for (const each of responses) if (each.socket === null && !each.closed) each.emit("close")
    })
  }
  all.add(response)
  response.once("close", () => underway.get(socket)?.delete(response))
}

/** What is mounted at a path. */
export interface Mounted {
  readonly answer: Answer
  /** Answers what is refused before. */
  readonly refuse: Refuse
}

/** What is mounted where, and what answers it once it was asked for. */
export class Mounts {
  private readonly byPath = new Map<string, Mounted>()

  constructor(
    private readonly visitorOf: (request: IncomingMessage) => VisitorShape,
    private readonly line: RequestLine
  ) {}

  readonly service: HttpRoutes["Type"] = {
    mount: (path, load, refusal) => {
      const at = trimmed(path)
      return Effect.gen(this, function* () {
        const scope = yield* Effect.scope
        const fork = Runtime.runFork(
          yield* Effect.runtime<Effect.Effect.Context<typeof load> | Scope.Scope>()
        )
        const unwritten = (error: unknown) =>
          fork(Effect.logError(`what the routes at ${at} write of a refusal cannot be sent`, error), {
            scope
          })
        const refuse = refusal === undefined ? plainly : refusing(refusal, unwritten)
        let loaded: Answer | undefined
        const handler = loadedOnce(
          Effect.flatMap(load, (app) => handlerOf(app, this.visitorOf)).pipe(
            Effect.tap((made) => {
              loaded = made
            }),
            Effect.tapErrorCause((cause) => Effect.logError(`the routes at ${at} cannot be served`, cause))
          ),
          scope
        )
        const begin: Answer = (request, response) => {
          const isGone = () => request.socket.destroyed
          if (isGone()) return
          if (loaded !== undefined) return loaded(request, response)
          // Whoever has gone while it was loaded is not handled any more: nothing would tell when that is over.
          fork(
            Effect.matchCauseEffect(handler, {
              onFailure: () =>
                Effect.sync(() => {
                  if (!isGone())
                    refuse(response, {
                      status: 500,
                      message: "this part of the server does not work; try again later"
                    })
                }),
              onSuccess: (handle) =>
                begun(
                  response,
                  () => {
                    if (!isGone()) handle(request, response)
                  },
                  refuse
                )
            }),
            { scope }
          )
        }
        const answer: Answer = (request, response) => {
          const { client } = this.visitorOf(request)
          endWithConnection(request, response)
          if (!this.line.add(client ?? "", request, response, () => begin(request, response), refuse))
            refuse(response, {
              status: 503,
              message: "too many requests wait; try again later",
              headers: { "retry-after": "1" }
            })
        }
        yield* Effect.acquireRelease(
          this.byPath.has(at)
            ? new TransportError({ message: `something is mounted at ${at} of this server already` })
            : Effect.sync(() => this.byPath.set(at, { answer, refuse })),
          () => Effect.sync(() => this.byPath.delete(at))
        )
      })
    }
  }

  /** Where something is mounted. */
  get paths(): ReadonlyArray<string> {
    return [...this.byPath.keys()]
  }

  /** Returns what answers a path: its own mount, or else that of the nearest path above it. */
  at(path: string): Mounted | undefined {
    for (let end = path.length; end > 0; end = path.lastIndexOf("/", end - 1)) {
      const mounted = this.byPath.get(path.slice(0, end))
      if (mounted !== undefined) return mounted
    }
    return this.byPath.get("/")
  }
}

/** Answers a request to a mount, unless `refusal` says that it is refused. */
export const answer = (
  mounted: Mounted,
  request: IncomingMessage,
  response: ServerResponse,
  refusal: UpgradeRefusal | undefined
): void => {
  if (refusal !== undefined) {
    const { message, retryAfter, status } = refusal
    const headers = retryAfter === undefined ? undefined : { "retry-after": `${retryAfter}` }
    return mounted.refuse(response, { status, message, headers })
  }
  if (!allowOrigin(request, response)) mounted.answer(request, response)
}

/**
 * Mounts an app at a path of the server in context. `load` runs with the first request, and may import what the app is
 * made of. `refusal` writes what the server refuses before the app has seen it.
 *
 * @example
 * const hello = HttpRoutes.layer("/hello", Effect.succeed(HttpServerResponse.text("hello")))
 * TransportWebSocket.layer({ port: 7777, routes: hello })
 */
export const layer = <R = never>(
  path: `/${string}`,
  load: Effect.Effect<RouteApp, unknown, R>,
  refusal?: RefusalWriter | undefined
): Layer.Layer<never, TransportError, Exclude<HttpRoutes | R, Scope.Scope>> =>
  Layer.scopedDiscard(Effect.flatMap(HttpRoutes, (routes) => routes.mount(path, load, refusal)))
