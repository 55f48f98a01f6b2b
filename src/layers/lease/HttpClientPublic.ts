/**
 * An `HttpClient` for Node that reaches public addresses only: names are resolved here, and what is loopback, private,
 * link-local (cloud metadata) or otherwise not for everybody is refused when the connection is made, so a name that
 * changes its address in between gains nothing. A host that the lease names without a wildcard is let through.
 */
import { lookup as systemLookup } from "node:dns"
import { BlockList, isIP, type LookupFunction } from "node:net"
import * as HttpClient from "@effect/platform/HttpClient"
import { type HttpClientError, RequestError } from "@effect/platform/HttpClientError"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import { needs } from "../../services/runtime/needs.js"
import { hostIsNamed } from "./LeasedHttpClient.js"

const notPublic = new BlockList()
for (const [network, prefix] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  // Multicast, reserved, broadcast.
  ["224.0.0.0", 3]
] as const)
  notPublic.addSubnet(network, prefix, "ipv4")
for (const [network, prefix] of [
  // Teredo, benchmarks, documentation, and what carries an IPv4 address inside.
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20]
] as const)
  notPublic.addSubnet(network, prefix, "ipv6")
/** Global unicast: all else is local, mapped, translated, multicast or reserved. */
const global = new BlockList()
global.addSubnet("2000::", 3, "ipv6")

/** May anybody be at this address? */
export const isPublic = (address: string): boolean => {
  const bare = address.replace(/%.*$/, "")
  switch (isIP(bare)) {
    case 4:
      return !notPublic.check(bare, "ipv4")
    case 6:
      return global.check(bare, "ipv6") && !notPublic.check(bare, "ipv6")
    default:
      return false
  }
}

const refusal = () =>
  Object.assign(
    new Error(
      "the host is at an address that is not public; name it in net.fetch, without a wildcard, to reach it"
    ),
    { code: "ENOTPUBLIC" }
  )

/** Resolves as `lookup` does, and fails when any of the addresses is not public. */
const guarded =
  (lookup: LookupFunction): LookupFunction =>
  (hostname, options, callback) =>
    lookup(hostname, options, (error, address, family) => {
      if (error) return callback(error, address, family)
      const addresses = Array.isArray(address) ? address.map((entry) => entry.address) : [address]
      if (addresses.every(isPublic)) return callback(null, address, family)
      callback(refusal(), "", 4)
    })

const platform = Effect.orDie(
  needs("HttpClientPublic", "@effect/platform-node", async () => ({
    ...(await import("@effect/platform-node/NodeHttpClient")),
    ...(await import("@effect/platform-node/Undici"))
  }))
)

const client = (connect: { readonly lookup: LookupFunction }) =>
  Effect.flatMap(platform, ({ Agent, makeUndici }) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Agent({ connect })),
        (agent) => Effect.promise(() => agent.destroy())
      ),
      makeUndici
    )
  )

/** Bun puts classes of its own in place of undici's, which look nothing up where they are told to. */
const isUndici = Effect.map(platform, ({ Agent }) => typeof Agent.prototype.dispatch === "function")

/** Refuses everything: what cannot be held to public addresses is not let out. */
const refusing = HttpClient.make((request) =>
  Effect.fail(
    new RequestError({
      request,
      reason: "Transport",
      description:
        "here an HttpClient cannot be held to public addresses: run under Node or Deno, or provide your own"
    })
  )
)

/**
 * Provides `HttpClient`. In a job (see `Registry.layer`) hosts that its lease names are open to it; outside of jobs
 * nothing is.
 */
export const layer = (
  options: {
    /** Resolves names; default: as the system does. */
    readonly lookup?: LookupFunction | undefined
  } = {}
): Layer.Layer<HttpClient.HttpClient> =>
  Layer.scoped(
    HttpClient.HttpClient,
    Effect.gen(function* () {
      if (!(yield* isUndici)) return refusing
      const lookup = options.lookup ?? (systemLookup as LookupFunction)
      // Two pools: a connection that was allowed for one request must not serve another.
      const open = yield* client({ lookup })
      const closed = yield* client({ lookup: guarded(lookup) })
      return HttpClient.makeWith<never, never, HttpClientError, never>(
        Effect.flatMap((request) =>
          Effect.flatMap(FiberRef.get(hostIsNamed), (named) => {
            if (named) return open.execute(request)
            // For an address nothing is resolved, so nobody would look.
            const url = UrlParams.makeUrl(request.url, request.urlParams, request.hash)
            const host = Either.isRight(url) ? url.right.hostname.replace(/^\[|\]$/g, "") : ""
            return isIP(host) !== 0 && !isPublic(host)
              ? new RequestError({
                  request,
                  reason: "Transport",
                  description: refusal().message,
                  cause: refusal()
                })
              : closed.execute(request)
          })
        ),
        Effect.succeed
      )
    })
  )
