/** What tests of the leased HTTP client have in common: a site that remembers, and a lease. */
import { createServer, type IncomingMessage, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as LeasedHttpClient from "../../../src/layers/lease/LeasedHttpClient.js"
import { LeaseExpired, PermissionDenied } from "../../../src/protocol/Errors.js"
import { compile, type Lease } from "../../../src/protocol/Lease.js"
import type { FetchBounds, LeaseService } from "../../../src/services/lease/Lease.js"
import type { Lessee } from "../../../src/services/lease/Leased.js"

interface Seen {
  readonly url: string
  readonly method: string
  readonly headers: IncomingMessage["headers"]
  readonly body: string
}

/** A site that remembers what it was asked. `/to?URL` redirects there, with the status in `?status=`. */
export const site = Effect.acquireRelease(
  Effect.async<{ readonly server: Server; readonly seen: Array<Seen>; readonly origin: string }>((resume) => {
    const seen: Array<Seen> = []
    const server = createServer((request, response) => {
      let body = ""
      request.on("data", (data) => {
        body += data
      })
      request.on("end", () => {
        const url = request.url ?? ""
        seen.push({ url, method: request.method ?? "", headers: request.headers, body })
        const match = /^\/to(\d*)\?(.*)$/.exec(url)
        if (match === null) return response.end(`hello from ${url}`)
        response.writeHead(Number(match[1] || 302), { location: decodeURIComponent(match[2] ?? "") })
        response.end()
      })
    })
    server.listen(0, "127.0.0.1", () =>
      resume(
        Effect.succeed({ server, seen, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
      )
    )
  }),
  ({ server }) =>
    Effect.async<void>((resume) => {
      server.closeAllConnections()
      server.close(() => resume(Effect.void))
    })
)

export const lessee = (
  lease: Lease,
  expired: { now: boolean } = { now: false },
  fetching: FetchBounds = { maxBytes: 1024 * 1024, timeout: Duration.minutes(1), traceHeaders: false }
): Lessee => {
  const compiled = compile(lease)
  const known: Pick<LeaseService, "check" | "flushed" | "namesHost" | "fetching"> = {
    check: (capability, target) =>
      expired.now
        ? Either.left(new LeaseExpired({ message: "over" }))
        : Either.mapLeft(
            compiled.permits(capability, target),
            (why) => new PermissionDenied({ message: `refused: ${why}` })
          ),
    flushed: Effect.void,
    namesHost: compiled.namesHost,
    fetching
  }
  return { lease: known as LeaseService, job: {} as Lessee["job"] }
}

export const leasedTo = (patterns: ReadonlyArray<string>) =>
  Effect.map(
    HttpClient.HttpClient,
    (open) => LeasedHttpClient.leased.lease(open, lessee({ "net.fetch": patterns })) as HttpClient.HttpClient
  )

export const text = (client: HttpClient.HttpClient, url: string) =>
  Effect.flatMap(client.get(url), (response) => response.text)
