/** Reading what tools a server lists. */
import type { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { ListToolsResultSchema, type Tool } from "@modelcontextprotocol/sdk/types.js"
import * as Effect from "effect/Effect"
import { cut } from "../../../protocol/Text.js"
import { byteLength } from "../../../protocol/Utf8.js"
import { invalidName } from "../../../services/agents/Tools.js"
import { attempt, McpConnectionError, unreachable, within } from "./connecting.js"

/** More than this and the server is at fault. */
const maxTools = 10_000

/** What a list may take: milliseconds, and bytes of all its pages. */
interface Limits {
  readonly timeout: number
  readonly maxBytes: number
}

/** Reads all pages of a server's list. Fails when there is no end to it. */
const readPages = (
  server: string,
  client: Client,
  { maxBytes, timeout }: Limits
): Effect.Effect<ReadonlyArray<Tool>, McpConnectionError> =>
  Effect.gen(function* () {
    const found: Array<Tool> = []
    const seen = new Set<string>()
    let cursor: string | undefined
    let bytes = 0
    do {
      const params = cursor === undefined ? {} : { cursor }
      const page = yield* Effect.mapError(
        // `listTools` would compile the output schemas, and so run the server's regular expressions here.
        attempt((signal) =>
          client.request({ method: "tools/list", params }, ListToolsResultSchema, { timeout, signal })
        ),
        unreachable(server)
      )
      for (const tool of page.tools) found.push(tool)
      bytes += byteLength(JSON.stringify(page))
      cursor = page.nextCursor
      if (
        found.length > maxTools ||
        bytes > maxBytes ||
        seen.size > maxTools ||
        (cursor !== undefined && seen.has(cursor))
      )
        return yield* new McpConnectionError({
          server,
          message: `the MCP server ${server} lists its tools without end: it has more than ${maxTools}, or ${maxBytes} bytes (maxAnswerBytes), or repeats a page`
        })
      if (cursor !== undefined) seen.add(cursor)
    } while (cursor !== undefined)
    return found
  }).pipe(within(server, timeout))

/**
 * Returns the tools of a server by the names that leases are asked for; those that none could be asked for are left out,
 * with a warning.
 */
export const readTools = (
  server: string,
  client: Client,
  limits: Limits
): Effect.Effect<ReadonlyMap<string, Tool>, McpConnectionError> =>
  Effect.gen(function* () {
    const named = new Map<string, Tool>()
    for (const tool of yield* readPages(server, client, limits)) {
      const name = `mcp:${server}/${tool.name}`
      const problem =
        invalidName(name) ??
        (named.has(name) ? "is listed twice" : undefined) ??
        (tool.execution?.taskSupport === "required" ? "runs only as a task" : undefined)
      if (problem === undefined) named.set(name, tool)
      else
        yield* Effect.logWarning(
          `left out a tool of the MCP server ${server}: ${JSON.stringify(cut(tool.name, 80))} ${problem}`
        )
    }
    return named
  })
