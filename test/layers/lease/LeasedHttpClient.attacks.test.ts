import { createServer, type Server } from "node:http"
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpBody from "@effect/platform/HttpBody"
import type * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as HttpClientPublic from "../../../src/layers/lease/HttpClientPublic.js"
import { leasedTo, site, text } from "./LeasedHttpClient.site.js"

const clients: ReadonlyArray<readonly [string, Layer.Layer<HttpClient.HttpClient>]> = [
  ["fetch", FetchHttpClient.layer],
  ["node", NodeHttpClient.layer],
  ["undici", NodeHttpClient.layerUndici],
  ["public", HttpClientPublic.layer()]
]

const listening = <S extends Server | ReturnType<typeof createTcpServer>>(server: S) =>
  Effect.acquireRelease(
    Effect.async<string>((resume) => {
      server.listen(0, "127.0.0.1", () =>
        resume(Effect.succeed(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
      )
    }),
    () => Effect.sync(() => void server.close())
  )

/** A server that keeps every byte it is sent, and answers once to each connection. */
const wire = Effect.gen(function* () {
  const sockets: Array<Socket> = []
  const sent: Array<string> = []
  const origin = yield* listening(
    createTcpServer((socket) => {
      const index = sockets.push(socket) - 1
      sent.push("")
      socket.on("error", () => undefined)
      socket.on("data", (data) => {
        sent[index] += data.toString("latin1")
        if (socket.writable) socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
      })
    })
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((socket) => void socket.destroy())))
  return { origin, sent: () => sent.join("") }
})

const smuggled = "GET /secret HTTP/1.1\r\nhost: inside.example\r\n\r\n"

for (const [name, layer] of clients)
  describe(`attacks on the leased HttpClient over ${name}`, () => {
    it.scoped.each([
      ["content-length", "0"],
      ["content-length", "3"],
      ["transfer-encoding", "identity"],
      ["transfer-encoding", "gzip"],
      ["connection", "upgrade"],
      ["upgrade", "h2c"],
      ["expect", "100-continue"],
      ["te", "trailers"]
    ] as const)("a header %s: %s makes no second request of a body", ([header, value]) =>
      Effect.gen(function* () {
        const { origin, sent } = yield* wire
        const client = yield* leasedTo([`${origin}/public`])
        for (const body of [
          HttpBody.text(smuggled),
          HttpBody.raw(smuggled, header === "content-length" ? { contentLength: Number(value) } : {})
        ])
          yield* Effect.exit(client.post(`${origin}/public`, { body, headers: { [header]: value } }))
        const [, ...rest] = sent().split("POST /public")
        expect(rest).not.toHaveLength(0)
        for (const request of rest) {
          const [head = "", body = ""] = request.split(/\r\n\r\n(.*)/s)
          expect(head).toMatch(
            new RegExp(`content-length: ${smuggled.length}|transfer-encoding: chunked`, "i")
          )
          expect(head).not.toMatch(
            /^(upgrade|expect|te):|^connection: upgrade|^transfer-encoding: (?!chunked)/im
          )
          expect(body).toContain("GET /secret")
        }
      }).pipe(Effect.provide(layer))
    )

    it.scoped("a stream that is not as long as it says makes no second request, and takes in none", () =>
      Effect.gen(function* () {
        const { origin, sent } = yield* wire
        const client = yield* leasedTo([`${origin}/public`])
        const body = (contentLength: number) =>
          HttpBody.stream(
            Stream.make(new TextEncoder().encode("abc"), new TextEncoder().encode(smuggled)),
            "text/plain",
            contentLength
          )
        const right = 3 + smuggled.length
        for (const length of [3, 1, right + 5])
          yield* Effect.exit(client.post(`${origin}/public`, { body: body(length) })).pipe(
            Effect.timeout("2 seconds")
          )
        for (const request of sent().split("POST /public").slice(1))
          if (!/transfer-encoding: chunked/i.test(request)) expect(request).not.toContain("GET /secret")
      }).pipe(Effect.provide(layer))
    )

    it.scoped("a stream as long as it says arrives, and the content type that was set last", () =>
      Effect.gen(function* () {
        const { origin, seen } = yield* site
        const client = yield* leasedTo([`${origin}/**`])
        const body = HttpBody.stream(
          Stream.make(new TextEncoder().encode("ab"), new TextEncoder().encode("c")),
          "text/plain",
          3
        )
        yield* client.post(`${origin}/up`, { body })
        expect(seen[0]).toMatchObject({ method: "POST", body: "abc" })
        expect(seen[0]?.headers["content-type"]).toBe("text/plain")
        yield* client.execute(
          HttpClientRequest.post(`${origin}/up`).pipe(
            HttpClientRequest.bodyText("{}"),
            HttpClientRequest.setHeader("content-type", "application/ld+json")
          )
        )
        expect(seen[1]?.headers).toMatchObject({
          "content-type": "application/ld+json",
          "content-length": "2"
        })
      }).pipe(Effect.provide(layer))
    )

    it.scoped("options of undici that the handler brings are not used", () =>
      Effect.gen(function* () {
        const { origin, seen } = yield* site
        const client = yield* leasedTo([`${origin}/public`])
        yield* Effect.provideService(
          text(client, `${origin}/public`),
          NodeHttpClient.UndiciRequestOptions as never,
          { query: { token: "secret" } } as never
        )
        expect(seen.map(({ url }) => url)).toEqual(["/public"])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("a POST that becomes a GET leaves its body behind, and all that told of it", () =>
      Effect.gen(function* () {
        const { origin, seen } = yield* site
        const client = yield* leasedTo([`${origin}/**`, `${origin}/to*?**`])
        for (const status of [301, 302, 303])
          yield* client.post(`${origin}/to${status}?${encodeURIComponent("/end")}`, {
            body: HttpBody.text("payload", "text/plain"),
            headers: { "content-language": "en", "content-encoding": "identity", "content-location": "/x" }
          })
        const ends = seen.filter(({ url }) => url === "/end")
        expect(ends).toHaveLength(3)
        for (const { headers, method } of ends) {
          expect(method).toBe("GET")
          expect(Object.keys(headers).filter((header) => header.startsWith("content-"))).toEqual([])
        }
      }).pipe(Effect.provide(layer))
    )

    it.live("a redirect whose body does not end holds no connection", () =>
      Effect.gen(function* () {
        let closed: (() => void) | undefined
        const isClosed = new Promise<void>((resolve) => {
          closed = resolve
        })
        const server = createServer((request, response) => {
          if (request.url === "/end") return response.end("the end")
          response.on("close", () => closed?.())
          response.writeHead(302, { location: "/end" })
          response.write("never ends")
        })
        const origin = yield* listening(server)
        yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
        const client = yield* leasedTo([`${origin}/**`])
        expect(yield* text(client, `${origin}/start`)).toBe("the end")
        yield* Effect.promise(() => isClosed).pipe(Effect.timeout("5 seconds"))
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  })

it.scoped("a resolver that reports no error as undefined is not believed blindly", () =>
  Effect.gen(function* () {
    const { origin, seen } = yield* site
    const layer = HttpClientPublic.layer({
      lookup: (_, options, callback) =>
        options.all === true
          ? callback(undefined as never, [{ address: "127.0.0.1", family: 4 }])
          : callback(undefined as never, "127.0.0.1", 4)
    })
    const error = yield* Effect.flatMap(leasedTo(["http://**"]), (wide) =>
      Effect.flip(wide.get(`http://inside.example:${origin.split(":")[2]}/x`))
    ).pipe(Effect.provide(layer))
    expect(String(error.cause)).toMatch(/not public/)
    expect(seen).toEqual([])
  })
)
