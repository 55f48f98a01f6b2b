/** Connecting to a server, and letting go of it. */
import type { Client } from "@modelcontextprotocol/sdk/client/index.js"
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { reason } from "./answers.js"
import { HttpTransport } from "./HttpTransport.js"

/** A server was not reached, or is none. The layer does not build. */
export class McpConnectionError extends Data.TaggedError("McpConnectionError")<{
  readonly server: string
  readonly message: string
}> {}

/** How a server is reached. */
export interface ServerLink {
  readonly transport: () => Transport
  /** Whether the SDK tells when the peer is gone; if not, every error of the transport makes us ask. */
  readonly tellsClose: boolean
}

/** Runs a call of the SDK, which is aborted when the effect is interrupted. */
export const attempt = <A>(
  run: (signal: AbortSignal) => Promise<A>
): Effect.Effect<A, { readonly error: unknown }> =>
  Effect.tryPromise({ try: run, catch: (error) => ({ error }) })

/** Returns the error of a server that cannot be reached. */
export const unreachable =
  (server: string) =>
  ({ error }: { readonly error: unknown }) =>
    new McpConnectionError({
      server,
      message: `the MCP server ${server} cannot be reached (${reason(error)}): check that it runs and how it is configured`
    })

/** Gives up what a server takes more than `ms` milliseconds for, however much it says meanwhile. */
export const within =
  (server: string, ms: number) =>
  <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | McpConnectionError> =>
    Effect.timeoutFail(effect, {
      duration: ms,
      onTimeout: () =>
        new McpConnectionError({
          server,
          message: `the MCP server ${server} cannot be reached (it took more than ${ms / 1000} s, connectTimeout): check that it runs and how it is configured`
        })
    })

/** Ends a connection, whatever the server does about it. */
export const close = (client: Client): Effect.Effect<void> =>
  Effect.promise(async () => {
    const end = client.transport instanceof HttpTransport ? client.transport : undefined
    // Good manners, and no more: closing aborts it when the server does not answer.
    if (end !== undefined)
      await Promise.race([
        end.leave().catch(() => undefined),
        new Promise((resolve) => setTimeout(resolve, 1_000).unref())
      ])
    await client.close().catch(() => undefined)
  })
