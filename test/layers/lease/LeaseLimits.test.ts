/** What one request may ask for, seen from the wire: a lease with a bound, and a frame that is JSON (§1, §2). */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { make as makeTurn, Turn } from "../../../src/services/runtime/Turn.js"
import * as Wire from "../../support/Wire.js"

const echo = Agent.fromPromise("echo", { version: "1.0.0" }, async (input) => input)

const many = (count: number, make: (i: number) => string) => Array.from({ length: count }, (_, i) => make(i))
const ceiling = { "fs.read": many(200, (i) => `/**${"/a".repeat(200)}/b${i}/**`), "tool.call": ["x*"] }

/** A runtime whose turns are counted. */
const runtime = (options: RuntimeOptions.Input, turns: { count: number }) =>
  Runtime.serve().pipe(
    Layer.provideMerge(TransportMemory.layer()),
    Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis", ...options } })),
    Layer.provide(Registry.layer([echo])),
    Layer.provide(Auth.layerStatic({ alice: { principal: "alice", leaseCeiling: ceiling } })),
    Layer.provide(
      Layer.succeed(
        Turn,
        makeTurn((callback) => {
          turns.count++
          const handle = setImmediate(callback)
          return () => clearImmediate(handle)
        })
      )
    )
  )

const submit = (sessionId: string, input: string, leaseRequest: unknown = {}) =>
  `{"arcp":"1.1","id":"${Wire.nextId()}","type":"job.submit","session_id":"${sessionId}","payload":{"agent":"echo","input":${input},"lease_request":${JSON.stringify(leaseRequest)}}}`

describe("one request", () => {
  const turns = { count: 0 }

  it.scoped("with an intricate lease is decided in turns, and refused by the limit that it exceeds", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.open()
      const refusal = (lease: unknown) =>
        Effect.gen(function* () {
          yield* wire.sendText(submit(wire.sessionId, "1", lease))
          const { payload } = yield* wire.expect("job.error")
          assert.strictEqual(payload.code, "INVALID_REQUEST")
          return payload.message as string
        })
      turns.count = 0
      assert.match(
        yield* refusal({ "fs.read": many(990, (i) => `${"/a".repeat(300)}/${i}`) }),
        /^payload\.lease_request: fs\.read takes too long .*more than 2000000 steps \(maxLeaseSteps\)/
      )
      assert.isAbove(turns.count, 20)
      assert.match(
        yield* refusal({ "fs.read": many(995, (i) => `/${i}`), "tool.call": many(6, (i) => `x${i}`) }),
        /^payload\.lease_request: has 1001 patterns, of at most 1000 \(maxLeasePatterns\)/
      )
      assert.match(
        yield* refusal({ "tool.call": many(999, (i) => `${i}`.padEnd(1000, "x")) }),
        /bytes, of at most 990000 \(maxLeaseBytes\)/
      )
      yield* wire.sendText(submit(wire.sessionId, "1", { "tool.call": ["x1", "x2", "y"] }))
      assert.deepStrictEqual((yield* wire.expect("job.accepted")).payload.lease, {
        "tool.call": ["x1", "x2"]
      })
    }).pipe(Effect.provide(runtime({ maxLeasePatterns: 1000, maxLeaseBytes: 990_000 }, turns)))
  )

  it.scoped("with a number that JavaScript cannot hold is refused, and the session goes on", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.open()
      for (const [input, path] of [
        ["1e400", "payload.input"],
        ['{"a":[-1e400]}', "payload.input.a[0]"],
        ['"\\ud800"', "payload.input"]
      ] as const) {
        yield* wire.sendText(submit(wire.sessionId, input))
        const { payload } = yield* wire.expect("job.error")
        assert.strictEqual(payload.code, "INVALID_REQUEST")
        assert.isTrue((payload.message as string).startsWith(`${path}: `), payload.message)
      }
      yield* wire.sendText(submit(wire.sessionId, "9007199254740993"))
      // As every reader of JSON that has doubles reads it.
      assert.strictEqual((yield* wire.expect("job.result")).payload.result, 9007199254740992)
    }).pipe(Effect.provide(runtime({}, turns)))
  )

  it.scoped("with a key and a very wide input is compared in turns", () =>
    Effect.gen(function* () {
      const wire = yield* Wire.open()
      const members = many(60_000, (i) => `"k${(i * 7919) % 60_000}":${i}`)
      const wide = (parts: ReadonlyArray<string>) =>
        submit(wire.sessionId, `{${parts.join(",")}}`).replace('"agent"', '"idempotency_key":"k","agent"')
      turns.count = 0
      yield* wire.sendText(wide(members))
      const first = yield* wire.expect("job.accepted")
      assert.isAbove(turns.count, 10)
      yield* wire.sendText(wide([...members].reverse()))
      assert.strictEqual((yield* wire.expect("job.accepted")).job_id, first.job_id)
    }).pipe(Effect.provide(runtime({}, turns)))
  )
})
