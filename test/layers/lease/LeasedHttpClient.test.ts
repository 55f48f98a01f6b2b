import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as HttpClientPublic from "../../../src/layers/lease/HttpClientPublic.js"
import * as LeasedHttpClient from "../../../src/layers/lease/LeasedHttpClient.js"
import { LeaseExpired, PermissionDenied } from "../../../src/protocol/Errors.js"
import { leaseErrorOf } from "../../../src/services/lease/Lease.js"
import { leasedTo, lessee, site, text } from "./LeasedHttpClient.site.js"

const clients: ReadonlyArray<readonly [string, Layer.Layer<HttpClient.HttpClient>]> = [
  ["fetch", FetchHttpClient.layer],
  ["node", NodeHttpClient.layer],
  ["undici", NodeHttpClient.layerUndici],
  ["public", HttpClientPublic.layer()]
]

for (const [name, layer] of clients)
  describe(`the leased HttpClient over ${name}`, () => {
    it.scoped("requests what the lease covers, in its canonical form", () =>
      Effect.gen(function* () {
        const { origin, seen } = yield* site
        const client = yield* leasedTo([`${origin}/public/**`])
        expect(yield* text(client, `${origin}/public/a`)).toBe("hello from /public/a")
        expect(yield* text(client, `${origin.replace("http", "HTTP")}/public/b/../%63#d`)).toBe(
          "hello from /public/c"
        )
        expect(
          yield* Effect.flatMap(
            client.execute(HttpClientRequest.get(`${origin}/public/q`, { urlParams: { x: "1 2" } })),
            (response) => response.text
          )
        ).toBe("hello from /public/q?x=1+2")
        expect(seen).toHaveLength(3)
      }).pipe(Effect.provide(layer))
    )

    it.scoped("refuses the rest before anything is sent, whatever the handler puts around it", () =>
      Effect.gen(function* () {
        const { origin, seen } = yield* site
        const client = yield* leasedTo([`${origin}/public/**`])
        const host = origin.slice("http://".length)
        for (const url of [
          `${origin}/secret`,
          `${origin}/public/../secret`,
          `${origin}/public/%2e%2e/secret`,
          `${origin}/public/%2E./secret`,
          `http://me@${host}/public/a`,
          `http://localhost:${host.split(":")[1]}/public/a`,
          `${origin}/public\\..\\secret`
        ]) {
          const error = yield* Effect.flip(client.get(url))
          expect(leaseErrorOf(error), url).toBeInstanceOf(PermissionDenied)
        }
        const wrapped = client.pipe(
          HttpClient.mapRequest(HttpClientRequest.setUrl(`${origin}/secret`)),
          HttpClient.followRedirects(),
          HttpClient.retry({ times: 2 })
        )
        expect(leaseErrorOf(yield* Effect.flip(wrapped.get(`${origin}/public/a`)))).toBeDefined()
        const prefixed = client.pipe(HttpClient.mapRequest(HttpClientRequest.prependUrl(`${origin}/public`)))
        expect(leaseErrorOf(yield* Effect.flip(prefixed.get("/../secret")))).toBeDefined()
        expect(seen).toEqual([])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("asks again at every redirect", () =>
      Effect.gen(function* () {
        const a = yield* site
        const b = yield* site
        const client = yield* leasedTo([`${a.origin}/**`, `${a.origin}/to*?**`])
        const hop = (to: string, status = "") => `${a.origin}/to${status}?${encodeURIComponent(to)}`
        expect(yield* text(client, hop("/end"))).toBe("hello from /end")
        expect(yield* text(client, hop(hop("/end")))).toBe("hello from /end")
        for (const status of ["301", "302", "303", "307", "308"])
          expect(leaseErrorOf(yield* Effect.flip(client.get(hop(`${b.origin}/x`, status))))).toBeDefined()
        const followed = HttpClient.followRedirects(client)
        expect(leaseErrorOf(yield* Effect.flip(followed.get(hop(`${b.origin}/x`))))).toBeDefined()
        expect(leaseErrorOf(yield* Effect.flip(client.get(hop("file:///etc/passwd"))))).toBeDefined()
        expect(b.seen).toEqual([])
      }).pipe(Effect.provide(layer))
    )

    it.scoped("gives up after ten redirects", () =>
      Effect.gen(function* () {
        const seen = { count: 0 }
        const server = yield* Effect.acquireRelease(
          Effect.async<Server>((resume) => {
            const made = createServer((_, response) => {
              seen.count++
              response.writeHead(302, { location: "/again" }).end()
            })
            made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
          }),
          (made) =>
            Effect.sync(() => void made.closeAllConnections()).pipe(
              Effect.zipRight(Effect.sync(() => void made.close()))
            )
        )
        const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
        const client = yield* leasedTo([`${origin}/**`])
        expect((yield* Effect.flip(client.get(`${origin}/`))).message).toMatch(/more than 10/)
        expect(seen.count).toBe(11)
      }).pipe(Effect.provide(layer))
    )

    it.scoped("redirects as fetch does: method, body, and headers meant for one origin", () =>
      Effect.gen(function* () {
        const a = yield* site
        const b = yield* site
        const client = yield* leasedTo(["http://127.0.0.1:*/**"])
        const post = (status: number, to: string) =>
          client.post(`${a.origin}/to${status}?${encodeURIComponent(to)}`, {
            body: HttpBody.text("payload", "text/plain"),
            headers: {
              authorization: "Bearer secret",
              cookie: "a=b",
              "x-other": "1",
              host: "elsewhere.example"
            }
          })
        yield* post(302, `${a.origin}/same`)
        yield* post(307, `${b.origin}/other`)
        yield* post(303, `${b.origin}/see`)
        const [, same] = a.seen
        const [other, see] = b.seen
        expect(same).toMatchObject({ method: "GET", body: "" })
        expect(same?.headers.authorization).toBe("Bearer secret")
        expect(other).toMatchObject({ method: "POST", body: "payload" })
        expect(see).toMatchObject({ method: "GET", body: "" })
        for (const request of [other, see]) {
          expect(request?.headers).not.toHaveProperty("authorization")
          expect(request?.headers).not.toHaveProperty("cookie")
          expect(request?.headers).toHaveProperty("x-other")
        }
        for (const request of [...a.seen, ...b.seen]) expect(request.headers.host).toMatch(/^127\.0\.0\.1:/)
      }).pipe(Effect.provide(layer))
    )
  })

it.scoped("does not use a fetch, or options, that the handler brings", () =>
  Effect.gen(function* () {
    const a = yield* site
    const b = yield* site
    const client = yield* leasedTo([`${a.origin}/**`])
    const error = yield* Effect.flip(
      client.get(`${a.origin}/to?${encodeURIComponent(`${b.origin}/x`)}`)
    ).pipe(
      Effect.provideService(FetchHttpClient.Fetch, (() => fetch(`${b.origin}/mine`)) as typeof fetch),
      Effect.provideService(FetchHttpClient.RequestInit, { redirect: "follow" })
    )
    expect(leaseErrorOf(error)).toBeDefined()
    expect(b.seen).toEqual([])
  }).pipe(Effect.provide(FetchHttpClient.layer))
)

it.scoped("is over when the lease is", () =>
  Effect.gen(function* () {
    const { origin } = yield* site
    const expired = { now: false }
    const open = yield* HttpClient.HttpClient
    const client = LeasedHttpClient.leased.lease(
      open,
      lessee({ "net.fetch": ["**"] }, expired)
    ) as HttpClient.HttpClient
    expect(yield* text(client, `${origin}/a`)).toBe("hello from /a")
    expired.now = true
    expect(leaseErrorOf(yield* Effect.flip(client.get(`${origin}/a`)))).toBeInstanceOf(LeaseExpired)
  }).pipe(Effect.provide(FetchHttpClient.layer))
)

it.scoped("is over also when that comes while a request waits for the log, or a redirect does", () =>
  Effect.gen(function* () {
    const { origin, seen } = yield* site
    const open = yield* HttpClient.HttpClient
    const asking = (waits: number) => {
      const expired = { now: false }
      let left = waits
      const held = lessee({ "net.fetch": ["**"] }, expired)
      const flushed = Effect.sync(() => {
        expired.now = --left === 0
      })
      return LeasedHttpClient.leased.lease(open, {
        ...held,
        lease: { ...held.lease, flushed }
      }) as HttpClient.HttpClient
    }
    const body = HttpBody.text("paid")
    expect(leaseErrorOf(yield* Effect.flip(asking(1).post(`${origin}/a`, { body })))).toBeInstanceOf(
      LeaseExpired
    )
    expect(seen).toEqual([])
    const to = `${origin}/to307?${encodeURIComponent(`${origin}/b`)}`
    expect(leaseErrorOf(yield* Effect.flip(asking(2).post(to, { body })))).toBeInstanceOf(LeaseExpired)
    expect(seen.map(({ url }) => url)).toEqual([to.slice(origin.length)])
  }).pipe(Effect.provide(FetchHttpClient.layer))
)

describe("public addresses only", () => {
  it.each([
    ["93.184.215.14", true],
    ["127.0.0.1", false],
    ["127.9.9.9", false],
    ["10.1.2.3", false],
    ["100.64.0.1", false],
    ["169.254.169.254", false],
    ["172.16.0.1", false],
    ["172.32.0.1", true],
    ["192.168.1.1", false],
    ["0.0.0.0", false],
    ["224.0.0.1", false],
    ["255.255.255.255", false],
    ["2606:2800:21f:cb07:6820:80da:af6b:8b2c", true],
    ["::1", false],
    ["::", false],
    ["::ffff:127.0.0.1", false],
    ["::ffff:8.8.8.8", false],
    ["64:ff9b::7f00:1", false],
    ["fe80::1%eth0", false],
    ["fd00::1", false],
    ["ff02::1", false],
    ["2002:7f00:1::", false],
    ["2001::1", false],
    ["localhost", false]
  ])("%s: %s", (address, expected) => {
    expect(HttpClientPublic.isPublic(address)).toBe(expected)
  })

  it.scoped(
    "refuses names that lead to others, also on their second answer, unless the lease names them",
    () =>
      Effect.gen(function* () {
        const { origin, seen } = yield* site
        const port = origin.split(":")[2]
        const answers = new Map([
          ["inside.example", ["127.0.0.1"]],
          ["both.example", ["93.184.215.14", "127.0.0.1"]]
        ])
        const layer = HttpClientPublic.layer({
          lookup: (name, options, callback) => {
            const all = (answers.get(name) ?? []).map((address) => ({ address, family: 4 }))
            if (options.all === true) callback(null, all)
            else callback(null, all[0]?.address ?? "", 4)
          }
        })
        yield* Effect.gen(function* () {
          const wide = yield* leasedTo(["http://**"])
          for (const host of [
            "inside.example",
            "both.example",
            "127.0.0.1",
            "[::ffff:127.0.0.1]",
            "2130706433"
          ])
            expect(String((yield* Effect.flip(wide.get(`http://${host}:${port}/x`))).cause), host).toMatch(
              /not public/
            )
          const open = yield* HttpClient.HttpClient
          expect(String((yield* Effect.flip(open.get(`http://127.0.0.1:${port}/x`))).cause)).toMatch(
            /not public/
          )
          expect(seen).toEqual([])
          const named = yield* leasedTo([`http://inside.example:${port}/**`, "http://**"])
          expect(yield* text(named, `http://inside.example:${port}/x`)).toBe("hello from /x")
          // The connection that was opened for a named host serves nobody else.
          expect(yield* Effect.isFailure(wide.get(`http://inside.example:${port}/x`))).toBe(true)
        }).pipe(Effect.provide(layer))
      })
  )
})
