/** What every transport promises (`src/services/transport/Transport.ts`), whatever it is made of. */
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import {
  Closed,
  type Connection,
  closeCode,
  type Inbound
} from "../../../src/services/transport/Transport.js"

const turn = Effect.async<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Takes until `count` frames have come. */
export const receive = (connection: Connection, count: number): Effect.Effect<Array<Inbound>, Closed> =>
  Effect.gen(function* () {
    const frames: Array<Inbound> = []
    while (frames.length < count) frames.push(...(yield* connection.take))
    return frames
  })

/** Takes everything there is until the end. */
export const receiveToEnd = (
  connection: Connection
): Effect.Effect<{ frames: Array<Inbound>; closed: Closed }> =>
  Effect.gen(function* () {
    const frames: Array<Inbound> = []
    for (;;) {
      const taken = yield* Effect.either(connection.take)
      if (taken._tag === "Left") return { frames, closed: taken.left }
      frames.push(...taken.right)
    }
  })

/** Waits until a number has not changed for many turns of the event loop. */
const settled = (value: () => number): Effect.Effect<number> =>
  Effect.gen(function* () {
    let seen = value()
    for (let quiet = 0; quiet < 500; quiet++) {
      yield* turn
      if (value() !== seen) quiet = 0
      seen = value()
    }
    return seen
  })

const numbered = (count: number, from = 0) => Array.from({ length: count }, (_, i) => `{"n":${from + i}}`)

export interface Capabilities {
  /** The peer learns our close code and reason. */
  readonly carriesCodes: boolean
  /** The client can pause its socket. Not so over the browsers' WebSocket. */
  readonly clientPauses: boolean
}

export const suite = <E>(
  name: string,
  pair: Effect.Effect<readonly [client: Connection, server: Connection], E, Scope.Scope>,
  { carriesCodes, clientPauses }: Capabilities
) => {
  const directions = [
    {
      direction: "client to server",
      pick: Effect.map(pair, ([client, server]) => ({ from: client, to: server }))
    },
    {
      direction: "server to client",
      pick: Effect.map(pair, ([client, server]) => ({ from: server, to: client }))
    }
  ]

  describe.each(directions)(`${name}, $direction`, ({ direction, pick }) => {
    const pauses = clientPauses || direction === "client to server"

    it.scoped("delivers frames whole and in order", () =>
      Effect.gen(function* () {
        const { from, to } = yield* pick
        const odd = ["x", "ä€🙂 \u2028 \\n", "y".repeat(60_000), '{"a":"\u0000"}']
        yield* from.send(odd)
        yield* from.send([])
        yield* from.send(numbered(3))
        expect(yield* receive(to, 7)).toEqual([...odd, ...numbered(3)])
      })
    )

    it.scoped("takes a batch of 10 000 frames, and a burst as a chunk", () =>
      Effect.gen(function* () {
        const { from, to } = yield* pick
        const frames = numbered(10_000)
        const sender = yield* Effect.fork(from.send(frames))
        const first = yield* to.take
        expect(Chunk.size(first)).toBeGreaterThan(10)
        expect([...first, ...(yield* receive(to, frames.length - Chunk.size(first)))]).toEqual(frames)
        yield* Fiber.join(sender)
      })
    )

    it.scoped("send returns on a later turn of the event loop", () =>
      Effect.gen(function* () {
        const { from } = yield* pick
        let turns = 0
        const spin = () => {
          turns++
          handle = setImmediate(spin)
        }
        let handle = setImmediate(spin)
        yield* Effect.addFinalizer(() => Effect.sync(() => clearImmediate(handle)))
        for (let i = 0; i < 20; i++) yield* from.send(["x"])
        expect(turns).toBeGreaterThanOrEqual(19)
      })
    )

    if (pauses)
      it.scoped("an unread connection holds the sender, and lets it go on once read", () =>
        Effect.gen(function* () {
          const { from, to } = yield* pick
          const batch = Array.from({ length: 100 }, () => "x".repeat(1_000))
          const batches = 1_000
          let sent = 0
          const sender = yield* Effect.fork(
            Effect.repeatN(
              Effect.zipRight(
                from.send(batch),
                Effect.sync(() => sent++)
              ),
              batches - 1
            )
          )
          const held = yield* settled(() => sent)
          expect(held).toBeLessThan(batches / 3)
          const frames = yield* receive(to, batches * batch.length)
          expect(frames.length).toBe(batches * batch.length)
          yield* Fiber.join(sender)
          expect(sent).toBe(batches)
        })
      )

    if (pauses)
      it.scoped("a held send ends when interrupted, and when either side closes", () =>
        Effect.gen(function* () {
          const batch = Array.from({ length: 100 }, () => "x".repeat(10_000))
          const endings: Array<(ends: { from: Connection; to: Connection }) => Effect.Effect<void>> = [
            () => Effect.void,
            ({ from }) => from.close(closeCode.normal, ""),
            ({ to }) => to.close(closeCode.normal, "")
          ]
          for (const [i, ending] of endings.entries()) {
            const ends = yield* pick
            let sent = 0
            const sender = yield* Effect.fork(
              Effect.repeatN(
                Effect.zipRight(
                  ends.from.send(batch),
                  Effect.sync(() => sent++)
                ),
                200
              )
            )
            yield* settled(() => sent)
            if (i === 0) yield* Fiber.interrupt(sender)
            const closing = yield* Effect.fork(ending(ends))
            yield* Fiber.await(sender)
            yield* Effect.forkScoped(receiveToEnd(ends.to))
            yield* Effect.forkScoped(receiveToEnd(ends.from))
            yield* Fiber.join(closing)
          }
        })
      )

    it.scoped("close flushes what was sent; the peer drains it and then learns of the end", () =>
      Effect.gen(function* () {
        const { from, to } = yield* pick
        yield* from.send(numbered(200))
        const closing = yield* Effect.fork(from.close(closeCode.superseded, "resumed elsewhere"))
        const { closed, frames } = yield* receiveToEnd(to)
        expect(frames).toEqual(numbered(200))
        expect(closed).toBeInstanceOf(Closed)
        if (carriesCodes) expect(closed).toMatchObject({ code: 4001, reason: "resumed elsewhere" })
        yield* Fiber.join(closing)
      })
    )

    it.scoped("after a local close, take drains what had come and then fails with that close", () =>
      Effect.gen(function* () {
        const { from, to } = yield* pick
        yield* from.send(numbered(1))
        yield* receive(to, 1)
        const waiting = yield* Effect.fork(Effect.flip(to.take))
        yield* Effect.yieldNow()
        yield* to.close(closeCode.policy, "enough")
        expect(yield* Fiber.join(waiting)).toMatchObject({ code: 1008, reason: "enough" })
        yield* to.close(closeCode.normal, "again")
        expect(yield* Effect.flip(to.take)).toMatchObject({ code: 1008, reason: "enough" })
        yield* to.send(numbered(2))
        yield* receiveToEnd(from)
        yield* from.send(numbered(2))
        yield* from.close(closeCode.normal, "")
      })
    )

    it.scoped("an interrupted take loses nothing", () =>
      Effect.gen(function* () {
        const { from, to } = yield* pick
        for (let i = 0; i < 20; i++) {
          const waiting = yield* Effect.fork(to.take)
          yield* Effect.yieldNow()
          yield* from.send(numbered(1, i))
          const exit = yield* Fiber.interrupt(waiting)
          const got = Exit.isSuccess(exit) ? Chunk.toReadonlyArray(exit.value) : yield* receive(to, 1)
          expect(got).toEqual(numbered(1, i))
        }
      })
    )

    it.scoped("a frame over the limit ends the connection with 1009; one at the limit does not", () =>
      Effect.gen(function* () {
        const { from, to } = yield* pick
        yield* to.setMaxFrameBytes(100)
        yield* from.send(["é".repeat(50)])
        expect(yield* receive(to, 1)).toEqual(["é".repeat(50)])
        yield* from.send(["ok", `${"é".repeat(50)}x`, "late"])
        const received = yield* receiveToEnd(to)
        expect(received).toMatchObject({ frames: ["ok"], closed: { code: closeCode.tooBig } })
        // As its consumer does: over stdio what there still is to say reaches the peer before.
        yield* to.close(received.closed.code, received.closed.reason)
        const { closed } = yield* receiveToEnd(from)
        if (carriesCodes) expect(closed.code).toBe(closeCode.tooBig)
      })
    )

    it.scoped("the limit can be raised", () =>
      Effect.gen(function* () {
        const { from, to } = yield* pick
        yield* to.setMaxFrameBytes(1024 * 1024)
        const sender = yield* Effect.fork(from.send(["z".repeat(1_000_000), "end"]))
        const frames = yield* receive(to, 2)
        expect(frames.map((frame) => String(frame).length)).toEqual([1_000_000, 3])
        yield* Fiber.join(sender)
      })
    )
  })

  it.effect(`${name}: connections end with their scope`, () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const [client, server] = yield* Scope.extend(pair, scope)
      yield* client.send(["last"])
      expect(yield* receive(server, 1)).toEqual(["last"])
      yield* Scope.close(scope, Exit.void)
      expect((yield* receiveToEnd(server)).closed).toBeInstanceOf(Closed)
      expect((yield* receiveToEnd(client)).closed).toBeInstanceOf(Closed)
    })
  )
}
