import * as NodeContext from "@effect/platform-node/NodeContext"
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { agents } from "../src/programs/agents/demo.js"
import { walk } from "../src/programs/agents/survey/walk.js"
import { agents as conf } from "../src/programs/agents/conformance.js"
import * as SecretsLayer from "../src/layers/Secrets.js"
import { recorder, run } from "./programs/agents/recorder.js"
it.effect(
  "x",
  () =>
    Effect.gen(function* () {
      let t = performance.now()
      const c = process.cpuUsage()
      const root = "node_modules"
      yield* walk({ root, maxFiles: 100000 })
      console.log("walk", performance.now() - t, process.cpuUsage(c))
      const job = recorder()
      t = performance.now()
      yield* run(agents, "survey@2.0.0", { root }, job)
      console.log(root, performance.now() - t, job.events.length, process.cpuUsage(c))
      for (const batch of [1, 1, 16, 16, 64]) {
        const job = recorder()
        const t = performance.now()
        yield* run(conf, "emit", { count: 200000, batch }, job)
        console.log(batch, ((performance.now() - t) / 200000) * 1e6, "ns")
      }
    }).pipe(Effect.provide(Layer.merge(NodeContext.layer, SecretsLayer.layer))),
  60000
)
