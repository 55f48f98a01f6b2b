/** The gateway as an app: from a request to its route, to who asks, and to the answer. Loaded with the first request. */
import { createHash } from "node:crypto"
import type { ServerResponse } from "node:http"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { ArcpError } from "../../protocol/Errors.js"
import { Jobs } from "../../services/jobs/Jobs.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { TurnShare } from "../../services/runtime/TurnShare.js"
import { Sessions } from "../../services/session/Sessions.js"
import { type RouteApp, Visitor } from "../../services/transport/HttpRoutes.js"
import { envelopeBytes } from "../jobs/fitting.js"
import { sound } from "../session/boundary.js"
import * as Api from "./api.js"
import { accepted, queryOf } from "./asked.js"
import { document } from "./document.js"
import { answerOf } from "./failing.js"
import * as Handlers from "./handlers.js"
import { page } from "./page.js"
import * as Pool from "./pool.js"
import { Refused } from "./problems.js"
import { RequestPlaces, StreamPlaces } from "./requestPlaces.js"

/** Bounds of a gateway. */
export interface Bounds {
  readonly maxRequests: number
  readonly maxRequestsPerPrincipal: number
  readonly maxStreams: number
  readonly maxSessions: number
  readonly idle: Duration.Duration
  readonly heartbeat: Duration.Duration
}

/** Milliseconds for which a connection stays whose body is not read to its end. */
const linger = 1_000

const bodies = new Set(["POST", "PUT", "PATCH"])

const nobody = new Refused({
  status: 401,
  code: "UNAUTHENTICATED",
  message: "say who asks: Authorization: Bearer TOKEN",
  headers: { "www-authenticate": `Bearer realm="arcp"` }
})

const notFound = new Refused({ status: 404, message: "there is nothing here; see /v1" })

/** A part of a path as it was meant. */
const decoded = (part: string): string | undefined => {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}

/** Returns the parameters of a path that is this route's. */
const matched = (route: Api.Route, parts: ReadonlyArray<string>): Record<string, string> | undefined => {
  if (parts.length !== route.path.length) return undefined
  const params: Record<string, string> = {}
  for (const [i, wanted] of route.path.entries()) {
    const part = parts[i] ?? ""
    if (!wanted.startsWith(":")) {
      if (wanted !== part) return undefined
      continue
    }
    const value = decoded(part)
    if (value === undefined || value === "") return undefined
    params[wanted.slice(1)] = value
  }
  return params
}

/** A document that is the same for everybody. */
const fixed = (content: string, contentType: string, headers: Readonly<Record<string, string>> = {}) =>
  HttpServerResponse.text(content, {
    contentType,
    headers: { "cache-control": "no-cache", "x-content-type-options": "nosniff", ...headers }
  })

/** The documents, which need nobody to say who asks. */
const documents = () => {
  const spec = document()
  const { html, style } = page(spec)
  const digest = createHash("sha256").update(style).digest("base64")
  const policy = `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`
  return new Map([
    [
      "/v1",
      fixed(html, "text/html; charset=utf-8", {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer"
      })
    ],
    ["/v1/openapi.json", fixed(`${JSON.stringify(spec)}\n`, "application/json")]
  ])
}

/** The token that a request shows; none without one, which may be as good. */
const tokenOf = (header: string | undefined): Redacted.Redacted | undefined => {
  const token = /^Bearer +([^\s]+) *$/i.exec(header ?? "")?.[1]
  return token === undefined ? undefined : Redacted.make(token)
}

const refusedMethod = (methods: ReadonlyArray<string>) =>
  new Refused({
    status: 405,
    message: "this method is not for this path",
    headers: { allow: methods.join(", ") }
  })

/** The methods of a path, with those that follow from them. */
const methodsOf = (methods: ReadonlyArray<string>) =>
  [...new Set(methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])))].concat("OPTIONS")

/** What a request is for: one of the documents, which is the answer, or a route with its parameters. */
type Meant =
  | HttpServerResponse.HttpServerResponse
  | { readonly route: Api.Route; readonly params: Record<string, string> }

/** Makes what finds out what a request is for. */
const routing = () => {
  const routes = Api.routes()
  const fixedDocuments = documents()
  return (request: HttpServerRequest.HttpServerRequest, at: string): Effect.Effect<Meant, Refused> =>
    Effect.gen(function* () {
      const path = at.length > 1 ? at.replace(/\/+$/, "") : at
      const method = request.method === "HEAD" ? "GET" : request.method
      const there = fixedDocuments.get(path)
      const parts = path.split("/")
      const found = routes.flatMap((route) => {
        const params = matched(route, parts)
        return params === undefined ? [] : [{ route, params }]
      })
      if (found.length === 0 && there === undefined) return yield* notFound
      const methods = methodsOf(there === undefined ? found.map(({ route }) => route.method) : ["GET"])
      if (method === "OPTIONS")
        return HttpServerResponse.empty({ status: 204, headers: { allow: methods.join(", ") } })
      if (there !== undefined && method === "GET") {
        yield* accepted(request.headers["accept"], [there.headers["content-type"]?.split(";")[0] ?? ""])
        return there
      }
      return found.find(({ route }) => route.method === method) ?? (yield* refusedMethod(methods))
    })
}

/** Makes the gateway's app, whose sessions end with the scope. */
export const make = (
  bounds: Bounds
): Effect.Effect<RouteApp, never, Sessions | Jobs | RuntimeOptions | Scope.Scope> =>
  Effect.gen(function* () {
    const sessions = yield* Sessions
    const options = yield* RuntimeOptions
    const clock = yield* Effect.clock
    const pool = yield* Pool.make(sessions, bounds)
    const meantBy = routing()
    const places = new RequestPlaces(bounds)
    const handlers = Handlers.make({
      jobs: yield* Jobs,
      sessions,
      maxBodyBytes: Math.max(envelopeBytes, options.maxFrameBytes - envelopeBytes),
      heartbeat: bounds.heartbeat,
      streams: new StreamPlaces(bounds.maxStreams),
      share: yield* TurnShare,
      now: () => clock.unsafeCurrentTimeMillis()
    })

    const routed = (request: HttpServerRequest.HttpServerRequest, response: ServerResponse) =>
      Effect.gen(function* () {
        const [at = "", search = ""] = request.url.split(/\?(.*)/s)
        const meant = yield* meantBy(request, at)
        if (HttpServerResponse.isServerResponse(meant)) return meant
        const visitor = yield* Visitor
        const { client, evidence, remote } = visitor
        const token = tokenOf(request.headers["authorization"])
        const identity = yield* sessions
          .authenticate({ ...evidence, kind: "http", remote, client }, token)
          .pipe(
            Effect.mapError((error) =>
              error._tag === "Unauthenticated" && token === undefined ? nobody : error
            )
          )
        const full = places.takeOf(identity.principal, response)
        if (full !== undefined) return yield* full
        return yield* handlers[meant.route.name]({
          identity,
          params: meant.params,
          query: yield* queryOf(search, meant.route.query),
          line: pool.lineFor(identity, { visitor, token }),
          flush: Effect.sync(() => response.flushHeaders()),
          giveUp: Effect.sync(() => response.destroy())
        })
      })

    return sound(
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
        const response = NodeHttpServerRequest.toServerResponse(request)
        const full = places.take(response)
        // For one that is over the bound nothing else is done, not even looking at whether its body has come.
        return full === undefined ? routed(request, response) : Effect.succeed(answerOf(full))
      }),
      "a request over HTTP"
    ).pipe(Effect.catchAll((error) => refused(error)))
  })

/** Answers a failure; of a body that is not read to its end the connection goes with it. */
const refused = (error: ArcpError | Refused) =>
  Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
    const answer = answerOf(error)
    const incoming = NodeHttpServerRequest.toIncomingMessage(request)
    if (!bodies.has(request.method) || incoming.complete) return answer
    // What still comes is thrown away for a while, so that whoever sends it can read why; then it is cut off.
    NodeHttpServerRequest.toServerResponse(request).once("finish", () => {
      incoming.resume()
      setTimeout(() => incoming.socket.destroy(), linger).unref()
    })
    return HttpServerResponse.setHeader(answer, "connection", "close")
  })
