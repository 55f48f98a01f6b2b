/** What `arcp serve` answers over HTTP beside its WebSocket endpoint. */
import type * as Layer from "effect/Layer"
import * as WebConsole from "../../../layers/transport/WebConsole.js"
import type { HttpRoutes } from "../../../services/transport/HttpRoutes.js"
import type { TransportError } from "../../../services/transport/Transport.js"
import type { ServeFlags } from "../serve.js"

/** Returns the layers that mount the routes of a server with these flags. */
export const routes = (
  flags: ServeFlags,
  login: WebConsole.Login | undefined
): Layer.Layer<never, TransportError, HttpRoutes> => WebConsole.layer({ endpoint: flags.path, login })
