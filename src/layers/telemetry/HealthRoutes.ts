/** `/healthz`, `/readyz` and `/metrics` beside the endpoint of a WebSocket server of this package. */
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { EventLog } from "../../services/log/EventLog.js"
import type { Metrics } from "../../services/runtime/Metrics.js"
import type { Secrets } from "../../services/runtime/Secrets.js"
import type { Sessions } from "../../services/session/Sessions.js"
import type { HttpRoutes as Mount } from "../../services/transport/HttpRoutes.js"
import type { TransportError } from "../../services/transport/Transport.js"
import * as HttpRoutes from "../transport/HttpRoutes.js"
import type { App, Readers } from "./Health.js"

/** Loaded with the first request: most of what it takes is the HTTP server of the platform. */
const loaded = Effect.promise(() =>
  Promise.all([
    import("./Health.js"),
    import("@effect/platform/HttpServerRequest"),
    import("@effect/platform/HttpServerResponse")
  ])
)

type Loaded = Effect.Effect.Success<typeof loaded>[0]

/** Mounts an app at a path, and nothing below it. */
const at = <R>(path: `/${string}`, make: (health: Loaded) => Effect.Effect<App, never, R>) =>
  HttpRoutes.layer(
    path,
    Effect.gen(function* () {
      const [health, { HttpServerRequest: Request }, response] = yield* loaded
      const app = yield* make(health)
      const isHere = ({ url }: HttpServerRequest.HttpServerRequest) => url.replace(/[?#].*$/, "") === path
      return Effect.flatMap(Request, (request) =>
        isHere(request) ? app : Effect.succeed(response.text("not found\n", { status: 404 }))
      )
    })
  )

/** Mounts `/healthz` and `/readyz`, which anybody may ask. */
export const layerHealth = (): Layer.Layer<never, TransportError, Mount | EventLog | Sessions> =>
  Layer.mergeAll(
    at("/healthz", ({ healthz }) => Effect.succeed(healthz)),
    at("/readyz", ({ readyz }) => readyz)
  )

/** Mounts `/metrics`, for whoever is asking from this machine unless `readers` says otherwise. */
export const layerMetrics = (
  readers: Readers = "local"
): Layer.Layer<never, TransportError, Mount | Metrics | Secrets> =>
  at("/metrics", ({ metrics }) => metrics(readers))
