/** What `arcp serve` answers over HTTP beside its WebSocket endpoint. */
import type { ServeFlags } from "../serve.js"
import { watched } from "./telemetry.js"

/** Returns the layers that mount the routes of a server with these flags. */
export const routes = (flags: ServeFlags) => watched(flags)
