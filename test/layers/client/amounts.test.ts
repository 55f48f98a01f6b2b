/** What is no duration, or no number, is refused by its name before anything is dialled, submitted or started. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { fork } from "../../../src/layers/client/forking.js"
import { later } from "../../../src/layers/client/later.js"
import * as DialerStdio from "../../../src/layers/transport/DialerStdio.js"
import * as DialerWebSocket from "../../../src/layers/transport/DialerWebSocket.js"
import * as DialerWebSocketGlobal from "../../../src/layers/transport/DialerWebSocketGlobal.js"
import { InvalidRequest } from "../../../src/protocol/Errors.js"
import { Dialer } from "../../../src/services/transport/Transport.js"
import { scripted } from "./scripted.js"

/** What compiles, and what does not. */
const none = [Number.NaN, -1, 0, "0 seconds", "soon", "-5 seconds", "", null, {}, [], true, () => 5] as const
const odd = none as ReadonlyArray<unknown> as ReadonlyArray<Duration.DurationInput & number>

/** What a count is not, and a duration may be. */
const noCounts = [
  "10 seconds",
  1.5,
  "3",
  9n,
  Duration.seconds(4),
  Number.POSITIVE_INFINITY
] as ReadonlyArray<unknown> as typeof odd

const says = (error: unknown, start: string, what: string) => {
  assert.instanceOf(error, InvalidRequest, String(error))
  assert.include(error.message, `${start} ${what}`)
  assert.isFalse(error.retryable)
}
const throws = (call: () => unknown, start: string) => {
  try {
    call()
  } catch (error) {
    return says(error, start, "has to be")
  }
  assert.fail(`${start}: nothing was refused`)
}

describe("amounts", () => {
  for (const [name, kind, options] of [
    ["requestTimeout", "duration", (requestTimeout) => ({ requestTimeout })],
    ["ack.interval", "duration", (interval) => ({ ack: { interval } })],
    ["ack.events", "count", (events) => ({ ack: { events } })],
    ["held.events", "count", (events) => ({ held: { events } })],
    ["held.bytes", "count", (bytes) => ({ held: { bytes } })]
  ] satisfies ReadonlyArray<
    readonly [string, string, (value: Duration.DurationInput & number) => Partial<ArcpClient.Options>]
  >)
    it.scoped(`of ArcpClient.make: ${name}`, () =>
      Effect.gen(function* () {
        for (const value of kind === "duration" ? odd : [...odd, ...noCounts]) {
          const made = ArcpClient.make({ token: "t", ...options(value) }).pipe(
            Effect.provideService(Dialer, { connect: Effect.dieMessage("dialled") }),
            Effect.flip
          )
          says(yield* made, `ArcpClient: ${name}`, `has to be a ${kind} above 0`)
        }
      })
    )

  it.scoped("of ArcpClient.make, left out or undefined: as the default", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open(undefined, {
        requestTimeout: undefined,
        ack: { events: undefined },
        held: { bytes: undefined, events: undefined }
      })
      yield* submitted(client, server)
    })
  )

  it.scoped("of submit: maxRuntime; nothing is sent", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open()
      for (const maxRuntime of odd)
        says(
          yield* Effect.flip(client.submit("x", 1, { maxRuntime })),
          "submit: maxRuntime",
          "has to be a duration above 0"
        )
      const submitting = yield* Effect.fork(client.submit("x", 1, { maxRuntime: "90 seconds" }))
      const { payload } = yield* server.accept()
      assert.strictEqual(payload["max_runtime_sec"], 90)
      yield* Fiber.join(submitting)
    })
  )

  it("of ArcpClient.later and fork", () => {
    for (const delay of odd.filter((value) => value !== 0 && String(value) !== "0 seconds"))
      throws(() => later({ delay }), "ArcpClient.later: delay")
    throws(() => later({ delay: Number.POSITIVE_INFINITY }), "ArcpClient.later: delay")
    throws(() => later({ at: new Date(Number.NaN) }), "ArcpClient.later: at")
    throws(() => later(null as never), "ArcpClient.later: when")
    throws(() => fork(""), "ArcpClient.fork: jobId")
    throws(() => fork("job_x", 3 as never), "ArcpClient.fork: at")
    assert.deepStrictEqual(Object.values(later({ delay: 0 }).extensions ?? {}), [{ delay_sec: 0 }])
  })

  it("of DialerWebSocket.layer", () => {
    const given = (options: object) => () => DialerWebSocket.layer({ url: "ws://127.0.0.1:1", ...options })
    for (const value of odd) {
      throws(given({ connectTimeout: value }), "DialerWebSocket.layer: options.connectTimeout")
      throws(given({ maxFrameBytes: value }), "DialerWebSocket.layer: options.maxFrameBytes")
    }
    for (const url of [null, 3, {}]) throws(given({ url }), "DialerWebSocket.layer: options.url")
    for (const headers of [null, 3, ["a"], { a: 1 }])
      throws(given({ headers }), "DialerWebSocket.layer: options.headers")
    throws(given({ ca: 3 }), "DialerWebSocket.layer: options.ca")
    throws(given({ allowInsecure: "yes" }), "DialerWebSocket.layer: options.allowInsecure")
    throws(() => DialerWebSocket.layer(undefined as never), "DialerWebSocket.layer: options")
    given({ ca: Buffer.from("x"), headers: { a: "b" }, connectTimeout: "2 seconds" })()
  })

  it("of DialerWebSocketGlobal.layer", () => {
    const given = (options: object) => () =>
      DialerWebSocketGlobal.layer({ url: "ws://127.0.0.1:1", ...options })
    for (const value of odd)
      throws(given({ connectTimeout: value }), "DialerWebSocketGlobal.layer: connectTimeout")
    for (const value of [...odd, ...noCounts]) {
      throws(given({ maxFrameBytes: value }), "DialerWebSocketGlobal.layer: maxFrameBytes")
      throws(given({ maxHeldBytes: value }), "DialerWebSocketGlobal.layer: maxHeldBytes")
    }
    given({ connectTimeout: "2 seconds", maxFrameBytes: 1, maxHeldBytes: undefined })()
  })

  it("of DialerStdio.layer", () => {
    const given = (options: object) => () => DialerStdio.layer({ command: "true", ...options })
    for (const value of odd.filter((value) => value !== 0 && String(value) !== "0 seconds"))
      throws(given({ killGrace: value }), "DialerStdio.layer: options.killGrace")
    for (const value of odd)
      throws(given({ maxFrameBytes: value }), "DialerStdio.layer: options.maxFrameBytes")
    for (const command of [null, 3, "", "a\0b"])
      throws(given({ command }), "DialerStdio.layer: options.command")
    throws(given({ args: ["a", 3] }), "DialerStdio.layer: options.args[1]")
    throws(given({ args: "a b" }), "DialerStdio.layer: options.args")
    throws(given({ cwd: 3 }), "DialerStdio.layer: options.cwd")
    throws(given({ env: { A: 3 } }), "DialerStdio.layer: options.env")
    given({ args: [""], env: { A: undefined, B: "b" }, killGrace: 0 })()
  })
})
