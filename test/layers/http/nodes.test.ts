/** Nodes of a cluster are told over HTTP, to those who may list everybody's jobs. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as NodesMemory from "../../../src/layers/cluster/NodesMemory.js"
import * as WakeMemory from "../../../src/layers/cluster/WakeMemory.js"
import { Nodes, type NodesService } from "../../../src/services/cluster/Nodes.js"
import { Wake } from "../../../src/services/cluster/Wake.js"
import { StoreError } from "../../../src/services/store/Store.js"
import { served } from "./served.js"

const policy = PolicyLayer.layer({ observers: ["bob"], operators: ["ops"] })

/** A runtime that is the node `a` of two; `changed`: what its list of nodes is in place of the usual one. */
const node = (changed: (nodes: NodesService) => NodesService = (nodes) => nodes) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(Layer.merge(NodesMemory.layer(), WakeMemory.layer()))
    const nodes = Context.get(context, Nodes)
    yield* nodes.join({ name: "a", address: undefined, version: "1" })
    yield* nodes.join({ name: "b", address: "10.0.0.2:7777", version: "2" })
    return yield* served({
      policy,
      cluster: { node: "a", nodes: changed(nodes), wake: Context.get(context, Wake) }
    })
  })

describe("nodes over HTTP", () => {
  it.scopedLive("are told with what each has, to whoever may list everybody's jobs", () =>
    Effect.gen(function* () {
      const { ask } = yield* node()
      yield* Effect.promise(async () => {
        for (let i = 0; i < 2; i++) await ask("/v1/jobs", { json: { agent: "sleep", input: { ms: 60_000 } } })
        const answer = await ask("/v1/nodes", { token: "b" })
        expect(await answer.json()).toMatchObject({
          nodes: [
            { name: "a", self: true, state: "alive", version: "1", jobs: 2, sessions: 1 },
            { name: "b", self: false, state: "alive", version: "2", jobs: 0, address: "10.0.0.2:7777" }
          ]
        })
        expect((await ask("/v1/nodes", { token: "ops" })).status).toBe(200)
        expect((await ask("/v1/nodes")).status).toBe(403)
        expect((await ask("/v1/nodes", { token: "" })).status).toBe(401)
      })
    })
  )

  it.scopedLive("are none of a runtime that is alone", () =>
    Effect.gen(function* () {
      const { ask } = yield* served({ policy })
      const answer = yield* Effect.promise(() => ask("/v1/nodes", { token: "b" }))
      expect(yield* Effect.promise(() => answer.json())).toEqual({ nodes: [] })
    })
  )

  it.scopedLive("are told as not known while the store does not answer, and not why", () =>
    Effect.gen(function* () {
      const { ask } = yield* node((nodes) => ({
        ...nodes,
        list: new StoreError({ message: "postgres://secret is away" })
      }))
      const answer = yield* Effect.promise(() => ask("/v1/nodes", { token: "b" }))
      expect(answer.status).toBe(503)
      expect(yield* Effect.promise(() => answer.text())).not.toContain("secret")
    })
  )
})
