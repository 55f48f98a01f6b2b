/** What a server of `arcp dev` tells its console of its agents: how often they were loaded, and why those saved last are not. */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Routes from "../../../layers/transport/HttpRoutes.js"
import { Sessions } from "../../../services/session/Sessions.js"
import type { Loads } from "./hosting.js"

/** Where it is told. */
export const loadsPath = "/console/loads"

const answered = (status: number, body: unknown) =>
  HttpServerResponse.text(JSON.stringify(body), {
    status,
    contentType: "application/json",
    headers: { "cache-control": "no-store", "x-content-type-options": "nosniff" }
  })

/** Mounts what tells it, to whoever may open a session: it names files, and what is in them. */
export const layer = (loads: Effect.Effect<Loads>) =>
  Routes.layer(
    loadsPath,
    Effect.map(Sessions, (sessions) =>
      Effect.gen(function* () {
        const { headers, method } = yield* HttpServerRequest.HttpServerRequest
        if (method !== "GET") return answered(405, { message: "this can only be read" })
        const { client, evidence, remote } = yield* Routes.Visitor
        const [, shown] = /^Bearer +([^\s]+) *$/i.exec(headers["authorization"] ?? "") ?? []
        const token = shown === undefined ? undefined : Redacted.make(shown)
        return yield* Effect.matchEffect(
          sessions.authenticate({ ...evidence, kind: "http", remote, client }, token),
          {
            onFailure: ({ _tag, message }) =>
              Effect.succeed(answered(_tag === "Unauthenticated" ? 401 : 503, { message })),
            onSuccess: () => Effect.map(loads, (now) => answered(200, now))
          }
        )
      })
    )
  )
