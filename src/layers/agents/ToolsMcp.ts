/**
 * The tools of an MCP server as `tool.call` targets `mcp:SERVER/TOOL`, over the official SDK: a server that is our
 * child process (stdio), or one at a URL (streamable HTTP). SERVER is the name that the operator gives it.
 *
 * The connection is the layer's. When it is lost, calls in flight fail with `INTERNAL_ERROR`, and the next call
 * connects again; until then the tools are those that were known. What the server says is data: names that no
 * lease could be asked for are left out, its text is put into errors, its schemas are passed on and not compiled.
 */
import type * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Argument from "../../protocol/Argument.js"
import { isLoopback } from "../../protocol/Loopback.js"
import type { Source, Tools } from "../../services/agents/Tools.js"
import { McpConnectionError, type ServerLink } from "./mcp/connecting.js"
import { type CommonOptions, commonRules, connect, maxAnswerBytes } from "./mcp/connection.js"
import { HttpTransport } from "./mcp/HttpTransport.js"
import { StdioTransport } from "./mcp/StdioTransport.js"
import * as ToolsLayer from "./Tools.js"

export { McpConnectionError } from "./mcp/connecting.js"

/** An MCP server that is started as a child process, and spoken to over its stdin and stdout. */
export interface StdioOptions extends CommonOptions {
  /** The program, with its arguments beside it: no shell reads it. */
  readonly command: string
  readonly args?: ReadonlyArray<string> | undefined
  /** Beside `HOME`, `PATH` and the like, which the SDK passes on; nothing else of our environment is. */
  readonly env?: Readonly<Record<string, string | Redacted.Redacted>> | undefined
  /** Where it runs. Default: the directory of this process. */
  readonly cwd?: string | undefined
  /** What becomes of the server's stderr. Default `inherit`: it goes to ours. */
  readonly stderr?: "inherit" | "ignore" | undefined
}

/** An MCP server that is spoken to over HTTP (Streamable HTTP). */
export interface HttpOptions extends CommonOptions {
  /** `https://…`, or `http://…` on this machine. */
  readonly url: string
  /** Sent with every request. Redirects to another origin are not followed. */
  readonly headers?: Readonly<Record<string, string | Redacted.Redacted>> | undefined
  /** Allow `http://` to another machine: headers then travel readable. Default false. */
  readonly allowInsecure?: boolean | undefined
}

const stdioRule = Argument.options<StdioOptions>({
  ...commonRules,
  command: Argument.text,
  args: Argument.maybe(Argument.listOf(Argument.string)),
  env: Argument.maybe(Argument.object),
  cwd: Argument.maybe(Argument.text),
  stderr: Argument.maybe(Argument.oneOf("inherit", "ignore"))
})

const httpRule = Argument.options<HttpOptions>({
  ...commonRules,
  url: Argument.string,
  headers: Argument.maybe(Argument.object),
  allowInsecure: Argument.maybe(Argument.boolean)
})

const plain = (values: Readonly<Record<string, string | Redacted.Redacted>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      Redacted.isRedacted(value) ? Redacted.value(value) : value
    ])
  )

const misconfigured = (server: string, message: string): Source<McpConnectionError> => ({
  connect: new McpConnectionError({ server, message: `the MCP server ${JSON.stringify(server)} ${message}` })
})

const source = (options: CommonOptions, link: ServerLink): Source<McpConnectionError> =>
  /^[A-Za-z0-9._-]{1,64}$/.test(options.server)
    ? { connect: connect(options, link) }
    : misconfigured(options.server, 'is no name: use 1 to 64 letters, digits, ".", "_", "-"')

/** The tools of a server that is started as a child process, and ended with the layer. Throws on options that cannot be. */
export const stdio = (options: StdioOptions): Source<McpConnectionError> => {
  Argument.check("ToolsMcp.stdio", ["options", stdioRule, options])
  return source(options, {
    tellsClose: true,
    transport: () =>
      new StdioTransport({
        maxBufferSize: maxAnswerBytes(options),
        command: options.command,
        args: [...(options.args ?? [])],
        stderr: options.stderr ?? "inherit",
        ...(options.env === undefined ? {} : { env: plain(options.env) }),
        ...(options.cwd === undefined ? {} : { cwd: options.cwd })
      })
  })
}

/** The tools of a server at a URL (streamable HTTP). Throws on options that cannot be. */
export const http = (options: HttpOptions): Source<McpConnectionError> => {
  Argument.check("ToolsMcp.http", ["options", httpRule, options])
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
      new HttpTransport(url, {
        headers: plain(options.headers ?? {}),
        maxAnswerBytes: maxAnswerBytes(options)
      })
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
