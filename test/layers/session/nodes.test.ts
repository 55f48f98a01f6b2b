/** How often the store is asked which nodes there are. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as NodesMemory from "../../../src/layers/cluster/NodesMemory.js"
import * as WakeMemory from "../../../src/layers/cluster/WakeMemory.js"
import * as ListedNodes from "../../../src/layers/session/nodes.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { Nodes } from "../../../src/services/cluster/Nodes.js"
import { Wake } from "../../../src/services/cluster/Wake.js"
import { Store } from "../../../src/services/store/Store.js"

describe("the list of nodes", () => {
  it.effect("is read once for all who ask within a few seconds", () =>
    Effect.gen(function* () {
      let asked = 0
      const nodes = yield* Nodes
      const counting = { ...nodes, list: Effect.tap(nodes.list, () => asked++) }
      const list = yield* ListedNodes.make({
        cluster: { node: "a", nodes: counting, wake: yield* Wake },
        policy: yield* Policy,
        store: yield* Store
      })
      const askedByMany = Effect.all(
        Array.from({ length: 20 }, () => list({ principal: "bob" })),
        { concurrency: "unbounded" }
      )
      yield* askedByMany
      assert.strictEqual(asked, 1)
      yield* TestClock.adjust("4 seconds")
      yield* askedByMany
      assert.strictEqual(asked, 2)
    }).pipe(
      Effect.provide([
        NodesMemory.layer(),
        WakeMemory.layer(),
        StoreMemory.layer(),
        PolicyLayer.layer({ observers: ["bob"] })
      ])
    )
  )
})
