/** Bodies that never end, that are larger than they look, and that go on after the lease. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { gzipSync } from "node:zlib"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import type { HttpClientError } from "@effect/platform/HttpClientError"
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as HttpClientPublic from "../../../src/layers/lease/HttpClientPublic.js"
import { leased } from "../../../src/layers/lease/LeasedHttpClient.js"
import { LeaseExpired } from "../../../src/protocol/Errors.js"
import { leaseErrorOf } from "../../../src/services/lease/Lease.js"
import { settableWall } from "../../support/Rig.js"
import { lessee } from "./LeasedHttpClient.site.js"

const clients: ReadonlyArray<readonly [string, Layer.Layer<HttpClient.HttpClient>]> = [
  ["fetch", FetchHttpClient.layer],
  ["node", NodeHttpClient.layer],
  ["undici", NodeHttpClient.layerUndici],
  ["public", HttpClientPublic.layer()]
]

/** A server that answers as a test says; `gone` when a connection has been let go of. */
const serving = (answer: (request: IncomingMessage, response: ServerResponse) => void) =>
  Effect.gen(function* () {
    const gone = yield* Deferred.make<void>()
    const server = yield* Effect.acquireRelease(
      Effect.async<Server>((resume) => {
        const made = createServer((request, response) => {
          response.on("close", () => Deferred.unsafeDone(gone, Effect.void))
          answer(request, response)
        })
        made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
      }),
      (made) =>
        Effect.async<void>((resume) => {
          made.closeAllConnections()
          made.close(() => resume(Effect.void))
        })
    )
    return { gone, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  })

const mebi = 1024 * 1024
const bounds = { maxBytes: mebi, timeout: Duration.seconds(60), traceHeaders: false }

const leasing = (fetching = bounds, expired = { now: false }) =>
  Effect.map(
    HttpClient.HttpClient,
    (open) =>
      leased.lease(
        open,
        lessee({ "net.fetch": ["http://127.0.0.1:*/**"] }, expired, fetching)
      ) as HttpClient.HttpClient
  )

const readers: ReadonlyArray<
  readonly [string, (response: HttpClientResponse) => Effect.Effect<unknown, HttpClientError>]
> = [
  ["text", (response) => response.text],
  ["json", (response) => response.json],
  ["arrayBuffer", (response) => response.arrayBuffer],
  ["formData", (response) => response.formData],
  ["urlParamsBody", (response) => response.urlParamsBody],
  ["stream", (response) => Stream.runDrain(response.stream)]
]

for (const [name, layer] of clients)
  describe(`a response to a job over ${name}`, () => {
    it.scoped.each(readers)("that does not end is not read beyond its bound, as %s", ([, read]) =>
      Effect.gen(function* () {
        let sent = 0
        const { gone, origin } = yield* serving((_, response) => {
          const more = () => {
            do sent += mebi / 4
            while (response.write(Buffer.alloc(mebi / 4, " ")))
          }
          response.on("drain", more)
          more()
        })
        const client = yield* leasing()
        const error = yield* Effect.flip(Effect.flatMap(client.get(`${origin}/`), read))
        expect(error.message).toMatch(/more than 1048576 bytes \(maxFetchBytes\)/)
        yield* Deferred.await(gone)
        expect(sent).toBeLessThan(64 * mebi)
      }).pipe(Effect.provide(layer))
    )

    it.scoped.each([0, 1])("may have its bound, and not %s more", (over) =>
      Effect.gen(function* () {
        const { origin } = yield* serving((_, response) => response.end(Buffer.alloc(mebi + over, "x")))
        const client = yield* leasing()
        const read = Effect.flatMap(client.get(`${origin}/`), (response) => response.text)
        if (over === 0) expect((yield* read).length).toBe(mebi)
        else expect((yield* Effect.flip(read)).message).toMatch(/maxFetchBytes/)
      }).pipe(Effect.provide(layer))
    )

    it.scoped("that has no body is read as an empty one", () =>
      Effect.gen(function* () {
        const { origin } = yield* serving(({ url }, response) => {
          response.writeHead(Number(url?.slice(1)), { "content-type": "text/plain", "x-seen": "yes" })
          response.end()
        })
        const client = yield* leasing()
        for (const [status, response] of [
          [200, yield* client.head(`${origin}/200`)],
          [404, yield* client.head(`${origin}/404`)],
          [200, yield* client.get(`${origin}/200`)],
          [204, yield* client.get(`${origin}/204`)],
          [205, yield* client.get(`${origin}/205`)],
          [304, yield* client.get(`${origin}/304`)]
        ] as const) {
          expect([response.status, response.headers["x-seen"]]).toEqual([status, "yes"])
          expect([yield* response.text, (yield* response.arrayBuffer).byteLength]).toEqual(["", 0])
        }
      }).pipe(Effect.provide(layer))
    )

    it.scoped("may be read twice, as text, JSON, form and bytes", () =>
      Effect.gen(function* () {
        const { origin } = yield* serving((request, response) => {
          if (request.url === "/form")
            return response
              .writeHead(200, { "content-type": "application/x-www-form-urlencoded" })
              .end("a=1&b=2")
          response.end('\uFEFF{"a":"ä"}')
        })
        const client = yield* leasing()
        const json = yield* client.get(`${origin}/`)
        expect(yield* json.text).toBe('{"a":"ä"}')
        expect(yield* json.json).toEqual({ a: "ä" })
        expect((yield* json.arrayBuffer).byteLength).toBe(13)
        const form = yield* client.get(`${origin}/form`)
        expect([...((yield* form.formData) as unknown as Iterable<unknown>)]).toEqual([
          ["a", "1"],
          ["b", "2"]
        ])
        expect(yield* form.urlParamsBody).toEqual([
          ["a", "1"],
          ["b", "2"]
        ])
        const bad = yield* client.get(`${origin}/form`)
        expect(yield* Effect.flip(bad.json)).toMatchObject({ _tag: "ResponseError", reason: "Decode" })
      }).pipe(Effect.provide(layer))
    )

    it.live("has a time, before it begins and while it is read", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { origin } = yield* serving((request, response) => {
            if (request.url === "/body") response.write("a")
          })
          const client = yield* leasing({ ...bounds, timeout: Duration.millis(200) })
          expect((yield* Effect.flip(client.get(`${origin}/never`))).message).toMatch(/fetchTimeout/)
          const read = Effect.flatMap(client.get(`${origin}/body`), (response) => response.text)
          expect((yield* Effect.flip(read)).message).toMatch(/fetchTimeout/)
        }).pipe(Effect.provide(layer))
      )
    )

    it.live("has its time also when the wall clock is set meanwhile", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { origin } = yield* serving((_, response) => {
            response.write("a")
            setTimeout(() => response.end("b"), 100)
          })
          const { clock, jump } = settableWall(yield* Effect.clock)
          yield* Effect.gen(function* () {
            const response = yield* (yield* leasing()).get(`${origin}/`)
            jump("1 day")
            expect(yield* response.text).toBe("ab")
          }).pipe(Effect.withClock(clock))
        }).pipe(Effect.provide(layer))
      )
    )

    it.scoped("is not read on when the lease is over", () =>
      Effect.gen(function* () {
        let go = () => {}
        const { gone, origin } = yield* serving((_, response) => {
          response.write("first")
          go = () => response.write("second")
        })
        const expired = { now: false }
        const client = yield* leasing(bounds, expired)
        const response = yield* client.get(`${origin}/`)
        const error = yield* response.stream.pipe(
          Stream.tap(() =>
            Effect.sync(() => {
              expired.now = true
              go()
            })
          ),
          Stream.runDrain,
          Effect.flip
        )
        expect(leaseErrorOf(error)).toBeInstanceOf(LeaseExpired)
        yield* Deferred.await(gone)
      }).pipe(Effect.provide(layer))
    )

    it.scoped.each(["stream", "raw"] as const)("is not sent a %s body when the lease is over", (kind) =>
      Effect.gen(function* () {
        let received = ""
        const { origin } = yield* serving((request) => {
          request.on("data", (data) => {
            received += data
          })
        })
        const expired = { now: false }
        const client = yield* leasing(bounds, expired)
        const encode = (text: string) => new TextEncoder().encode(text)
        async function* parts() {
          yield encode("first")
          expired.now = true
          yield encode("second")
        }
        const body =
          kind === "stream"
            ? HttpBody.stream(Stream.fromAsyncIterable(parts(), (cause) => cause))
            : HttpBody.raw(parts())
        const error = yield* Effect.flip(client.post(`${origin}/`, { body }))
        expect(leaseErrorOf(error)).toBeInstanceOf(LeaseExpired)
        expect(received).not.toContain("second")
      }).pipe(Effect.provide(layer))
    )

    it.scoped.each([false, true])("is asked for with the trace only if that is wanted: %s", (traceHeaders) =>
      Effect.gen(function* () {
        let headers: IncomingMessage["headers"] = {}
        const { origin } = yield* serving((request, response) => {
          headers = request.headers
          response.end()
        })
        const client = yield* leasing({ ...bounds, traceHeaders })
        yield* client
          .pipe(HttpClient.withTracerPropagation(true))
          .get(`${origin}/`)
          .pipe(Effect.withSpan("job"))
        expect("traceparent" in headers).toBe(traceHeaders)
        expect("b3" in headers).toBe(traceHeaders)
      }).pipe(Effect.provide(layer))
    )
  })

it.scoped("a body that unpacks to more than its bound is not unpacked further", () =>
  Effect.gen(function* () {
    const packed = gzipSync(Buffer.alloc(256 * mebi))
    expect(packed.length).toBeLessThan(mebi)
    const { origin } = yield* serving((_, response) =>
      response.writeHead(200, { "content-encoding": "gzip" }).end(packed)
    )
    const client = yield* leasing()
    const read = Effect.flatMap(client.get(`${origin}/`), (response) => response.text)
    expect((yield* Effect.flip(read)).message).toMatch(/maxFetchBytes/)
  }).pipe(Effect.provide(FetchHttpClient.layer))
)
