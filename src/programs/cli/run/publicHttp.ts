/** The `HttpClient` of agents of the user's modules. */
import * as HttpClient from "@effect/platform/HttpClient"
import type { HttpClientError } from "@effect/platform/HttpClientError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/**
 * Provides what `HttpClientPublic` provides, which is loaded with the first request: many agents make none, and it is a good
 * part of what a start would cost.
 */
export const layer: Layer.Layer<HttpClient.HttpClient> = Layer.scoped(
  HttpClient.HttpClient,
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const loaded = yield* Effect.cached(
      Effect.promise(() => import("../../../layers/lease/HttpClientPublic.js")).pipe(
        Effect.flatMap((HttpClientPublic) => Layer.buildWithScope(HttpClientPublic.layer(), scope)),
        Effect.map(Context.get(HttpClient.HttpClient)),
        // An interrupted request must not be what is remembered.
        Effect.uninterruptible
      )
    )
    return HttpClient.makeWith<never, never, HttpClientError, never>(
      Effect.flatMap((request) => Effect.flatMap(loaded, (client) => client.execute(request))),
      Effect.succeed
    )
  })
)
