/** What `arcp serve` answers over HTTP beside its WebSocket endpoint. */
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as HttpGateway from "../../../layers/http/HttpGateway.js"
import type { Readers } from "../../../layers/telemetry/Health.js"
import * as WebConsole from "../../../layers/transport/WebConsole.js"
import type { ServeFlags } from "../serve.js"
import type { Loads } from "./hosting.js"
import * as LoadsRoute from "./loadsRoute.js"
import { watched } from "./telemetry.js"

/** Who logs in by the console's link, who may read metrics, and what there is to be told of loaded agents. */
interface Shown {
  readonly login: WebConsole.Login | undefined
  readonly readers: Readers | undefined
  readonly loads: Effect.Effect<Loads> | undefined
}

/** Returns the layers that mount the routes of a server with these flags; with `loads` the console tells of them. */
export const routes = (flags: ServeFlags, { loads, login, readers }: Shown) =>
  Layer.mergeAll(
    flags.noHttp ? Layer.empty : HttpGateway.layer(),
    WebConsole.layer({
      endpoint: flags.path,
      login,
      loads: loads === undefined ? undefined : LoadsRoute.loadsPath
    }),
    loads === undefined ? Layer.empty : LoadsRoute.layer(loads),
    watched(readers)
  )
