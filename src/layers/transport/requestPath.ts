/** The path of an endpoint, and whether a request is for it. */
import type { IncomingMessage } from "node:http"

/** Returns a path without slashes at its end: `/arcp/` is `/arcp`, as people and proxies write both. */
export const trimmed = (path: string): string => path.replace(/(?<=[^/])\/+$/, "")

/** Returns the path of a request without its query. */
export const pathOf = (request: IncomingMessage): string => trimmed(request.url?.split("?", 1)[0] ?? "")
