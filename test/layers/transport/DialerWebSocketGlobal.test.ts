/** What a connection holds that was made of the platform's own `WebSocket`, which cannot be paused. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fromOpen } from "../../../src/layers/transport/DialerWebSocketGlobal.js"

/** A socket that is open, and what it was closed with. */
const socket = () => {
  const events = new EventTarget()
  const closed: Array<number> = []
  const ws = {
    OPEN: 1,
    CLOSED: 3,
    readyState: 1,
    bufferedAmount: 0,
    send: () => {},
    close: (code: number) => closed.push(code),
    addEventListener: (type: string, listener: (event: never) => void) =>
      events.addEventListener(type, listener as unknown as EventListener)
  }
  const said = (data: unknown) => events.dispatchEvent(new MessageEvent("message", { data }))
  return { closed, said, ws }
}

const limits = { url: "ws://localhost", maxFrameBytes: 1_000, maxHeldBytes: 10_000 }
const codeOf = (connection: ReturnType<typeof fromOpen>) =>
  Effect.gen(function* () {
    for (;;) yield* connection.take
  }).pipe(
    Effect.flip,
    Effect.map(({ code }) => code)
  )

describe("frames that nobody takes", () => {
  const kinds: ReadonlyArray<[string, unknown]> = [
    ["binary ones", new Blob([new Uint8Array(500)])],
    ["binary ones of other runtimes", Buffer.alloc(500)],
    ["binary ones as buffers", new ArrayBuffer(500)],
    ["empty binary ones", new Blob([])],
    ["empty texts", ""],
    ["texts", "x".repeat(500)]
  ]
  for (const [name, data] of kinds)
    it.effect(`end the connection when they are too many: ${name}`, () =>
      Effect.gen(function* () {
        const { closed, said, ws } = socket()
        const connection = fromOpen(ws, limits)
        said(data)
        assert.lengthOf([...(yield* connection.take)], 1)
        for (let i = 0; i < 100; i++) said(data)
        assert.strictEqual(yield* codeOf(connection), 1013)
        assert.lengthOf(closed, 1)
      })
    )

  it.effect("a binary frame has the bound of a text", () =>
    Effect.gen(function* () {
      for (const data of [
        new Blob([new Uint8Array(1_001)]),
        new ArrayBuffer(1_001),
        Buffer.alloc(1_001),
        "x".repeat(1_001)
      ]) {
        const { said, ws } = socket()
        const connection = fromOpen(ws, limits)
        said(data)
        assert.strictEqual(yield* codeOf(connection), 1009)
      }
    })
  )
})
