/** One server: its connection, which is made again when it was lost, and the tools that it is known to have. */
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import type { RequestOptions } from "@modelcontextprotocol/sdk/shared/protocol.js"
import {
  type CallToolResult,
  CallToolResultSchema,
  type Tool,
  ToolListChangedNotificationSchema
} from "@modelcontextprotocol/sdk/types.js"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Argument from "../../../protocol/Argument.js"
import { type ArcpError, InternalError, InvalidRequest } from "../../../protocol/Errors.js"
import { isRecord } from "../../../protocol/Json.js"
import { owed, type Registered, type ToolFailure } from "../../../services/agents/Tools.js"
import type { Cost } from "../../../services/lease/Lease.js"
import { timerMillis } from "../../../services/runtime/timerMillis.js"
import { answer, callError, isLost, reason } from "./answers.js"
import {
  attempt,
  close,
  type McpConnectionError,
  type ServerLink,
  unreachable,
  within
} from "./connecting.js"
import { readTools } from "./listing.js"

/** What the operator says of a server, however it is reached. */
export interface CommonOptions {
  /** The SERVER of `mcp:SERVER/TOOL`: letters, digits, `.`, `_`, `-`. */
  readonly server: string
  /** Time after which a connection, or a list of tools, is given up. Default: 30 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** Time of a call without a sign of progress; then it fails with `Timeout`. Default: 60 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
  /** Time of a call altogether. Default: no limit beside `timeout`. */
  readonly maxTimeout?: Duration.DurationInput | undefined
  /** Bytes of one message of the server, an answer for the most part, decompressed, and of its list of tools. Default: 10 MiB. */
  readonly maxAnswerBytes?: number | undefined
  /**
   * What a call costs that succeeded, by the tool's name at the server. Default: nothing. What it gives that is no amount, or throws, is
   * logged, and the call costs what `costOnFailure` says: outputs are the server's, and it must not decide by them that its calls are free.
   */
  readonly cost?: ((tool: string, input: unknown, output: unknown) => Cost | undefined) | undefined
  /**
   * What a call costs that the server has been sent and that fails, or is interrupted; the failure is `undefined` for
   * the latter. Default: nothing.
   */
  readonly costOnFailure?:
    | ((tool: string, input: unknown, failure: ToolFailure | ArcpError | undefined) => Cost | undefined)
    | undefined
}

/** What sets no bound. */
const endless = Argument.that(
  "without an end",
  (value) => value === Infinity || (Duration.isDuration(value) && !Duration.isFinite(value))
)

/** What has to be right of these options, whatever else there is. */
export const commonRules: Readonly<Record<keyof CommonOptions, Argument.Rule>> = {
  server: Argument.string,
  connectTimeout: Argument.maybe(Argument.positiveDuration),
  timeout: Argument.maybe(Argument.positiveDuration),
  maxTimeout: Argument.maybe(Argument.either(Argument.positiveDuration, endless)),
  maxAnswerBytes: Argument.maybe(Argument.either(Argument.positive, endless)),
  cost: Argument.maybe(Argument.callable),
  costOnFailure: Argument.maybe(Argument.callable)
}

/** Bytes of an answer, if the operator does not say. */
const defaultMaxAnswerBytes = 10 * 1024 * 1024

/** Returns how large a message of the server may be, in bytes. */
export const maxAnswerBytes = (options: CommonOptions): number =>
  options.maxAnswerBytes ?? defaultMaxAnswerBytes

/** Time between two lists that the server asks for. */
const refreshEvery = Duration.seconds(1)

const limitsOf = (options: CommonOptions): RequestOptions => ({
  timeout: timerMillis(options.timeout ?? "60 seconds"),
  // Without it the server is not asked for progress, which is what keeps a long call alive.
  onprogress: () => undefined,
  resetTimeoutOnProgress: true,
  // Compared with what has passed: no timer waits for it.
  ...(options.maxTimeout === undefined ? {} : { maxTotalTimeout: Duration.toMillis(options.maxTimeout) })
})

/** The connection to a server. At most one is open, and it is opened by whoever needs it first. */
class McpConnection {
  private current: Client | undefined
  private ended = false
  private readonly lock = Effect.unsafeMakeSemaphore(1)
  private readonly connectTimeout: number
  tools: ReadonlyMap<string, Tool> = new Map()

  constructor(
    private readonly options: CommonOptions,
    private readonly link: ServerLink,
    /** Connections whose list of tools is to be read again; one that does not answer is given up. */
    private readonly stale: Queue.Queue<Client>
  ) {
    this.connectTimeout = timerMillis(options.connectTimeout ?? "30 seconds")
  }

  /** Returns the open connection, or opens one. */
  readonly connected: Effect.Effect<Client, McpConnectionError> = this.lock.withPermits(1)(
    Effect.suspend(() => (this.current === undefined ? this.open() : Effect.succeed(this.current)))
  )

  /** Reads the list again of a connection that says so, and waits before the next. */
  readonly refresh: Effect.Effect<void> = Effect.suspend(() => Queue.take(this.stale)).pipe(
    Effect.flatMap((client) =>
      this.lock
        .withPermits(1)(
          Effect.suspend(() =>
            this.current !== client
              ? Effect.void
              : Effect.map(this.read(client), (found) => {
                  this.tools = found
                })
          )
        )
        .pipe(
          Effect.catchAll(({ message }) => Effect.zipRight(Effect.logWarning(message), this.close(client))),
          Effect.zipRight(Effect.sleep(refreshEvery))
        )
    )
  )

  /** Ends the connection for good. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.ended = true
    return this.current === undefined ? Effect.void : this.close(this.current)
  })

  /** Calls a tool by the server's name for it; `name` is what it is called here. `sending` is run when there is a connection. */
  call(name: string, tool: string, input: Record<string, unknown>, sending: () => void) {
    return Effect.gen(this, function* () {
      const client = yield* Effect.mapError(
        this.connected,
        ({ message }) => new InternalError({ message, details: { reason: "mcp_not_connected" } })
      )
      const limits = limitsOf(this.options)
      const result = yield* Effect.catchAll(
        attempt((signal) => {
          sending()
          return client.callTool({ name: tool, arguments: input }, CallToolResultSchema, {
            ...limits,
            signal
          })
        }),
        ({ error }): Effect.Effect<never, ToolFailure | ArcpError> =>
          isLost(error) ? this.lost(name, client, error) : Effect.fail(callError(name, error))
      )
      return yield* answer(name, result as CallToolResult)
    })
  }

  private read(client: Client) {
    return readTools(this.options.server, client, {
      timeout: this.connectTimeout,
      maxBytes: maxAnswerBytes(this.options)
    })
  }

  private close(client: Client): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.forget(client)
      return close(client)
    })
  }

  private forget(client: Client): void {
    if (this.current === client) this.current = undefined
  }

  private open(): Effect.Effect<Client, McpConnectionError> {
    const failed = unreachable(this.options.server)
    const client = new Client({ name: "effect-arcp", version: "1" })
    client.onclose = () => this.forget(client)
    if (!this.link.tellsClose) client.onerror = () => void this.stale.unsafeOffer(client)
    client.setNotificationHandler(
      ToolListChangedNotificationSchema,
      () => void this.stale.unsafeOffer(client)
    )
    return Effect.mapError(
      attempt((signal) => client.connect(this.link.transport(), { timeout: this.connectTimeout, signal })),
      failed
    ).pipe(
      // The SDK waits for the answers to its notifications too, for as long as they take.
      within(this.options.server, this.connectTimeout),
      Effect.zipRight(this.read(client)),
      Effect.flatMap((found) => {
        if (this.ended) return failed({ error: new Error("the layer has ended") })
        this.tools = found
        this.current = client
        return Effect.succeed(client)
      }),
      Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : this.close(client)))
    )
  }

  private lost(name: string, client: Client, error: unknown): Effect.Effect<never, InternalError> {
    return Effect.suspend(() => {
      this.forget(client)
      return Effect.zipRight(
        Effect.forkDaemon(this.close(client)),
        new InternalError({
          message: `tool ${name}: the connection to the MCP server ${this.options.server} was lost (${reason(error)}); the next call connects again`,
          details: { reason: "mcp_connection_lost" }
        })
      )
    })
  }
}

const costOf = (
  options: CommonOptions,
  name: string,
  tool: string,
  input: unknown,
  exit: Exit.Exit<unknown, ToolFailure | ArcpError>
): Effect.Effect<Cost | undefined> => {
  const failed = (failure: ToolFailure | ArcpError | undefined) => () =>
    options.costOnFailure?.(tool, input, failure)
  return Exit.isSuccess(exit)
    ? owed(name, () => options.cost?.(tool, input, exit.value), failed(undefined))
    : owed(name, failed(Option.getOrUndefined(Cause.failureOption(exit.cause))))
}

/** A tool of the server, to be called over its connection as it then is. */
const registered = (
  connection: McpConnection,
  options: CommonOptions,
  name: string,
  { description, inputSchema, name: tool }: Tool
): Registered => ({
  name,
  description,
  inputSchema,
  prepare: (input = {}) =>
    isRecord(input)
      ? Effect.succeed((restore) => {
          // A server that was not reached, or not yet, has never heard of the call.
          let sent = false
          const call = connection.call(name, tool, input, () => {
            sent = true
          })
          return Effect.flatMap(Effect.exit(restore(call)), (exit) =>
            Effect.map(
              sent ? costOf(options, name, tool, input, exit) : Effect.succeed(undefined),
              (cost) => ({
                exit,
                cost
              })
            )
          )
        })
      : new InvalidRequest({ message: `tool ${name}: input: expected an object` })
})

/** Connects to a server for the scope, and returns what gives its tools as they are known at the moment. */
export const connect = (
  options: CommonOptions,
  link: ServerLink
): Effect.Effect<() => ReadonlyMap<string, Registered>, McpConnectionError, Scope.Scope> =>
  Effect.gen(function* () {
    const connection = new McpConnection(options, link, yield* Queue.sliding<Client>(1))
    yield* Effect.addFinalizer(() => connection.end)
    yield* connection.connected
    yield* Effect.forkScoped(Effect.forever(connection.refresh))
    let listed: ReadonlyMap<string, Tool> | undefined
    let tools: ReadonlyMap<string, Registered> = new Map()
    return () => {
      if (listed !== connection.tools) {
        listed = connection.tools
        tools = new Map(
          Array.from(listed, ([name, tool]) => [name, registered(connection, options, name, tool)])
        )
      }
      return tools
    }
  })
