/** Where a connection crosses a network in the clear no credentials of jobs are sent (protocol 11); the jobs have them. */
import type { IncomingMessage } from "node:http"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { trustedProxies } from "../../../src/layers/transport/clientAddress.js"
import * as DialerWebSocket from "../../../src/layers/transport/DialerWebSocket.js"
import { isExposed } from "../../../src/layers/transport/UpgradePolicy.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Credentials } from "../../../src/services/credentials/Credentials.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { open } from "../../support/Wire.js"
import { as, submit } from "../jobs/support.js"
import { served } from "./served.js"

/** Says what it was given. */
const keyed = Agent.handle(Agent.make("keyed", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, ({ credentials }) => Effect.map(credentials, (all) => all.map(({ id }) => id)))
)
const credential = {
  id: "cred_1",
  scheme: "bearer" as const,
  value: Redacted.make("the secret"),
  endpoint: "https://gateway.example"
}
const minted = new Set<string>()
const credentials = Layer.succeed(Credentials, {
  enabled: true,
  mint: ({ jobId }) =>
    Effect.sync(() => {
      minted.add(jobId)
      return [credential]
    }),
  held: (jobId) => (minted.has(jobId) ? [credential] : []),
  rotate: () => Effect.succeed(credential),
  release: () => Effect.void,
  outstanding: Effect.succeed([]),
  revoke: () => Effect.void
})

/** What a proxy says of a client that has come by this. */
const from = (scheme: string) => ({ "x-forwarded-for": "192.0.2.1", "x-forwarded-proto": scheme })

describe("credentials behind a proxy that is trusted", () => {
  it.scopedLive(
    "are shown when the client has come to that with TLS, over WebSocket and HTTP; jobs have them always",
    () => {
      const warnings: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        if (logLevel.label === "WARN") warnings.push(String(message))
      })
      return Effect.gen(function* () {
        const { ask, base } = yield* served({
          agents: [keyed],
          credentials,
          transport: { trustedProxies: ["127.0.0.1"] }
        })
        for (const [scheme, shown] of [
          ["https", true],
          ["http", false],
          ["https, http", false],
          ["HTTPS", true]
        ] as const) {
          const url = new URL("/arcp", base).href.replace(/^http/, "ws")
          const dialer = DialerWebSocket.layer({ url, headers: from(scheme) })
          const session = yield* Effect.provide(open(as("a")), dialer)
          expect(session.welcome.capabilities.features).toContain("provisioned_credentials")
          const { payload } = yield* submit(session, "keyed")
          expect(payload.credentials?.[0].value === "the secret").toBe(shown)
          expect((yield* session.expect("job.result")).payload.result).toEqual(["cred_1"])
          const posted = yield* Effect.promise(async () => {
            const response = await ask("/v1/jobs", {
              json: { agent: "echo", input: 1 },
              headers: from(scheme)
            })
            return [response.status, (await response.text()).includes("the secret")]
          })
          expect(posted).toEqual([201, shown])
          // Once, when somebody has asked in the clear.
          expect(warnings.filter((line) => line.includes("--trust-proxy"))).toHaveLength(
            scheme === "https" ? 0 : 1
          )
        }
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    }
  )
})

/** A request as far as it is looked at. */
const request = (
  socket: { readonly localAddress: string; readonly remoteAddress: string; readonly encrypted?: true },
  headersDistinct: Record<string, Array<string>> = {}
) => ({ socket, headersDistinct }) as unknown as IncomingMessage

const here = { localAddress: "127.0.0.1", remoteAddress: "127.0.0.1" }
const there = { localAddress: "192.0.2.2", remoteAddress: "192.0.2.9" }
const said = (scheme: string) => ({ "x-forwarded-for": ["192.0.2.1"], "x-forwarded-proto": [scheme] })

it.each([
  ["on this machine", request(here), false],
  ["in the clear from elsewhere", request(there), true],
  ["with TLS from elsewhere", request({ ...there, encrypted: true }), false],
  [
    "in the clear, and says that it is not",
    request({ ...there, remoteAddress: "192.0.2.8" }, said("https")),
    true
  ],
  ["through a trusted proxy with TLS", request(there, said("https")), false],
  ["through a trusted proxy in the clear", request({ ...there, encrypted: true }, said("http")), true],
  ["through a trusted proxy that does not say how", request(there), true]
])("a request that comes %s", (_, request, exposed) => {
  expect(isExposed(request, trustedProxies(["192.0.2.9"]))).toBe(exposed)
})
