/** What nodes tell of themselves, and what they tell together adds up to. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Metrics from "../../../src/layers/telemetry/Metrics.js"
import * as Prometheus from "../../../src/layers/telemetry/Prometheus.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { readExposition, sampleIn } from "../../support/exposition.js"
import { cluster } from "../../support/Nodes.js"
import { open } from "../../support/Wire.js"

const settle = Effect.repeatN(eventLoop.next, 40)
const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))

it.scoped("each node tells its name; what is stored is told by one of them, also when that one goes", () =>
  Effect.gen(function* () {
    const { disk, start } = yield* cluster
    // Another runtime of this process may tell of its own.
    const before = readExposition(yield* Prometheus.text)
    const elsewhere = (name: string) => sampleIn(before, name) ?? 0
    const a = yield* start("metric-a", [echo])
    yield* TestClock.adjust("1 second")
    const b = yield* start("metric-b", [echo])
    const session = yield* b.run(open())
    yield* session.request("job.submit", { agent: "echo", input: 1 })
    yield* session.expect("job.result")
    yield* settle
    const told = disk.store.retained ?? Effect.dieMessage("it does not tell")
    assert.isAbove((yield* told).events, 1)
    const read = Effect.gen(function* () {
      const text = readExposition(yield* Prometheus.text)
      const sample = (name: string, labels: Record<string, string> = {}) => sampleIn(text, name, labels)
      return {
        nodes: ["metric-a", "metric-b"].map((node) => sample("arcp_node_info", { node })),
        alive: sample("arcp_nodes", { state: "alive" }),
        events: (sample("arcp_retained_events") ?? 0) - elsewhere("arcp_retained_events"),
        bytes: (sample("arcp_retained_bytes") ?? 0) - elsewhere("arcp_retained_bytes")
      }
    })
    // What is stored may grow meanwhile: then they are looked at again.
    const compared = Effect.zip(read, told).pipe(
      Effect.zipLeft(Effect.zipRight(TestClock.adjust("1 second"), settle)),
      Effect.repeat({
        until: ([said, { bytes, events }]) => said.events === events && said.bytes === bytes,
        times: 100
      })
    )
    const [both, stored] = yield* compared
    assert.deepStrictEqual(both.nodes, [1, 1])
    assert.strictEqual(both.events, stored.events)
    assert.strictEqual(both.bytes, stored.bytes)
    yield* a.stop
    yield* a.kill
    const [one, left] = yield* compared
    assert.deepStrictEqual(one.nodes, [0, 1])
    assert.strictEqual(one.alive, 1)
    assert.strictEqual(one.events, left.events)
  }).pipe(Effect.provide(Metrics.layer()))
)
