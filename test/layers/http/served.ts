/** A runtime with the conformance agents, whose HTTP interface a test asks. */

import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as HttpGateway from "../../../src/layers/http/HttpGateway.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import * as WebConsole from "../../../src/layers/transport/WebConsole.js"
import { agents as conformance } from "../../../src/programs/agents/conformance.js"
import type { Registered } from "../../../src/services/agents/Agent.js"
import type { Registry as RegistryTag } from "../../../src/services/agents/Registry.js"
import type { Auth as AuthTag } from "../../../src/services/auth/Auth.js"
import type { Policy } from "../../../src/services/auth/Policy.js"
import { Cluster, type ClusterService } from "../../../src/services/cluster/Cluster.js"
import type { Credentials } from "../../../src/services/credentials/Credentials.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import type { Store } from "../../../src/services/store/Store.js"
import { TransportServer } from "../../../src/services/transport/Transport.js"

export interface ServedOptions {
  /** Beside those of the conformance suite. */
  readonly agents?: ReadonlyArray<Registered>
  /** Instead of one with these agents. */
  readonly registry?: Layer.Layer<RegistryTag>
  readonly gateway?: HttpGateway.Options
  readonly transport?: TransportWebSocket.Options
  readonly options?: RuntimeOptions.Input
  readonly auth?: Layer.Layer<AuthTag>
  readonly policy?: Layer.Layer<Policy>
  readonly credentials?: Layer.Layer<Credentials>
  /** Serves the console too. */
  readonly console?: boolean
  /** What it is kept in; else memory. */
  readonly store?: Layer.Layer<Store>
  /** Makes the runtime a node. */
  readonly cluster?: ClusterService
}

const identities = Auth.layerStatic({
  a: "alice",
  b: "bob",
  ops: "ops",
  // Alice too, but only for one agent.
  narrow: { principal: "alice", agents: ["echo"] }
})

/** What `fetch` is asked with, as whom a token names. */
export interface Asking extends RequestInit {
  readonly token?: string | undefined
  readonly json?: unknown
}

/** Starts a runtime; gives its address, what asks it, and its door. */
export const served = ({
  agents = [],
  auth = identities,
  cluster,
  console = false,
  credentials,
  gateway,
  options,
  policy,
  registry,
  store,
  transport
}: ServedOptions = {}) =>
  Effect.gen(function* () {
    const parts = {
      options: { shutdownGrace: 0, ...options },
      ...(policy === undefined ? {} : { policy }),
      ...(credentials === undefined ? {} : { credentials })
    }
    const runtime =
      store === undefined
        ? Runtime.layerMemory(parts)
        : Layer.orDie(Layer.provideMerge(Runtime.layer(parts), store))
    const services = yield* Layer.build(
      Runtime.serve().pipe(
        Layer.provideMerge(
          TransportWebSocket.layer({
            port: 0,
            ...transport,
            routes: Layer.merge(HttpGateway.layer(gateway), console ? WebConsole.layer() : Layer.empty)
          })
        ),
        Layer.provideMerge(runtime),
        Layer.provide(registry ?? Layer.orDie(Registry.layer([...conformance, ...agents]))),
        Layer.provide(auth),
        Layer.provide(cluster === undefined ? Layer.empty : Layer.succeed(Cluster, cluster)),
        Layer.provide(Layer.mergeAll(NodeContext.layer, FetchHttpClient.layer))
      )
    )
    const base = new URL(Context.get(services, TransportServer).address.replace(/^ws/, "http"))
    const ask = (path: string, { json, token = "a", ...init }: Asking = {}): Promise<Response> => {
      const headers = new Headers(init.headers)
      if (token !== "") headers.set("authorization", `Bearer ${token}`)
      if (json !== undefined && !headers.has("content-type")) headers.set("content-type", "application/json")
      return fetch(new URL(path, base), {
        ...init,
        headers,
        signal: init.signal ?? AbortSignal.timeout(60_000),
        ...(json === undefined ? {} : { method: init.method ?? "POST", body: JSON.stringify(json) })
      })
    }
    return { base, ask, sessions: Context.get(services, Sessions) }
  })

/** One message of an event stream. */
export interface Sent {
  readonly id: number | undefined
  readonly event: string
  readonly data: {
    readonly seq: number
    readonly type: string
    readonly after?: number
    readonly next?: number
    readonly payload: { readonly kind?: string; readonly body?: unknown; readonly result?: unknown }
    readonly problem?: { readonly status: number; readonly code: string }
  }
}

/** Reads server-sent events as a browser does, to the end. */
export const sentOf = (text: string): ReadonlyArray<Sent> =>
  text.split("\n\n").flatMap((block) => {
    const fields = new Map(
      block.split("\n").flatMap((line) => {
        const at = line.indexOf(":")
        return at < 1 ? [] : [[line.slice(0, at), line.slice(at + 1).trim()] as const]
      })
    )
    const data = fields.get("data")
    if (data === undefined) return []
    const id = fields.get("id")
    return [
      {
        id: id === undefined ? undefined : Number(id),
        event: fields.get("event") ?? "message",
        data: JSON.parse(data)
      }
    ]
  })
