/** What `arcp serve` answers over HTTP beside its WebSocket endpoint. */
import * as Layer from "effect/Layer"
import type { HttpRoutes } from "../../../services/transport/HttpRoutes.js"
import type { TransportError } from "../../../services/transport/Transport.js"
import type { ServeFlags } from "../serve.js"

/** Returns the layers that mount the routes of a server with these flags. */
export const routes = (_flags: ServeFlags): Layer.Layer<never, TransportError, HttpRoutes> => Layer.empty
