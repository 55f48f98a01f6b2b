/**
 * `/healthz`, `/readyz` and `/metrics`, as apps for any HTTP server of `@effect/platform`, and mounted beside the endpoint of a
 * server of this package.
 */
import type * as Headers from "@effect/platform/Headers"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { isLoopback } from "../../protocol/Loopback.js"
import type { EventLog } from "../../services/log/EventLog.js"
import { Metrics } from "../../services/runtime/Metrics.js"
import { constantTimeEqual, Secrets } from "../../services/runtime/Secrets.js"
import type { Sessions } from "../../services/session/Sessions.js"
import * as Prometheus from "./Prometheus.js"
import * as Readiness from "./Readiness.js"

/** Answers the request in its context. */
export type App = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  HttpServerRequest.HttpServerRequest
>

const answer = (status: number, text: string, headers: Headers.Input = {}) =>
  HttpServerResponse.text(text, {
    status,
    headers: { "cache-control": "no-store", "x-content-type-options": "nosniff", ...headers }
  })

/** Answers what only reads. */
const reading = (app: App): App =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method }) =>
    method === "GET" || method === "HEAD"
      ? app
      : Effect.succeed(answer(405, "this can only be read\n", { allow: "GET, HEAD" }))
  )

/** Answers 200 for as long as the process answers at all. */
export const healthz: App = reading(Effect.succeed(answer(200, "ok\n")))

/** Makes what answers 200 while the runtime takes work, else 503 with the reason. */
export const readyz: Effect.Effect<App, never, EventLog | Sessions> = Effect.map(
  Readiness.make,
  (unreadiness) =>
    reading(
      Effect.map(unreadiness, (why) =>
        why === undefined
          ? answer(200, "ready\n")
          : answer(503, `not ready: ${why}\n`, { "retry-after": "1" })
      )
    )
)

/**
 * Who may read `/metrics`: `local`, whoever asks from this machine and not through a proxy; `all`; or who shows a bearer
 * token.
 */
export type Readers = "local" | "all" | Redacted.Redacted

/** Headers that a proxy adds to a request, whatever it says in them: of any of the kind, in any proxy's words. */
const forwarding =
  /^(?:forwarded|via|x-forwarded(?:-.*)?|x-(?:real|client|cluster-client|original-forwarded)-(?:ip|for)|true-client-ip|cf-connecting-ip|fastly-client-ip)$/

const isLocal = ({ headers, remoteAddress }: HttpServerRequest.HttpServerRequest): boolean =>
  Option.exists(remoteAddress, (address) => isLoopback(address.replace(/^::ffff:/i, ""))) &&
  !Object.keys(headers).some((name) => forwarding.test(name))

/** Makes what answers with the metrics of this process, as Prometheus reads them. Default: `local`. */
export const metrics = (readers: Readers = "local"): Effect.Effect<App, never, Metrics | Secrets> =>
  Effect.gen(function* () {
    const { digest } = yield* Secrets
    const told = Effect.map(Effect.provideService(Prometheus.text, Metrics, yield* Metrics), (text) =>
      answer(200, text, { "content-type": Prometheus.contentType })
    )
    if (!Redacted.isRedacted(readers))
      return reading(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          readers === "all" || isLocal(request)
            ? told
            : Effect.succeed(answer(403, "metrics are told on this machine only\n"))
        )
      )
    const wanted = yield* digest(Redacted.value(readers))
    const refused = answer(401, "metrics are told who shows a token\n", {
      "www-authenticate": 'Bearer realm="metrics"'
    })
    return reading(
      Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) =>
        Effect.flatMap(digest(/^bearer +(.+)$/i.exec(headers["authorization"] ?? "")?.[1] ?? ""), (shown) =>
          constantTimeEqual(shown, wanted) ? told : Effect.succeed(refused)
        )
      )
    )
  })
