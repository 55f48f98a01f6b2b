/**
 * The tools of an MCP server as `tool.call` targets `mcp:SERVER/TOOL`, over the official SDK: a server that is our
 * child process (stdio), or one at a URL (streamable HTTP). SERVER is the name that the operator gives it.
 *
 * The connection is the layer's. When it is lost, calls in flight fail with `INTERNAL_ERROR`, and the next call
 * connects again; until then the tools are those that were known. What the server says is data: names that no
 * lease could be asked for are left out, its text is put into errors, its schemas are passed on and not compiled.
 */
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import {
  StreamableHTTPClientTransport,
  StreamableHTTPError
} from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import type { RequestOptions } from "@modelcontextprotocol/sdk/shared/protocol.js"
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import {
  type CallToolResult,
  CallToolResultSchema,
  ErrorCode,
  ListToolsResultSchema,
  McpError,
  type Tool,
  ToolListChangedNotificationSchema
} from "@modelcontextprotocol/sdk/types.js"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import {
  type ArcpError,
  InternalError,
  InvalidRequest,
  Timeout,
  truncateMessage
} from "../../protocol/Errors.js"
import { isLoopback } from "../../protocol/Loopback.js"
import {
  invalidName,
  type Registered,
  type Source,
  ToolFailure,
  type Tools
} from "../../services/agents/Tools.js"
import type { Cost } from "../../services/lease/Lease.js"
import * as ToolsLayer from "./Tools.js"

/** A server was not reached, or is none. The layer does not build. */
export class McpConnectionError extends Data.TaggedError("McpConnectionError")<{
  readonly server: string
  readonly message: string
}> {}

interface CommonOptions {
  /** The SERVER of `mcp:SERVER/TOOL`: letters, digits, `.`, `_`, `-`. */
  readonly server: string
  /** Time after which a connection, or a list of tools, is given up. Default: 30 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** Time of a call without a sign of progress; then it fails with `Timeout`. Default: 60 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
  /** Time of a call altogether. Default: no limit beside `timeout`. */
  readonly maxTimeout?: Duration.DurationInput | undefined
  /** What a call costs that succeeded, by the tool's name at the server. Default: nothing. */
  readonly cost?: ((tool: string, input: unknown, output: unknown) => Cost | undefined) | undefined
}

export interface StdioOptions extends CommonOptions {
  readonly command: string
  readonly args?: ReadonlyArray<string> | undefined
  /** Beside `HOME`, `PATH` and the like, which the SDK passes on; nothing else of our environment is. */
  readonly env?: Readonly<Record<string, string | Redacted.Redacted>> | undefined
  readonly cwd?: string | undefined
  /** What becomes of the server's stderr. Default `inherit`: it goes to ours. */
  readonly stderr?: "inherit" | "ignore" | undefined
}

export interface HttpOptions extends CommonOptions {
  /** `https://…`, or `http://…` on this machine. */
  readonly url: string
  /** Sent with every request. Redirects to another origin are not followed. */
  readonly headers?: Readonly<Record<string, string | Redacted.Redacted>> | undefined
  /** Allow `http://` to another machine: headers then travel readable. Default false. */
  readonly allowInsecure?: boolean | undefined
}

/** More than this and the server is at fault. */
const maxTools = 10_000
/** Time between two lists that the server asks for. */
const refreshEvery = Duration.seconds(1)

const plain = (values: Readonly<Record<string, string | Redacted.Redacted>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      Redacted.isRedacted(value) ? Redacted.value(value) : value
    ])
  )

/** What went wrong with a connection, without addresses, headers or bodies. */
const reason = (error: unknown): string => {
  if (error instanceof StreamableHTTPError)
    return error.code === undefined ? "an HTTP error" : `HTTP ${error.code}`
  if (error instanceof McpError) return error.message
  const code = (u: unknown) =>
    typeof u === "object" && u !== null && "code" in u && typeof u.code === "string" ? u.code : undefined
  return (
    code(error) ??
    code((error as { readonly cause?: unknown } | null)?.cause) ??
    (error instanceof Error ? error.name : "unknown")
  )
}

const attempt = <A>(
  run: (signal: AbortSignal) => Promise<A>
): Effect.Effect<A, { readonly error: unknown }> =>
  Effect.tryPromise({ try: run, catch: (error) => ({ error }) })

/** The text of a result, or its parts when there is more than text. */
const content = (result: CallToolResult): unknown =>
  result.content.every((part) => part.type === "text")
    ? result.content.map((part) => part.text).join("\n")
    : result.content

const answer = (tool: string, result: CallToolResult): Effect.Effect<unknown, ToolFailure> => {
  if (result.isError !== true) return Effect.succeed(result.structuredContent ?? content(result))
  const failure = content(result)
  const text = typeof failure === "string" && failure !== "" ? failure : "it gives no reason"
  return new ToolFailure({ message: truncateMessage(`tool ${tool} failed: ${text}`), failure })
}

/** Is the connection gone, as opposed to the call having failed? */
const isLost = (error: unknown): boolean =>
  error instanceof McpError
    ? error.code === ErrorCode.ConnectionClosed && error.message.endsWith("Connection closed")
    : // What the SDK could not parse came from a live server.
      !(error instanceof Error && /ZodError$/.test(error.name))

const callError = (tool: string, error: unknown): ToolFailure | ArcpError => {
  if (!(error instanceof McpError))
    return new InternalError({ message: `tool ${tool} gave something that is no result of a tool` })
  const message = truncateMessage(`tool ${tool}: ${error.message}`)
  if (error.code === ErrorCode.RequestTimeout) return new Timeout({ message })
  if (error.code === ErrorCode.InvalidParams) return new InvalidRequest({ message })
  return new ToolFailure({ message, failure: { code: error.code, message: error.message } })
}

interface ServerLink {
  readonly transport: () => Transport
  /** Whether the SDK tells when the peer is gone; if not, every error of the transport makes us ask. */
  readonly tellsClose: boolean
}

const connect = (
  options: CommonOptions,
  link: ServerLink
): Effect.Effect<() => ReadonlyMap<string, Registered>, McpConnectionError, Scope.Scope> =>
  Effect.gen(function* () {
    const { server } = options
    const lock = yield* Effect.makeSemaphore(1)
    /** Connections whose list of tools is to be read again; one that does not answer is given up. */
    const stale = yield* Queue.sliding<Client>(1)
    const within = { timeout: Duration.toMillis(options.connectTimeout ?? "30 seconds") }
    let current: Client | undefined
    let ended = false
    let tools: ReadonlyMap<string, Registered> = new Map()

    const close = (client: Client): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (current === client) current = undefined
        const end = client.transport instanceof StreamableHTTPClientTransport ? client.transport : undefined
        return Effect.promise(async () => {
          // Good manners, and no more: closing aborts it when the server does not answer.
          if (end !== undefined)
            await Promise.race([
              end.terminateSession().catch(() => undefined),
              new Promise((resolve) => setTimeout(resolve, 1_000).unref())
            ])
          await client.close().catch(() => undefined)
        })
      })

    const failed = ({ error }: { readonly error: unknown }) =>
      new McpConnectionError({
        server,
        message: `the MCP server ${server} cannot be reached (${reason(error)}): check that it runs and how it is configured`
      })

    const read = (client: Client): Effect.Effect<ReadonlyMap<string, Registered>, McpConnectionError> =>
      Effect.gen(function* () {
        const found: Array<Tool> = []
        const seen = new Set<string>()
        let cursor: string | undefined
        do {
          const params = cursor === undefined ? {} : { cursor }
          const page = yield* Effect.mapError(
            // `listTools` would compile the output schemas, and so run the server's regular expressions here.
            attempt((signal) =>
              client.request({ method: "tools/list", params }, ListToolsResultSchema, { ...within, signal })
            ),
            failed
          )
          found.push(...page.tools)
          cursor = page.nextCursor
          if (found.length > maxTools || seen.size > maxTools || (cursor !== undefined && seen.has(cursor)))
            return yield* new McpConnectionError({
              server,
              message: `the MCP server ${server} lists its tools without end: it has more than ${maxTools}, or repeats a page`
            })
          if (cursor !== undefined) seen.add(cursor)
        } while (cursor !== undefined)
        const named = new Map<string, Registered>()
        for (const tool of found) {
          const name = `mcp:${server}/${tool.name}`
          const problem =
            invalidName(name) ??
            (named.has(name) ? "is listed twice" : undefined) ??
            (tool.execution?.taskSupport === "required" ? "runs only as a task" : undefined)
          if (problem === undefined) named.set(name, registered(name, tool))
          else
            yield* Effect.logWarning(
              `left out a tool of the MCP server ${server}: ${JSON.stringify(tool.name.slice(0, 80))} ${problem}`
            )
        }
        return named
      })

    const open: Effect.Effect<Client, McpConnectionError> = Effect.suspend(() => {
      const client = new Client({ name: "effect-arcp", version: "1" })
      client.onclose = () => {
        if (current === client) current = undefined
      }
      if (!link.tellsClose) client.onerror = () => void stale.unsafeOffer(client)
      client.setNotificationHandler(ToolListChangedNotificationSchema, () => void stale.unsafeOffer(client))
      return Effect.mapError(
        attempt((signal) => client.connect(link.transport(), { ...within, signal })),
        failed
      ).pipe(
        Effect.zipRight(read(client)),
        Effect.flatMap((found) => {
          if (ended) return failed({ error: new Error("the layer has ended") })
          tools = found
          current = client
          return Effect.succeed(client)
        }),
        Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : close(client)))
      )
    })

    const connected = lock.withPermits(1)(
      Effect.suspend(() => (current === undefined ? open : Effect.succeed(current)))
    )

    const lost = (name: string, client: Client, error: unknown) =>
      Effect.suspend(() => {
        if (current === client) current = undefined
        return Effect.zipRight(
          Effect.forkDaemon(close(client)),
          new InternalError({
            message: `tool ${name}: the connection to the MCP server ${server} was lost (${reason(error)}); the next call connects again`,
            details: { reason: "mcp_connection_lost" }
          })
        )
      })

    const call = (name: string, tool: string, input: Record<string, unknown>) =>
      Effect.gen(function* () {
        const client = yield* Effect.mapError(
          connected,
          ({ message }) => new InternalError({ message, details: { reason: "mcp_not_connected" } })
        )
        const limits: RequestOptions = {
          timeout: Duration.toMillis(options.timeout ?? "60 seconds"),
          // Without it the server is not asked for progress, which is what keeps a long call alive.
          onprogress: () => undefined,
          resetTimeoutOnProgress: true,
          ...(options.maxTimeout === undefined
            ? {}
            : { maxTotalTimeout: Duration.toMillis(options.maxTimeout) })
        }
        const result = yield* Effect.catchAll(
          attempt((signal) =>
            client.callTool({ name: tool, arguments: input }, CallToolResultSchema, { ...limits, signal })
          ),
          ({ error }): Effect.Effect<never, ToolFailure | ArcpError> =>
            isLost(error) ? lost(name, client, error) : Effect.fail(callError(name, error))
        )
        return yield* answer(name, result as CallToolResult)
      })

    const registered = (name: string, { description, inputSchema, name: tool }: Tool): Registered => ({
      name,
      description,
      inputSchema,
      prepare: (input = {}) =>
        typeof input !== "object" || input === null || Array.isArray(input)
          ? new InvalidRequest({ message: `tool ${name}: input: expected an object` })
          : Effect.succeed((restore) =>
              Effect.map(
                Effect.exit(restore(call(name, tool, input as Record<string, unknown>))),
                (exit) => ({
                  exit,
                  cost: Exit.isSuccess(exit) ? costOf(name, tool, input, exit.value) : undefined
                })
              )
            )
    })

    const costOf = (name: string, tool: string, input: unknown, output: unknown): Cost | undefined => {
      const cost = options.cost?.(tool, input, output)
      return cost === undefined ? undefined : { ...cost, name: cost.name ?? name }
    }

    const refresh = Effect.flatMap(Queue.take(stale), (client) =>
      lock
        .withPermits(1)(
          Effect.suspend(() =>
            current !== client
              ? Effect.void
              : Effect.map(read(client), (found) => {
                  tools = found
                })
          )
        )
        .pipe(
          Effect.catchAll(({ message }) => Effect.zipRight(Effect.logWarning(message), close(client))),
          Effect.zipRight(Effect.sleep(refreshEvery))
        )
    )

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        ended = true
        return current === undefined ? Effect.void : close(current)
      })
    )
    yield* connected
    yield* Effect.forkScoped(Effect.forever(refresh))
    return () => tools
  })

const misconfigured = (server: string, message: string): Source<McpConnectionError> => ({
  connect: new McpConnectionError({ server, message: `the MCP server ${JSON.stringify(server)} ${message}` })
})

const source = (options: CommonOptions, link: ServerLink): Source<McpConnectionError> =>
  /^[A-Za-z0-9._-]{1,64}$/.test(options.server)
    ? { connect: connect(options, link) }
    : misconfigured(options.server, 'is no name: use 1 to 64 letters, digits, ".", "_", "-"')

/** The tools of a server that is started as a child process, and ended with the layer. */
export const stdio = (options: StdioOptions): Source<McpConnectionError> =>
  source(options, {
    tellsClose: true,
    transport: () =>
      new StdioClientTransport({
        command: options.command,
        args: [...(options.args ?? [])],
        stderr: options.stderr ?? "inherit",
        ...(options.env === undefined ? {} : { env: plain(options.env) }),
        ...(options.cwd === undefined ? {} : { cwd: options.cwd })
      })
  })

/** The tools of a server at a URL (streamable HTTP). */
export const http = (options: HttpOptions): Source<McpConnectionError> => {
  const url = URL.canParse(options.url) ? new URL(options.url) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "")
    return misconfigured(options.server, "needs an http:// or https:// URL, without user and password in it")
  if (url.protocol === "http:" && !isLoopback(url.hostname) && options.allowInsecure !== true)
    return misconfigured(
      options.server,
      "is not on this machine: use https://, or set allowInsecure, with which headers travel readable"
    )
  return source(options, {
    tellsClose: false,
    transport: () =>
      new StreamableHTTPClientTransport(url, { requestInit: { headers: plain(options.headers ?? {}) } })
  })
}

/** `Tools` of one such server and nothing else; with others, use `Tools.layer([…, ToolsMcp.stdio(…)])`. */
export const layerStdio = (
  options: StdioOptions
): Layer.Layer<Tools, McpConnectionError | ToolsLayer.ToolRegistrationError> =>
  ToolsLayer.layer([stdio(options)])

/** `Tools` of one such server and nothing else; with others, use `Tools.layer([…, ToolsMcp.http(…)])`. */
export const layerHttp = (
  options: HttpOptions
): Layer.Layer<Tools, McpConnectionError | ToolsLayer.ToolRegistrationError> =>
  ToolsLayer.layer([http(options)])
