import { PassThrough, Writable } from "node:stream"
import { describe, expect, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as DialerStdio from "../../../src/layers/transport/DialerStdio.js"
import * as LineConnection from "../../../src/layers/transport/LineConnection.js"
import * as TransportStdio from "../../../src/layers/transport/TransportStdio.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { closeCode, TransportServer, Unreadable } from "../../../src/services/transport/Transport.js"
import { receive, receiveToEnd, suite } from "./Transport.suite.js"

const options = Layer.succeed(RuntimeOptions.RuntimeOptions, RuntimeOptions.make())

const server = Effect.gen(function* () {
  const input = new PassThrough()
  const output = new PassThrough()
  const connection = yield* TransportStdio.make({ input, output })
  return { input, output, connection }
}).pipe(Effect.provide(options))

const pair = Effect.map(server, ({ connection, input, output }) => {
  const client = LineConnection.make({ input: output, output: input, remote: "test", maxFrameBytes: 1 << 24 })
  return [client, connection] as const
})

suite("stdio", pair, { carriesCodes: false, clientPauses: true })

describe("stdio framing", () => {
  it.scoped(
    "lines may come in any pieces, with CR LF, between empty lines and without the last newline",
    () =>
      Effect.gen(function* () {
        const { connection, input } = yield* server
        const text = Buffer.from('{"a":"€"}\r\n\n\r\n{"b":1}\n{"c":2}')
        for (const byte of text) input.write(Buffer.from([byte]))
        input.end()
        expect(yield* receiveToEnd(connection)).toMatchObject({
          frames: ['{"a":"€"}', '{"b":1}', '{"c":2}'],
          closed: { code: closeCode.normal }
        })
      })
  )

  it.scoped("a line that is not UTF-8 is unreadable, the next one is fine", () =>
    Effect.gen(function* () {
      const { connection, input } = yield* server
      input.write(Buffer.from([0x22, 0xff, 0xfe, 0x22, 0x0a]))
      input.write("{}\n")
      const frames = yield* receive(connection, 2)
      expect(frames[0]).toBeInstanceOf(Unreadable)
      expect(frames[1]).toBe("{}")
    })
  )

  it.scoped("a line that never ends is cut off at the limit", () =>
    Effect.gen(function* () {
      const { connection, input } = yield* server
      let written = 0
      while (!input.destroyed && written < 10_000_000) {
        input.write("x".repeat(1_000))
        written += 1_000
        yield* Effect.async<void>((resume) => {
          setImmediate(() => resume(Effect.void))
        })
      }
      expect(written).toBeLessThan(100_000)
      expect((yield* receiveToEnd(connection)).closed.code).toBe(closeCode.tooBig)
    })
  )

  it.effect(
    "is closed at once a second time, also over an output that comes back to life as stdout does",
    () =>
      Effect.gen(function* () {
        class Stdout extends Writable {
          override _write(_data: unknown, _encoding: string, done: () => void): void {
            done()
          }
          override _destroy(_error: unknown, done: () => void): void {
            done()
            ;(this as unknown as { _undestroy: () => void })._undestroy()
          }
        }
        const connection = LineConnection.make({
          input: new PassThrough(),
          output: new Stdout(),
          remote: "test",
          maxFrameBytes: 1_000
        })
        yield* connection.close(closeCode.normal, "")
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        // It would wait for two seconds.
        const closing = yield* Effect.fork(connection.close(closeCode.normal, ""))
        yield* Effect.yieldNow()
        expect(Option.isSome(yield* Fiber.poll(closing))).toBe(true)
      })
  )

  it.scoped("writes lines, and a broken pipe is the end", () =>
    Effect.gen(function* () {
      const { connection, output } = yield* server
      yield* connection.send(["{}", "[]"])
      expect(String(output.read())).toBe("{}\n[]\n")
      output.destroy(new Error("EPIPE"))
      expect((yield* receiveToEnd(connection)).closed).toMatchObject({ code: 1006, reason: "EPIPE" })
      yield* connection.send(["late"])
      yield* connection.close(closeCode.normal, "")
    })
  )

  it.scoped("the server's stream ends after its one connection", () =>
    Effect.gen(function* () {
      const input = new PassThrough()
      const layer = TransportStdio.layer({ input, output: new PassThrough() }).pipe(Layer.provide(options))
      const served = yield* Effect.fork(
        Effect.flatMap(TransportServer, ({ address, connections }) =>
          Stream.runCollect(Stream.mapEffect(connections, receiveToEnd)).pipe(
            Effect.map((ended) => ({ address, ended: [...ended] }))
          )
        ).pipe(Effect.provide(layer))
      )
      input.end("one\n")
      const { address, ended } = yield* Fiber.join(served)
      expect(address).toBe("stdio:")
      expect(ended).toMatchObject([{ frames: ["one"], closed: { code: 1000 } }])
    })
  )
})

describe("a child over stdio", () => {
  const node = (script: string, killGrace: Duration.DurationInput = "10 seconds") =>
    DialerStdio.connect({ command: process.execPath, args: ["-e", script], killGrace })

  it.scoped("talks to it both ways, with back-pressure", () =>
    Effect.gen(function* () {
      const connection = yield* node("process.stdin.pipe(process.stdout)")
      const frames = Array.from({ length: 20_000 }, (_, i) => `{"n":${i},"pad":"${"x".repeat(200)}"}`)
      const sender = yield* Effect.fork(connection.send(frames))
      expect(yield* receive(connection, frames.length)).toEqual(frames)
      yield* Fiber.join(sender)
      yield* connection.close(closeCode.normal, "")
    })
  )

  it.scoped("its exit ends the connection and tells why", () =>
    Effect.gen(function* () {
      const failed = yield* node("console.log('{}'); process.exitCode = 3")
      expect(yield* receiveToEnd(failed)).toMatchObject({
        frames: ["{}"],
        closed: { code: 1006, reason: "the runtime exited with code 3" }
      })
      const fine = yield* node("")
      expect((yield* receiveToEnd(fine)).closed.code).toBe(1000)
      const killed = yield* node("process.kill(process.pid, 'SIGKILL')")
      expect((yield* receiveToEnd(killed)).closed.reason).toContain("SIGKILL")
    })
  )

  for (const grace of ["10 seconds", "30 days"] as const)
    it.effect(`the scope closes its stdin first, and has ${grace}`, () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const connection = yield* Scope.extend(
          node("process.stdin.on('end', () => console.log('bye')).resume()", grace),
          scope
        )
        yield* Scope.close(scope, Exit.void)
        expect(yield* receiveToEnd(connection)).toMatchObject({ frames: ["bye"], closed: { code: 1000 } })
      })
    )

  it.effect("and ends it when that is not enough", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const connection = yield* Scope.extend(
        node("process.on('SIGTERM', () => {}); setInterval(() => {}, 1e6); console.log('up')", 50),
        scope
      )
      expect(yield* receive(connection, 1)).toEqual(["up"])
      yield* Scope.close(scope, Exit.void)
      expect((yield* receiveToEnd(connection)).closed.reason).toContain("SIGKILL")
    })
  )

  it.scoped("a command that does not exist is a TransportError", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(DialerStdio.connect({ command: "no-such-runtime" }))
      expect(error._tag).toBe("TransportError")
      expect(error.message).toContain("no-such-runtime")
    })
  )
})

describe("the standard streams of the process", () => {
  /** This process with streams of the test's as its own, until the scope ends. */
  const process = Effect.acquireRelease(
    Effect.sync(() => {
      const streams = { stdin: new PassThrough(), stdout: new PassThrough() }
      const names = ["stdin", "stdout"] as const
      const before = names.map(
        (name) => [name, Object.getOwnPropertyDescriptor(globalThis.process, name)] as const
      )
      for (const name of names)
        Object.defineProperty(globalThis.process, name, { value: streams[name], configurable: true })
      return { streams, before }
    }),
    ({ before }) =>
      Effect.sync(() => {
        for (const [name, descriptor] of before)
          if (descriptor !== undefined) Object.defineProperty(globalThis.process, name, descriptor)
      })
  ).pipe(Effect.map(({ streams }) => streams))

  for (const given of ["neither", "input", "output"] as const)
    it.scoped(`are read and written where ${given} is given, and nobody else's meanwhile`, () =>
      Effect.gen(function* () {
        const { stdin, stdout } = yield* process
        const own = new PassThrough()
        const connection = yield* TransportStdio.make(given === "neither" ? {} : { [given]: own })
        const [input, output] = [given === "input" ? own : stdin, given === "output" ? own : stdout]
        expect(globalThis.process.stdout).toBe(globalThis.process.stderr)
        input.write('{"a":1}\n')
        expect(yield* receive(connection, 1)).toEqual(['{"a":1}'])
        yield* connection.send(['{"b":2}'])
        expect(String(output.read())).toBe('{"b":2}\n')
      }).pipe(Effect.provide(options))
    )
})
