/** What a server said, in the terms of our tools: data of somebody else's, which is put into errors and never run. */
import { StreamableHTTPError } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import { type CallToolResult, ErrorCode, McpError } from "@modelcontextprotocol/sdk/types.js"
import * as Effect from "effect/Effect"
import {
  type ArcpError,
  InternalError,
  InvalidRequest,
  Timeout,
  truncateMessage
} from "../../../protocol/Errors.js"
import { ToolFailure } from "../../../services/agents/Tools.js"
import { unanswered, type Why } from "./Unanswered.js"

/** Returns what went wrong with a connection, without addresses, headers or bodies. */
export const reason = (error: unknown): string => {
  const none = unanswered(error)
  if (none !== undefined) return none.message
  if (error instanceof StreamableHTTPError)
    return error.code === undefined
      ? "an HTTP error"
      : error.code < 0
        ? "an answer that is neither JSON nor a stream of events"
        : `HTTP ${error.code}`
  if (error instanceof McpError) return truncateMessage(error.message)
  const code = (u: unknown) =>
    typeof u === "object" && u !== null && "code" in u && typeof u.code === "string" ? u.code : undefined
  return (
    code(error) ??
    code(error instanceof Error ? error.cause : undefined) ??
    (error instanceof Error ? error.name : "unknown")
  )
}

/** The text of a result, or its parts when there is more than text. */
const content = (result: CallToolResult): unknown =>
  result.content.every((part) => part.type === "text")
    ? result.content.map((part) => part.text).join("\n")
    : result.content

/** Returns what a tool answered, or fails with what it failed with. */
export const answer = (tool: string, result: CallToolResult): Effect.Effect<unknown, ToolFailure> => {
  if (result.isError !== true) return Effect.succeed(result.structuredContent ?? content(result))
  const failure = content(result)
  const text = typeof failure === "string" && failure !== "" ? failure : "it gives no reason"
  return new ToolFailure({ message: truncateMessage(`tool ${tool} failed: ${text}`), failure })
}

/**
 * With these a server says that it does not know the session: nothing else can be asked on the connection. What it says with 400,
 * 401 or 403 may be about the call alone.
 */
const leftBy: ReadonlySet<number> = new Set([404, 410])

/**
 * Says whether the connection is gone, as opposed to the call having failed: then every other call on it fails, too. A request
 * over HTTP that fails, by another status or on the way, is one request: others have connections of their own. When the server is
 * away, that is found out by asking (`stale`).
 */
export const isLost = (error: unknown): boolean => {
  if (error instanceof McpError)
    return error.code === ErrorCode.ConnectionClosed && error.message.endsWith("Connection closed")
  if (error instanceof StreamableHTTPError) return error.code !== undefined && leftBy.has(error.code)
  return error instanceof Error && error.message === "Not connected"
}

/** Says whether it is about what a server has answered, and not about the way there and back. */
const isUnreadable = (error: unknown): boolean =>
  error instanceof SyntaxError || (error instanceof Error && /ZodError$/.test(error.name))

const reasons: Readonly<Record<Why, string>> = {
  no_result: "mcp_no_result",
  cut: "mcp_connection_lost",
  too_large: "mcp_answer_too_large"
}

/** Returns what a call failed with on a connection that is well. */
export const callError = (tool: string, error: unknown): ToolFailure | ArcpError => {
  const none = unanswered(error)
  if (none !== undefined)
    return new InternalError({
      message: `tool ${tool}: ${none.message}`,
      details: { reason: reasons[none.why], ...(none.why === "too_large" ? { limit: "maxAnswerBytes" } : {}) }
    })
  if (error instanceof StreamableHTTPError)
    return new InternalError({
      message: `tool ${tool}: the server answered with ${reason(error)}`,
      details: { reason: "mcp_http" }
    })
  if (isUnreadable(error))
    return new InternalError({ message: `tool ${tool} gave something that is no result of a tool` })
  if (!(error instanceof McpError))
    return new InternalError({
      message: `tool ${tool}: the connection was lost (${reason(error)})`,
      details: { reason: reasons.cut }
    })
  const message = truncateMessage(`tool ${tool}: ${error.message}`)
  if (error.code === ErrorCode.RequestTimeout) return new Timeout({ message })
  if (error.code === ErrorCode.InvalidParams) return new InvalidRequest({ message })
  return new ToolFailure({ message, failure: { code: error.code, message: error.message } })
}
