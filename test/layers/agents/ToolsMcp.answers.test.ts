/** MCP servers that answer as they should not: nothing that one of them does makes a call wait for its whole timeout. */
import { once } from "node:events"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { describe, expect, it } from "@effect/vitest"
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { wholeEvents } from "../../../src/layers/agents/mcp/events.js"
import { Replies } from "../../../src/layers/agents/mcp/Replies.js"
import * as Tools from "../../../src/layers/agents/Tools.js"
import * as ToolsMcp from "../../../src/layers/agents/ToolsMcp.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import { lessee } from "../../support/lessee.js"

const build = (item: Tools.Source<ToolsMcp.McpConnectionError>) =>
  Effect.map(Layer.build(Tools.layer([item])), Context.get(Tools.Tools)).pipe(
    Logger.withMinimumLogLevel(LogLevel.None)
  )

/** Waiting this long would be seen: the test itself gives up before. */
const patient = { timeout: "1 hour", connectTimeout: "1 hour" } as const

const stubborn = fileURLToPath(new URL("fixtures/mcp-stubborn.mjs", import.meta.url))
const stdio = (options: Partial<ToolsMcp.StdioOptions> = {}) =>
  ToolsMcp.stdio({ server: "bad", command: process.execPath, args: [stubborn], ...patient, ...options })

interface Call {
  readonly id: number
  readonly response: ServerResponse
  readonly request: IncomingMessage
  readonly params?: { readonly cursor?: string } | undefined
}
type Answers = Readonly<Record<string, (call: Call) => void>>

const result = (id: number, text: string) =>
  JSON.stringify({ jsonrpc: "2.0", id, result: { content: [{ type: "text", text }] } })
const json = (response: ServerResponse, text: string, headers = {}) =>
  response.writeHead(200, { "content-type": "application/json", ...headers }).end(text)
const welcome = ({ id, response }: Pick<Call, "id" | "response">) =>
  json(
    response,
    JSON.stringify({
      jsonrpc: "2.0",
      id,
      result: {
        protocolVersion: "2025-06-18",
        capabilities: { tools: {} },
        serverInfo: { name: "bad", version: "1" }
      }
    })
  )
const stream = (response: ServerResponse) => {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" })
  response.flushHeaders()
  return response
}

/** A server by hand: it answers calls of each tool as it is told to, and GET requests by `resume`. */
const serve = (answers: Answers, resume?: (request: IncomingMessage, response: ServerResponse) => void) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createServer(async (request, response) => {
        if (request.method !== "POST")
          return resume === undefined ? response.writeHead(405).end() : resume(request, response)
        let body = ""
        for await (const chunk of request) body += chunk
        const { id, method, params } = JSON.parse(body)
        const of = (value: unknown) => json(response, JSON.stringify({ jsonrpc: "2.0", id, result: value }))
        if (method === undefined && answers["answer"] !== undefined)
          return answers["answer"]({ id, request, response })
        if (answers[method] !== undefined) return answers[method]({ id, request, response, params })
        if (method === "initialize") return welcome({ id, response })
        if (method === "tools/list")
          return of({
            tools: Object.keys(answers).map((name) => ({ name, inputSchema: { type: "object" } }))
          })
        if (id === undefined) return response.writeHead(202).end()
        answers[params.name]?.({ id, request, response, params })
      })
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      return { server, port: (server.address() as AddressInfo).port }
    }),
    ({ server }) =>
      Effect.promise(async () => {
        const closed = once(server, "close")
        server.close()
        server.closeAllConnections()
        await closed
      })
  )

const http = (port: number, options: Partial<ToolsMcp.HttpOptions> = {}) =>
  ToolsMcp.http({ server: "bad", url: `http://127.0.0.1:${port}/mcp`, ...patient, ...options })

const noResult = { code: "INTERNAL_ERROR", details: { reason: "mcp_no_result" } }
const tooLarge = (bytes: number) => ({
  code: "INTERNAL_ERROR",
  message: expect.stringContaining(`more than ${bytes} bytes (maxAnswerBytes)`),
  details: { reason: "mcp_answer_too_large", limit: "maxAnswerBytes" }
})

describe("an answer without a result, over HTTP", () => {
  it.scopedLive("fails the call at once, and no other", () =>
    Effect.gen(function* () {
      let held: Call | undefined
      const { port } = yield* serve({
        ok: ({ id, response }) => json(response, result(id, "ok")),
        streamed: ({ id, response }) => stream(response).end(`data: ${result(id, "streamed")}\r\n\r\n`),
        held: (call) => {
          stream(call.response)
          held = call
        },
        ended: ({ response }) => stream(response).end(": nothing to say\n\n"),
        empty: ({ response }) => stream(response).end(),
        accepted: ({ response }) => response.writeHead(202).end(),
        otherId: ({ id, response }) => json(response, result(id + 1_000, "not yours")),
        otherIdStreamed: ({ id, response }) =>
          stream(response).end(`data: ${result(id + 1_000, "not yours")}\n\n`),
        halfAnEvent: ({ id, response }) => stream(response).end(`data: ${result(id, "cut off")}`),
        noBatch: ({ response }) => json(response, "[]"),
        garbage: ({ response }) => stream(response).end("data: {garbage\n\n")
      })
      const tools = yield* build(http(port))
      const hanging = yield* Effect.fork(tools.call("mcp:bad/held"))
      while (held === undefined) yield* Effect.sleep("5 millis")
      for (const name of [
        "ended",
        "empty",
        "accepted",
        "otherId",
        "otherIdStreamed",
        "halfAnEvent",
        "noBatch",
        "garbage"
      ]) {
        expect(yield* Effect.flip(tools.call(`mcp:bad/${name}`)), name).toMatchObject(noResult)
        expect(yield* tools.call("mcp:bad/ok")).toBe("ok")
      }
      expect(yield* tools.call("mcp:bad/streamed")).toBe("streamed")
      held.response.end(`data: ${result(held.id, "at last")}\n\n`)
      expect(yield* Fiber.join(hanging)).toBe("at last")
    })
  )

  it.scopedLive("that is none, or says by its status why there is none, fails its call and no other", () =>
    Effect.gen(function* () {
      let held: Call | undefined
      const status =
        (code: number) =>
        ({ response }: Call) =>
          response.writeHead(code, { "content-type": "text/html" }).end("<h1>secret</h1>")
      const odd =
        (text: string, type = "application/json") =>
        ({ response }: Call) =>
          response.writeHead(200, { "content-type": type }).end(text)
      const answers: Answers = {
        bad: status(400),
        unknown: status(401),
        forbidden: status(403),
        large: status(413),
        many: status(429),
        broken: status(500),
        away: status(503),
        moved: ({ response }) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
        notJson: odd('{"jsonrpc":'),
        nothing: odd(""),
        page: odd("<h1>Log in</h1>", "text/html"),
        text: odd("{}", "text/plain"),
        number: odd("3"),
        dropped: ({ request }) => request.socket.destroy(),
        cut: ({ response }) =>
          response
            .writeHead(200, { "content-type": "application/json", "content-length": "100" })
            .write("{", () => response.destroy())
      }
      const { port } = yield* serve({
        ...answers,
        held: (call) => {
          stream(call.response)
          held = call
        }
      })
      const tools = yield* build(http(port))
      const hanging = yield* Effect.fork(tools.call("mcp:bad/held"))
      while (held === undefined) yield* Effect.sleep("5 millis")
      for (const name of Object.keys(answers)) {
        const error = yield* Effect.flip(tools.call(`mcp:bad/${name}`))
        expect(error, name).toMatchObject({ code: "INTERNAL_ERROR", retryable: true })
        expect(error.message, name).not.toMatch(/secret|-1|Log in/)
      }
      expect(yield* Effect.flip(tools.call("mcp:bad/large"))).toMatchObject({
        message: "tool mcp:bad/large: the server answered with HTTP 413",
        details: { reason: "mcp_http" }
      })
      for (const name of ["dropped", "cut"])
        expect(yield* Effect.flip(tools.call(`mcp:bad/${name}`)), name).toMatchObject({
          message: expect.stringContaining("the connection was lost ("),
          details: { reason: "mcp_connection_lost" }
        })
      held.response.end(`data: ${result(held.id, "at last")}\n\n`)
      expect(yield* Fiber.join(hanging)).toBe("at last")
    })
  )

  it.scopedLive("is a lost connection when it was cut in the middle", () =>
    Effect.gen(function* () {
      const { port } = yield* serve({
        cut: ({ id, response }) =>
          stream(response).write(`data: ${result(id, "x").slice(0, 20)}`, () => response.destroy()),
        ok: ({ id, response }) => json(response, result(id, "ok"))
      })
      const tools = yield* build(http(port))
      expect(yield* Effect.flip(tools.call("mcp:bad/cut"))).toMatchObject({
        code: "INTERNAL_ERROR",
        details: { reason: "mcp_connection_lost" }
      })
      expect(yield* tools.call("mcp:bad/ok")).toBe("ok")
    })
  )

  it.scopedLive("is waited for where the stream can be gone on with, and not where that is refused", () =>
    Effect.gen(function* () {
      const resumed: Array<string> = []
      let listened = 0
      let asked = 0
      const later =
        (from: string) =>
        ({ id, response }: Call) => {
          asked = id
          stream(response).end(`id: ${from}\nretry: 1\ndata:\n\n`)
        }
      const { port } = yield* serve(
        {
          later: later("later"),
          moved: later("moved"),
          round: later("round"),
          elsewhere: later("elsewhere"),
          never: ({ response }) => stream(response).end("id: never\nretry: 1\ndata:\n\n"),
          gone: ({ response }) => stream(response).end("id: gone\nretry: 1\ndata:\n\n"),
          nothing: ({ response }) => stream(response).end("id: nothing\nretry: 1\ndata:\n\n")
        },
        (request, response) => {
          const from = request.headers["last-event-id"]
          if (typeof from === "string") resumed.push(from)
          else listened++
          const moved = (location: string) => response.writeHead(307, { location }).end()
          if (from === "moved" && request.url !== "/mcp/2") moved(request.url === "/mcp" ? "/mcp/" : "2")
          else if (from === "round") moved("/mcp")
          else if (from === "elsewhere") moved("http://localhost:1/mcp")
          else if (from === "later" || from === "moved")
            stream(response).end(`data: ${result(asked, "later")}\n\n`)
          else if (from === "gone") response.writeHead(404).end()
          else if (from === "nothing") stream(response).end(": no more\n\n")
          else response.writeHead(405).end()
        }
      )
      const tools = yield* build(http(port))
      expect(yield* tools.call("mcp:bad/later")).toBe("later")
      const lost = { details: { reason: "mcp_connection_lost" } }
      expect(yield* Effect.flip(tools.call("mcp:bad/never"))).toMatchObject(lost)
      expect(yield* Effect.flip(tools.call("mcp:bad/gone"))).toMatchObject(lost)
      expect(yield* Effect.flip(tools.call("mcp:bad/nothing"))).toMatchObject(noResult)
      expect(resumed.splice(0)).toEqual(["later", "never", "gone", "gone", "nothing"])
      expect(yield* tools.call("mcp:bad/moved")).toBe("later")
      expect(resumed.splice(0)).toEqual(["moved", "moved", "moved"])
      expect(yield* Effect.flip(tools.call("mcp:bad/round"))).toMatchObject(lost)
      expect(resumed.splice(0)).toEqual(Array.from({ length: 12 }, () => "round"))
      expect(yield* Effect.flip(tools.call("mcp:bad/elsewhere"))).toMatchObject(lost)
      expect(resumed).toEqual(["elsewhere", "elsewhere"])
      // Nobody went on from nowhere.
      expect(listened).toBe(1)
    })
  )

  it.scopedLive("leaves no timer, whatever the server says of when to go on", () =>
    Effect.gen(function* () {
      const { port } = yield* serve({
        refused: ({ id, response }) =>
          stream(response).end(
            `retry: 3600000\nid: e${id}\ndata: ${JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32000, message: "no" } })}\n\n`
          ),
        held: ({ id, response }) => void stream(response).write(`retry: 3600000\nid: e${id}\ndata:\n\n`)
      })
      const tools = yield* build(http(port))
      const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length
      const before = timers()
      for (let i = 0; i < 30; i++) {
        yield* Effect.flip(tools.call("mcp:bad/refused"))
        const held = yield* Effect.fork(tools.call("mcp:bad/held"))
        yield* Effect.sleep("5 millis")
        yield* Fiber.interrupt(held)
      }
      for (let i = 0; i < 400 && timers() > before + 10; i++) yield* Effect.sleep("5 millis")
      expect(timers()).toBeLessThanOrEqual(before + 10)
    })
  )

  it.scopedLive("is not gone on with when nobody waits for it, however much of it was still to be read", () =>
    Effect.gen(function* () {
      const heard = [yield* Effect.makeLatch(false), yield* Effect.makeLatch(false)]
      const event = (i: number, method: string) =>
        `id: burst${i}\ndata: ${JSON.stringify({ jsonrpc: "2.0", method })}\n\n`
      // Read in one go, and heard of at its beginning and at its end.
      const burst = Array.from({ length: 300 }, (_, i) =>
        event(i, i === 3 || i === 299 ? "notifications/tools/list_changed" : "notifications/odd")
      )
      let lists = 0
      let asked = 0
      const resumed: Array<string> = []
      const { port } = yield* serve(
        {
          burst: ({ response }) => void stream(response).write(`retry: 1\n\n${burst.join("")}`),
          later: ({ id, response }) => {
            asked = id
            stream(response).end("id: later0\nretry: 1\ndata:\n\n")
          },
          "tools/list": ({ id, response }) => {
            const tools = ["burst", "later"].map((name) => ({ name, inputSchema: { type: "object" } }))
            json(response, JSON.stringify({ jsonrpc: "2.0", id, result: { tools } }))
            // After that of the connection, those of the notifications.
            const latch = heard[++lists - 2]
            if (latch !== undefined) Effect.runFork(latch.open)
          }
        },
        (request, response) => {
          const from = request.headers["last-event-id"]
          if (typeof from !== "string") return response.writeHead(405).end()
          resumed.push(from)
          stream(response).end(
            from === "later0"
              ? "id: later1\ndata:\n\n"
              : from === "later1"
                ? `data: ${result(asked, "ok")}\n\n`
                : "\n"
          )
        }
      )
      const tools = yield* build(http(port))
      const calling = yield* Effect.fork(tools.call("mcp:bad/burst"))
      yield* (heard[0] as Effect.Latch).await
      yield* Fiber.interrupt(calling)
      yield* (heard[1] as Effect.Latch).await
      // Between two beginnings of one stream is more time than before a stream is gone on with for the first time.
      expect(yield* tools.call("mcp:bad/later")).toBe("ok")
      expect(resumed).toEqual(["later0", "later1"])
    })
  )

  it.scopedLive("does not let the layer build, when it is that of initialize", () =>
    Effect.gen(function* () {
      const { port } = yield* serve({ initialize: ({ response }) => stream(response).end() })
      const error = yield* Effect.flip(build(http(port)))
      expect(error.message).toContain("the server ended its answer without a result")
      const large = yield* serve({
        initialize: ({ id, response }) => json(response, result(id, "x".repeat(5_000)))
      })
      const refused = yield* Effect.flip(build(http(large.port, { maxAnswerBytes: 1_000 })))
      expect(refused.message).toContain("more than 1000 bytes (maxAnswerBytes)")
    })
  )

  it.scopedLive(
    "does not keep the layer waiting, when it is that of a notification, or of page after page",
    () =>
      Effect.gen(function* () {
        const slow: Answers = {
          "notifications/initialized": ({ response }) => {
            response.writeHead(500).write("and")
          }
        }
        const pages: Answers = {
          "tools/list": ({ id, params, response }) => {
            const nextCursor = `${Number(params?.cursor ?? 0) + 1}`
            const page = JSON.stringify({ jsonrpc: "2.0", id, result: { tools: [], nextCursor } })
            setTimeout(() => json(response, page), 20)
          }
        }
        for (const answers of [slow, pages]) {
          const { port } = yield* serve(answers)
          const error = yield* Effect.flip(build(http(port, { connectTimeout: 300 })))
          expect(error.message).toContain("it took more than 0.3 s, connectTimeout")
        }
      })
  )

  it.scopedLive(
    "says in few characters why the layer does not build, and reads no list beyond its bound",
    () =>
      Effect.gen(function* () {
        const error = (message: string) =>
          JSON.stringify({ jsonrpc: "2.0", id: 0, error: { code: 1, message } })
        const talkative = yield* serve({
          initialize: ({ response }) => json(response, error("no".repeat(9_000)))
        })
        expect((yield* Effect.flip(build(http(talkative.port)))).message.length).toBeLessThan(700)
        let asked = 0
        const large = yield* serve({
          "tools/list": ({ id, response }) => {
            const tools = [
              { name: `t${asked}`, description: "d".repeat(40_000), inputSchema: { type: "object" } }
            ]
            json(
              response,
              JSON.stringify({ jsonrpc: "2.0", id, result: { tools, nextCursor: `${++asked}` } })
            )
          }
        })
        const refused = yield* Effect.flip(build(http(large.port, { maxAnswerBytes: 100_000 })))
        expect(refused.message).toContain("100000 bytes (maxAnswerBytes)")
        expect(asked).toBe(3)
      })
  )

  it.scopedLive("costs what a failed call costs, and an interrupted one; nothing that was not sent", () =>
    Effect.gen(function* () {
      const held = yield* Effect.makeLatch(false)
      const connecting = yield* Effect.makeLatch(false)
      let connections = 0
      const { port } = yield* serve({
        initialize: (call) => (connections++ === 0 ? welcome(call) : void Effect.runFork(connecting.open)),
        ended: ({ response }) => stream(response).end(),
        held: ({ response }) => {
          stream(response)
          Effect.runFork(held.open)
        },
        forgotten: ({ response }) => response.writeHead(404).end()
      })
      const costs: Array<string> = []
      const open = yield* build(
        http(port, {
          costOnFailure: (tool, _, failure) => {
            costs.push(`${tool} ${failure?._tag}`)
            return { amount: "0.25", currency: "USD" }
          }
        })
      )
      const job = lessee({ allow: ["mcp:bad/ended", "mcp:bad/held", "mcp:bad/forgotten"] })
      const tools = open.leasedTo(job)
      yield* Effect.flip(tools.call("mcp:bad/ended"))
      const hanging = yield* Effect.fork(tools.call("mcp:bad/held"))
      yield* held.await
      yield* Fiber.interrupt(hanging)
      yield* Effect.flip(tools.call("mcp:bad/forgotten"))
      // The connection is lost, and the next one is not there yet.
      const waiting = yield* Effect.fork(tools.call("mcp:bad/ended"))
      yield* connecting.await
      yield* Fiber.interrupt(waiting)
      expect(costs).toEqual(["ended InternalError", "held undefined", "forgotten InternalError"])
      expect(job.events.filter(({ kind }) => kind === "metric")).toHaveLength(3)
    })
  )
})

describe("the size of an answer", () => {
  it.scopedLive("is bounded by an option over HTTP, decompressed and while it is read", () =>
    Effect.gen(function* () {
      let closed = 0
      const endless = (response: ServerResponse, first: string) => {
        const chunk = "x".repeat(10_000)
        response.on("close", () => closed++)
        response.write(first)
        const more = () => {
          while (!response.destroyed && response.write(chunk));
        }
        response.on("drain", more)
        more()
      }
      const { port } = yield* serve({
        json: ({ id, response }) => json(response, result(id, "x".repeat(100_000))),
        zipped: ({ id, response }) => {
          const text = gzipSync(result(id, "x".repeat(1_000_000)))
          expect(text.length).toBeLessThan(50_000)
          response
            .writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" })
            .end(text)
        },
        streamed: ({ id, response }) => stream(response).end(`data: ${result(id, "x".repeat(100_000))}\n\n`),
        endlessEvent: ({ response }) => endless(stream(response), "data: "),
        endlessJson: ({ response }) =>
          endless(response.writeHead(200, { "content-type": "application/json" }), '{"x":"'),
        endlessError: ({ response }) => endless(response.writeHead(500), ""),
        endlessRedirect: ({ response }) => endless(response.writeHead(307), ""),
        // Many small messages are no large one.
        progress: ({ id, response }) => {
          const note = `data: ${JSON.stringify({ jsonrpc: "2.0", method: "notifications/message", params: { level: "info", data: "x".repeat(900) } })}\n\n`
          stream(response).end(`${note.repeat(200)}data: ${result(id, "done")}\n\n`)
        },
        ok: ({ id, response }) => json(response, result(id, "x".repeat(40_000)))
      })
      const tools = yield* build(http(port, { maxAnswerBytes: 50_000 }))
      for (const name of ["json", "zipped", "streamed", "endlessEvent", "endlessJson"])
        expect(yield* Effect.flip(tools.call(`mcp:bad/${name}`)), name).toMatchObject(tooLarge(50_000))
      expect(yield* tools.call("mcp:bad/progress")).toBe("done")
      expect(yield* tools.call("mcp:bad/ok")).toHaveLength(40_000)
      expect(yield* Effect.flip(tools.call("mcp:bad/endlessError"))).toBeInstanceOf(InternalError)
      expect(yield* Effect.flip(tools.call("mcp:bad/endlessRedirect"))).toBeInstanceOf(InternalError)
      while (closed < 4) yield* Effect.sleep("5 millis")
    })
  )

  it.scopedLive("is 10 MiB over stdio, if the operator does not say", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio())
      const pid = yield* tools.call("mcp:bad/pid")
      const error = yield* Effect.flip(tools.call("mcp:bad/large", { bytes: 11_000_000 }))
      expect(error).toMatchObject(tooLarge(10 * 1024 * 1024))
      // The next call has a server of its own.
      expect(yield* tools.call("mcp:bad/pid")).not.toBe(pid)
      const generous = yield* build(stdio({ maxAnswerBytes: 20_000_000 }))
      expect(yield* generous.call("mcp:bad/large", { bytes: 11_000_000 })).toHaveLength(11_000_000)
    })
  )

  it.scopedLive("is told at once of a server that writes without end of line and does not go", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio({ maxAnswerBytes: 1_000_000 }))
      const pid = Number(yield* tools.call("mcp:bad/pid"))
      expect(yield* Effect.flip(tools.call("mcp:bad/flood"))).toMatchObject(tooLarge(1_000_000))
      expect(Number(yield* tools.call("mcp:bad/pid"))).not.toBe(pid)
      // It is ended all the same.
      yield* Effect.repeat(
        Effect.delay(
          Effect.try(() => process.kill(pid, 0)),
          "50 millis"
        ),
        {
          while: () => true
        }
      ).pipe(Effect.ignore)
    })
  )
})

describe("a server over stdio", () => {
  it.scopedLive("that ends in the middle of a call fails that at once, and is started again", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio())
      expect(yield* Effect.flip(tools.call("mcp:bad/exit"))).toMatchObject({
        details: { reason: "mcp_connection_lost" }
      })
      expect(Number(yield* tools.call("mcp:bad/pid"))).toBeGreaterThan(0)
    })
  )

  it.scopedLive("that ends at initialize does not let the layer build", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(build(stdio({ args: [stubborn, "exit-at-initialize"] })))
      expect(error.message).toContain("cannot be reached")
    })
  )

  it.scopedLive("that answers twice, what was not asked, or with noise between, answers all the same", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio())
      const pid = yield* tools.call("mcp:bad/pid")
      expect(yield* tools.call("mcp:bad/twice")).toBe("first")
      expect(yield* tools.call("mcp:bad/unasked")).toBe("yours")
      expect(yield* tools.call("mcp:bad/noise")).toBe("heard")
      expect(yield* tools.call("mcp:bad/pid")).toBe(pid)
    })
  )

  it.scopedLive(
    "that floods with notifications answers all the same, and its list is read as fast as it answers",
    () =>
      Effect.gen(function* () {
        const tools = yield* build(stdio())
        expect(yield* tools.call("mcp:bad/notifications")).toBe("after all")
        expect(Number(yield* tools.call("mcp:bad/listed"))).toBeLessThan(20)
      })
  )

  it.scopedLive(
    "that writes without an end is called all the same, and ends with the layer",
    () =>
      Effect.gen(function* () {
        const tools = yield* build(stdio())
        const before = process.memoryUsage().rss
        expect(yield* tools.call("mcp:bad/endless")).toBe("begun")
        for (let i = 0; i < 3; i++) expect(Number(yield* tools.call("mcp:bad/pid"))).toBeGreaterThan(0)
        expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024)
      }),
    30_000
  )

  it.scopedLive("that dies in the middle of a line fails the call at once", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio())
      expect(yield* Effect.flip(tools.call("mcp:bad/half"))).toMatchObject({
        details: { reason: "mcp_connection_lost" }
      })
      expect(Number(yield* tools.call("mcp:bad/pid"))).toBeGreaterThan(0)
    })
  )

  it.scopedLive("that writes 100 MB to stderr answers, and nothing of it is held", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio({ stderr: "ignore" }))
      const before = process.memoryUsage().rss
      expect(yield* tools.call("mcp:bad/stderr")).toBe("told")
      expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024)
    })
  )

  it.scopedLive.each(["shape", "both", "neither"])(
    "whose answer is none (%s) fails the call, typed",
    (name) =>
      Effect.gen(function* () {
        const tools = yield* build(stdio({ timeout: "2 seconds" }))
        const error = yield* Effect.flip(tools.call(`mcp:bad/${name}`))
        expect(error).toHaveProperty("message")
        expect(yield* tools.call("mcp:bad/twice")).toBe("first")
      })
  )

  it.scopedLive("that answers another call times out", () =>
    Effect.gen(function* () {
      const tools = yield* build(stdio({ timeout: "200 millis" }))
      expect(yield* Effect.flip(tools.call("mcp:bad/otherId"))).toMatchObject({ code: "TIMEOUT" })
    })
  )
})

describe("a server over HTTP", () => {
  it("that has taken an answer gets the next; what it is told unasked it gets in any case", async () => {
    const replies = new Replies()
    const taken: Array<() => void> = []
    let sent = 0
    const send = () => {
      sent++
      return new Promise<void>((resolve) => taken.push(resolve))
    }
    const say = (message: object) => void replies.send({ jsonrpc: "2.0", ...message } as JSONRPCMessage, send)
    for (let i = 0; i < 100; i++) say({ id: i, result: {} })
    expect(sent).toBe(64)
    say({ method: "notifications/cancelled" })
    expect(sent).toBe(65)
    for (const take of taken.splice(0, 2)) take()
    await new Promise(setImmediate)
    for (let i = 0; i < 2; i++) say({ id: i, result: {} })
    expect(sent).toBe(66)
  })

  it.scopedLive("that asks without end, and does not take the answers, gets a bounded number of them", () =>
    Effect.gen(function* () {
      const held: Array<ServerResponse> = []
      const { port } = yield* serve({
        flood: ({ id, response }) => {
          const pings = Array.from(
            { length: 500 },
            (_, i) => `data: ${JSON.stringify({ jsonrpc: "2.0", id: `p${i}`, method: "ping" })}\n\n`
          )
          stream(response).end(`${pings.join("")}data: ${result(id, "flooded")}\n\n`)
        },
        ok: ({ id, response }) => json(response, result(id, "ok")),
        answer: ({ response }) => void held.push(response)
      })
      const tools = yield* build(http(port))
      expect(yield* tools.call("mcp:bad/flood")).toBe("flooded")
      while (held.length < 64) yield* Effect.sleep("5 millis")
      expect(yield* tools.call("mcp:bad/ok")).toBe("ok")
      expect(held).toHaveLength(64)
      for (const response of held) response.writeHead(202).end()
    })
  )

  it.scopedLive(
    "whose own stream ends at once is asked for it again at a bounded rate, whatever it says",
    () =>
      Effect.gen(function* () {
        const asked: Array<number> = []
        const { port } = yield* serve(
          { ok: ({ id, response }) => json(response, result(id, "ok")) },
          (_, response) => {
            asked.push(performance.now())
            stream(response).end("retry: 0\n\n")
          }
        )
        yield* build(http(port))
        while (asked.length < 3) yield* Effect.sleep("10 millis")
        expect((asked[2] as number) - (asked[0] as number)).toBeGreaterThan(900)
      })
  )
})

describe("options", () => {
  it("that there are not, or that cannot be, are refused by name", () => {
    const wrong = (options: object) => () => http(1, options)
    expect(wrong({ timout: 1 })).toThrow("ToolsMcp.http: options has no timout; did you mean timeout?")
    expect(wrong({ header: {} })).toThrow("did you mean headers?")
    for (const [name, value] of [
      ["timeout", "soon"],
      ["timeout", 0],
      ["connectTimeout", Number.POSITIVE_INFINITY],
      ["maxAnswerBytes", Number.NaN],
      ["maxAnswerBytes", -1],
      ["cost", 3],
      ["url", undefined]
    ] as const)
      expect(wrong({ [name]: value }), name).toThrow(`options.${name} has to be`)
    expect(() => stdio({ args: [1] as never })).toThrow("options.args[0] has to be a text")
    expect(() => stdio({ comand: "x" } as never)).toThrow("options has no comand; did you mean command?")
  })

  it("may set no bound to a call as a whole, nor to a message", () => {
    for (const maxTimeout of [Number.POSITIVE_INFINITY, Duration.infinity])
      expect(() => http(1, { maxTimeout, maxAnswerBytes: Number.POSITIVE_INFINITY })).not.toThrow()
  })

  it.scopedLive("a time that no timer can wait for is no time at all that a call gets", () =>
    Effect.gen(function* () {
      const { port } = yield* serve({
        slow: ({ id, response }) => setTimeout(() => json(response, result(id, "slow")), 50)
      })
      const tools = yield* build(
        http(port, { timeout: "90 days", connectTimeout: "90 days", maxTimeout: "90 days" })
      )
      expect(yield* tools.call("mcp:bad/slow")).toBe("slow")
    })
  )
})

describe("requests to a server", () => {
  it.scopedLive("say nothing of the trace of the job", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const { port } = yield* serve({
        ok: ({ id, request, response }) => {
          seen.push(...Object.keys(request.headers))
          json(response, result(id, "ok"))
        }
      })
      const tools = yield* build(http(port))
      yield* Effect.withSpan(tools.call("mcp:bad/ok"), "a job")
      expect(seen).toContain("content-type")
      for (const header of ["traceparent", "tracestate", "b3", "x-b3-traceid"])
        expect(seen).not.toContain(header)
    })
  )
})

describe("whole events", () => {
  const all = async (pieces: ReadonlyArray<string>, max = 1_000, retry = (_ms: number) => {}) => {
    const source = new ReadableStream<Uint8Array>({
      start: (controller) => {
        for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece))
        controller.close()
      }
    })
    return new Response(wholeEvents(source, max, { retry })).text()
  }

  it("are cut after each kind of empty line, wherever the pieces end", async () => {
    for (const end of ["\n", "\r\n", "\r"]) {
      const text = `data: a${end}data: b${end}${end}data: c${end}${end}`
      for (let at = 0; at <= text.length; at++)
        expect(await all([text.slice(0, at), text.slice(at), `data: half${end}`]), end).toBe(text)
    }
  })

  it("say to nobody but us when a stream may be begun again", async () => {
    const said: Array<number> = []
    const text = "\uFEFFretry:1\n\ndata: retry: 2\r\nretry: 3\r\nretry: soon\r\n\r\n"
    for (let at = 0; at <= text.length; at++) {
      const rest = await all([text.slice(0, at), text.slice(at)], 1_000, (ms) => void said.push(ms))
      expect(rest).toBe("\uFEFF:etry:1\n\ndata: retry: 2\r\n:etry: 3\r\n:etry: soon\r\n\r\n".slice(1))
      expect(said.splice(0)).toEqual([1, 3])
    }
  })

  it("are given one after the other, with turns for everybody else between them", async () => {
    const source = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode("data: {}\n\n".repeat(60)))
        controller.close()
      }
    })
    let turns = 0
    let counting = true
    const count = () => {
      turns++
      if (counting) setImmediate(count)
    }
    setImmediate(count)
    const reader = wholeEvents(source, 1_000, { retry: () => {} }).getReader()
    let events = 0
    while (!(await reader.read()).done) {
      events++
      // What is done with one takes a millisecond.
      for (const until = performance.now() + 1; performance.now() < until; );
    }
    counting = false
    expect(events).toBe(60)
    expect(turns).toBeGreaterThan(5)
  })

  it("are passed over when they are too large, and what follows is not", async () => {
    const large = `data: ${"x".repeat(50)}\n\n`
    for (let at = 0; at <= large.length; at++)
      expect(await all(["data: a\n\n", large.slice(0, at), large.slice(at), "data: b\n\n"], 40)).toBe(
        "data: a\n\ndata: b\n\n"
      )
  })
})
