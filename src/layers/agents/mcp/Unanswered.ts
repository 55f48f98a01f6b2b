/**
 * Requests that will get no answer any more. The SDK waits for one as long as a call may take, also when the server has
 * ended its answer without a result; our transports (HttpTransport.ts, StdioTransport.ts) tell it at once, by an error in
 * place of the answer.
 */
import {
  ErrorCode,
  type JSONRPCErrorResponse,
  type JSONRPCMessage,
  McpError
} from "@modelcontextprotocol/sdk/types.js"

/** Why there is no answer: it ended without one, it was cut off, it is larger than it may be. */
export type Why = "no_result" | "cut" | "too_large"

/** Takes the place of an answer. */
export class Unanswered extends Error {
  constructor(
    readonly why: Why,
    message: string
  ) {
    super(message)
    this.name = "Unanswered"
  }
}

/** Returns the error of an answer that has more than `max` bytes. */
export const tooLarge = (max: number): Unanswered =>
  new Unanswered("too_large", `the server answered with more than ${max} bytes (maxAnswerBytes)`)

/** Returns why a request was not answered; nothing when it was, if only by an error. */
export const unanswered = (error: unknown): Unanswered | undefined => {
  if (error instanceof Unanswered) return error
  // The object itself: what a server sends could only look like it.
  return error instanceof McpError && error.data instanceof Unanswered ? error.data : undefined
}

/** Returns what stands in place of the answer to the request `id`. */
export const inPlaceOfAnswer = (id: number, why: Unanswered): JSONRPCErrorResponse => ({
  jsonrpc: "2.0",
  id,
  error: { code: ErrorCode.InternalError, message: why.message, data: why }
})

/** Returns the id of a message that expects an answer. */
export const idOfRequest = (message: JSONRPCMessage): number | undefined =>
  "method" in message && "id" in message ? Number(message.id) : undefined

/** Returns the id of the request that a message answers. */
export const idOfAnswer = (message: JSONRPCMessage): number | undefined =>
  "method" in message || message.id === undefined ? undefined : Number(message.id)

/** Returns the id of the request that a message gives up. */
export const idOfGivenUp = (message: JSONRPCMessage): number | undefined =>
  "method" in message && message.method === "notifications/cancelled"
    ? Number(message.params?.["requestId"])
    : undefined
