import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { build as bundle } from "esbuild"
import { afterAll, beforeAll } from "vitest"
import * as Tools from "../../../src/layers/agents/Tools.js"
import * as ToolsMcp from "../../../src/layers/agents/ToolsMcp.js"
import { InternalError, InvalidRequest, PermissionDenied, Timeout } from "../../../src/protocol/Errors.js"
import { lessee } from "../../support/lessee.js"

/** The fixture in one file, which starts in a third of the time: nearly each test starts one. */
const folder = mkdtempSync(join(tmpdir(), "arcp-mcp-"))
const fixture = join(folder, "mcp-server.mjs")
beforeAll(() =>
  bundle({
    entryPoints: [fileURLToPath(new URL("fixtures/mcp-server.mjs", import.meta.url))],
    bundle: true,
    platform: "node",
    format: "esm",
    // What is in it as CommonJS requires modules of Node.
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url)'
    },
    outfile: fixture
  })
)
afterAll(() => rmSync(folder, { recursive: true }))

const stdio = (options: Partial<ToolsMcp.StdioOptions> = {}) =>
  ToolsMcp.stdio({ server: "fix", command: process.execPath, args: [fixture, "stdio"], ...options })

/** The fixture over HTTP; gives its port. */
const serve = (port = 0) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const child = spawn(process.execPath, [fixture, "http", `${port}`], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      const [line] = (await once(child.stdout, "data")) as [Buffer]
      return { child, port: Number(line.toString()) }
    }),
    ({ child }) => kill(child)
  )
const kill = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, "exit")
    child.kill("SIGKILL")
    await exit
  })
const http = (port: number, options: Partial<ToolsMcp.HttpOptions> = {}) =>
  ToolsMcp.http({
    server: "fix",
    url: `http://127.0.0.1:${port}/mcp`,
    headers: { authorization: Redacted.make("Bearer sesame") },
    ...options
  })

const build = (item: Tools.Source<ToolsMcp.McpConnectionError>) =>
  Effect.map(Layer.build(Tools.layer([item])), Context.get(Tools.Tools)).pipe(
    // The fixture lists tools that are left out, with a warning each.
    Logger.withMinimumLogLevel(LogLevel.None)
  )

/** What both transports do alike. */
const suite = (name: string, connect: Effect.Effect<Tools.ToolsService, unknown, Scope.Scope>) =>
  describe(name, () => {
    it.scopedLive("lists all pages, without names that no lease could be asked for", () =>
      Effect.gen(function* () {
        const tools = yield* (yield* connect).list
        expect(tools).toHaveLength(14)
        expect(tools[0]).toEqual({
          name: "mcp:fix/echo",
          description: "does echo",
          inputSchema: { type: "object", properties: { name: { type: "string" } } }
        })
        expect(tools.map((tool) => tool.name)).toContain("mcp:fix/grow")
      })
    )

    it.scopedLive("gives structured content, else text, else the parts", () =>
      Effect.gen(function* () {
        const tools = yield* connect
        expect(yield* tools.call("mcp:fix/add", { a: 1, b: 2 })).toEqual({ sum: 3 })
        expect(yield* tools.call("mcp:fix/echo", { a: ["ü"] })).toBe('{"a":["ü"]}')
        expect(yield* tools.call("mcp:fix/echo")).toBe("{}")
        expect(yield* tools.call("mcp:fix/lines")).toBe("one\ntwo")
        expect(yield* tools.call("mcp:fix/mixed")).toEqual([
          { type: "text", text: "look" },
          { type: "image", data: "AA==", mimeType: "image/png" }
        ])
      })
    )

    it.scopedLive("gives failures of a tool, of its input and of the caller as what they are", () =>
      Effect.gen(function* () {
        const tools = yield* connect
        const failure = yield* Effect.flip(tools.call("mcp:fix/fail"))
        expect(failure).toBeInstanceOf(InternalError)
        expect(failure).toMatchObject({
          message: "tool mcp:fix/fail failed: the disk is full",
          details: { error: "the disk is full" }
        })
        const Fail = Tools.make("mcp:fix/fail", { error: Schema.String })
        expect(yield* Effect.flip(tools.call(Fail, {}))).toBe("the disk is full")
        expect(yield* Effect.flip(tools.call("mcp:fix/picky"))).toBeInstanceOf(InvalidRequest)
        expect(yield* Effect.flip(tools.call("mcp:fix/echo", [1]))).toBeInstanceOf(InvalidRequest)
        expect(yield* Effect.flip(tools.call("mcp:fix/unknown"))).toBeInstanceOf(InvalidRequest)
      })
    )

    it.scopedLive("cancels the request of an interrupted call", () =>
      Effect.gen(function* () {
        const tools = yield* connect
        const fiber = yield* Effect.fork(tools.call("mcp:fix/hang"))
        yield* tools.call("mcp:fix/started")
        yield* Fiber.interrupt(fiber)
        expect(yield* tools.call("mcp:fix/aborted")).toBe("aborted")
      })
    )

    it.scopedLive("reads the list again when the server says that it changed", () =>
      Effect.gen(function* () {
        const tools = yield* connect
        yield* tools.call("mcp:fix/grow")
        yield* Effect.repeat(Effect.zipRight(tools.call("mcp:fix/pid"), tools.list), {
          until: (list) => list.some((tool) => tool.name === "mcp:fix/extra")
        })
      })
    )

    it.scopedLive("is held to a lease by the name of server and tool", () =>
      Effect.gen(function* () {
        const open = yield* connect
        const job = lessee({ allow: ["mcp:fix/echo"] })
        const tools = open.leasedTo(job)
        expect(yield* tools.call("mcp:fix/echo", {})).toBe("{}")
        expect(yield* Effect.flip(tools.call("mcp:fix/pid"))).toBeInstanceOf(PermissionDenied)
        expect(job.events.map((event) => event.kind)).toEqual([
          "tool_call",
          "tool_result",
          "metric",
          "tool_result"
        ])
        expect(job.events[2]?.body).toMatchObject({ name: "cost.mcp:fix/echo", value: 0.5 })
        expect((yield* tools.list).map((tool) => tool.name)).toEqual(["mcp:fix/echo"])
      })
    )
  })

const cost = () => ({ amount: "0.5", currency: "USD" })
suite("over stdio", build(stdio({ cost })))
suite(
  "over HTTP",
  Effect.flatMap(serve(), ({ port }) => build(http(port, { cost })))
)

describe("a call that fails", () => {
  it.scopedLive(
    "costs what the operator says, also when it is interrupted, and nothing that was never sent",
    () =>
      Effect.gen(function* () {
        const costs: Array<string> = []
        const open = yield* build(
          stdio({
            cost,
            costOnFailure: (tool, _, failure) => {
              costs.push(`${tool} ${failure?._tag}`)
              return { amount: "0.25", currency: "USD" }
            }
          })
        )
        const job = lessee({ allow: ["mcp:fix/fail", "mcp:fix/hang", "mcp:fix/started"] })
        const tools = open.leasedTo(job)
        yield* Effect.flip(tools.call("mcp:fix/fail"))
        const hanging = yield* Effect.fork(tools.call("mcp:fix/hang"))
        yield* tools.call("mcp:fix/started")
        yield* Fiber.interrupt(hanging)
        expect(costs).toEqual(["fail ToolFailure", "hang undefined"])
        expect(
          job.events.flatMap(({ body, kind }) =>
            kind === "metric" ? [(body as { value: number }).value] : []
          )
        ).toEqual([0.25, 0.5, 0.25])
      })
  )
})

describe("stdio", () => {
  it.scopedLive("starts a server again that has ended", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio())
      const first = yield* tools.call("mcp:fix/pid")
      const hanging = yield* Effect.fork(Effect.flip(tools.call("mcp:fix/hang")))
      yield* tools.call("mcp:fix/started")
      const error = yield* Effect.flip(tools.call("mcp:fix/die"))
      expect(error).toMatchObject({
        code: "INTERNAL_ERROR",
        details: { reason: "mcp_connection_lost" }
      })
      expect(yield* Fiber.join(hanging)).toMatchObject({ details: { reason: "mcp_connection_lost" } })
      expect(yield* tools.call("mcp:fix/pid")).not.toBe(first)
    })
  )

  it.live("ends the server with the layer", () =>
    Effect.gen(function* () {
      const pid = yield* Effect.scoped(Effect.flatMap(build(stdio()), (tools) => tools.call("mcp:fix/pid")))
      expect(() => process.kill(Number(pid), 0)).toThrow("ESRCH")
    })
  )

  it.scopedLive("passes on the environment it is given, and not ours", () => {
    process.env["FIXTURE_SECRET"] = "ours"
    return Effect.gen(function* () {
      const tools = yield* build(stdio({ env: { TOKEN: Redacted.make("given") } }))
      expect(yield* tools.call("mcp:fix/env", { name: "TOKEN" })).toBe("given")
      expect(yield* tools.call("mcp:fix/env", { name: "FIXTURE_SECRET" })).toBe("unset")
    }).pipe(Effect.ensuring(Effect.sync(() => Reflect.deleteProperty(process.env, "FIXTURE_SECRET"))))
  })

  it.scopedLive("gives a call up that shows no progress", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio({ timeout: "50 millis" }))
      expect(yield* Effect.flip(tools.call("mcp:fix/hang"))).toBeInstanceOf(Timeout)
    })
  )

  it.scopedLive("does not build without the server", () =>
    Effect.gen(function* () {
      const missing = yield* Effect.flip(build(stdio({ command: "/nonexistent/mcp" })))
      expect(missing.message).toContain("MCP server fix cannot be reached (ENOENT)")
      const exits = yield* Effect.flip(build(stdio({ args: ["-e", "0"] })))
      expect(exits.message).toContain("cannot be reached")
      const name = yield* Effect.flip(build(stdio({ server: "a/b" })))
      expect(name.message).toContain("is no name")
    })
  )
})

describe("HTTP", () => {
  it.scopedLive("sends its headers", () =>
    Effect.gen(function* () {
      const { port } = yield* serve()
      const tools = yield* build(
        http(port, { headers: { authorization: "Bearer sesame", "x-test": Redacted.make("yes") } })
      )
      expect(yield* tools.call("mcp:fix/header", { name: "x-test" })).toBe("yes")
    })
  )

  it.scopedLive("fails calls while the server is away, in flight and new, and connects again", () =>
    Effect.gen(function* () {
      const { child, port } = yield* serve()
      const tools = yield* build(http(port))
      const first = yield* tools.call("mcp:fix/pid")
      const hanging = yield* Effect.fork(Effect.flip(tools.call("mcp:fix/hang")))
      yield* tools.call("mcp:fix/started")
      yield* kill(child)
      expect(yield* Fiber.join(hanging)).toMatchObject({ details: { reason: "mcp_connection_lost" } })
      const away = yield* Effect.flip(tools.call("mcp:fix/pid"))
      expect(away).toBeInstanceOf(InternalError)
      expect(away.message).toContain("cannot be reached (ECONNREFUSED)")
      yield* serve(port)
      expect(yield* tools.call("mcp:fix/pid")).not.toBe(first)
    })
  )

  it.scopedLive("opens a new session when the server has forgotten the old one", () =>
    Effect.gen(function* () {
      const { child, port } = yield* serve()
      const tools = yield* build(http(port))
      yield* kill(child)
      yield* serve(port)
      const call = Effect.retry(tools.call("mcp:fix/echo"), {
        times: 1,
        while: (error) => error._tag === "InternalError"
      })
      expect(yield* call).toBe("{}")
    })
  )

  it.scopedLive("says what is wrong with the address, and not what is secret", () =>
    Effect.gen(function* () {
      const { port } = yield* serve()
      const refused = yield* Effect.flip(build(http(port, { headers: { authorization: "Bearer wrong" } })))
      expect(refused.message).toContain("cannot be reached (HTTP 401)")
      expect(refused.message).not.toContain("wrong")
      const failure = (options: Partial<ToolsMcp.HttpOptions>) =>
        Effect.map(Effect.flip(build(http(port, options))), (error) => error.message)
      expect(yield* failure({ url: "http://mcp.example/" })).toContain("use https://")
      expect(yield* failure({ url: "ftp://localhost/" })).toContain("needs an http:// or https:// URL")
      expect(yield* failure({ url: "https://user:secret@localhost/" })).not.toContain("secret")
    })
  )
})
