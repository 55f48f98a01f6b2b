/** What `arcp serve` answers over HTTP beside its WebSocket endpoint. */
import * as Layer from "effect/Layer"
import * as HttpGateway from "../../../layers/http/HttpGateway.js"
import type { ServeFlags } from "../serve.js"

/** Returns the layers that mount the routes of a server with these flags. */
export const routes = (flags: ServeFlags) => (flags.noHttp ? Layer.empty : HttpGateway.layer())
