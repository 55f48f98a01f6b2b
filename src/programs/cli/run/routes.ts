/** What `arcp serve` answers over HTTP beside its WebSocket endpoint. */
import * as Layer from "effect/Layer"
import * as HttpGateway from "../../../layers/http/HttpGateway.js"
import * as WebConsole from "../../../layers/transport/WebConsole.js"
import type { ServeFlags } from "../serve.js"
import { watched } from "./telemetry.js"

/** Returns the layers that mount the routes of a server with these flags. */
export const routes = (flags: ServeFlags, login: WebConsole.Login | undefined) =>
  Layer.mergeAll(
    WebConsole.layer({ endpoint: flags.path, login }),
    watched(flags),
    flags.noHttp ? Layer.empty : HttpGateway.layer()
  )
