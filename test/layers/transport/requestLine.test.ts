/** In which order requests have their turn. */
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Mailbox from "effect/Mailbox"
import * as RequestLine from "../../../src/layers/transport/requestLine.js"
import { Turns } from "../../../src/layers/transport/requestLine.js"

const all = <A>(turns: Turns<A>): ReadonlyArray<A> => {
  const taken: Array<A> = []
  for (let next = turns.next(); next !== undefined; next = turns.next()) taken.push(next)
  return taken
}

describe("the line of requests", () => {
  it("gives addresses turns, and of one address the tokens that it shows", () => {
    const turns = new Turns<string>(100)
    for (let i = 0; i < 4; i++) turns.add("10.0.0.1", "flood", `flood ${i}`)
    turns.add("10.0.0.1", "other", "same address")
    turns.add("10.0.0.2", "", "elsewhere 0")
    turns.add("10.0.0.2", "", "elsewhere 1")
    assert.deepStrictEqual(all(turns), [
      "flood 0",
      "elsewhere 0",
      "same address",
      "elsewhere 1",
      "flood 1",
      "flood 2",
      "flood 3"
    ])
    assert.strictEqual(turns.size, 0)
  })

  it("is never longer for one who comes later than by one of each other's", () => {
    const turns = new Turns<string>(10_000)
    for (let i = 0; i < 3_000; i++) turns.add("10.0.0.1", "flood", `flood ${i}`)
    for (let i = 0; i < 1_000; i++) assert.strictEqual(turns.next(), `flood ${i}`)
    turns.add("10.0.0.1", "mine", "mine")
    assert.deepStrictEqual([turns.next(), turns.next()], ["flood 1000", "mine"])
  })

  it("when it is full, refuses those who have their part of it, and nobody else until it is twice as long", () => {
    const turns = new Turns<number>(10)
    for (let i = 0; i < 10; i++) assert.isTrue(turns.add("10.0.0.1", "flood", i))
    assert.isFalse(turns.add("10.0.0.1", "flood", 10))
    assert.isTrue(turns.add("10.0.0.1", "other", 11))
    assert.isTrue(turns.add("10.0.0.2", "flood", 12))
    assert.isFalse(turns.add("10.0.0.1", "flood", 13))
    for (let i = 0; i < 100; i++) turns.add("10.0.0.3", `made up ${i}`, i)
    assert.strictEqual(turns.size, 20)
    assert.strictEqual(all(turns).length, 20)
    assert.isTrue(turns.add("10.0.0.1", "flood", 14))
  })

  it("has no place for those who have gone, and keeps the order of the others", () => {
    const turns = new Turns<string>(4)
    for (const what of ["a", "b", "c"]) turns.add("10.0.0.1", "x", what)
    turns.add("10.0.0.2", "y", "only")
    assert.isFalse(turns.add("10.0.0.1", "x", "d"))
    turns.remove("10.0.0.1", "x", "b")
    turns.remove("10.0.0.2", "y", "only")
    turns.remove("10.0.0.2", "y", "only")
    assert.strictEqual(turns.size, 2)
    assert.isTrue(turns.add("10.0.0.1", "x", "d"))
    assert.deepStrictEqual(all(turns), ["a", "c", "d"])
    turns.remove("10.0.0.1", "x", "a")
    assert.strictEqual(turns.size, 0)
  })
})

type Exchange = readonly [request: IncomingMessage, response: ServerResponse]

/** A server whose requests are taken by the test, and what makes one. */
const served = Effect.gen(function* () {
  const asked = yield* Mailbox.make<Exchange>()
  const server = createServer((...exchange) => asked.unsafeOffer(exchange))
  yield* Effect.acquireRelease(
    Effect.async<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () => Effect.sync(() => void server.close().closeAllConnections())
  )
  const { port } = server.address() as AddressInfo
  const ask = Effect.gen(function* () {
    const status = yield* Deferred.make<number | undefined>()
    const request = httpRequest({ port, host: "127.0.0.1", agent: false }, (response) => {
      response.resume()
      Deferred.unsafeDone(status, Effect.succeed(response.statusCode))
    })
    request.on("error", () => Deferred.unsafeDone(status, Effect.succeed(undefined)))
    request.end()
    return { exchange: yield* asked.take, request, status: Deferred.await(status) }
  })
  return { ask }
})

describe("what waits in the line", () => {
  it.scoped(
    "is answered when it cannot be begun, or ended where its answer has begun; the line goes on",
    () =>
      Effect.gen(function* () {
        const { ask } = yield* served
        const line = yield* RequestLine.make
        const broken = yield* ask
        const half = yield* ask
        const whole = yield* ask
        const add = ([request, response]: Exchange, begin: () => void, refuse?: RequestLine.Refuse) =>
          assert.isTrue(line.add("10.0.0.1", request, response, begin, refuse))
        const hopeless = yield* ask
        const upsideDown = () => {
          throw new Error("upside down")
        }
        add(hopeless.exchange, upsideDown, upsideDown)
        add(broken.exchange, () => {
          throw new Error("upside down")
        })
        add(half.exchange, () => {
          half.exchange[1].writeHead(200).write("half")
          throw new Error("upside down")
        })
        add(whole.exchange, () => whole.exchange[1].end())
        assert.strictEqual(yield* broken.status, 500)
        assert.strictEqual(yield* whole.status, 200)
        assert.isTrue(half.exchange[1].destroyed)
      }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger)))
  )

  it.scoped("leaves it when its connection has gone", () =>
    Effect.gen(function* () {
      const { ask } = yield* served
      const line = yield* RequestLine.make
      const { exchange, request } = yield* ask
      const closed = yield* Deferred.make<void>()
      const begun: Array<string> = []
      // The line does not move before this fiber yields, and its turn is given back until then.
      const [asked, response] = exchange
      assert.isTrue(line.add("10.0.0.1", asked, response, () => begun.push("gone")))
      response.emit("close")
      const next = yield* ask
      line.add("10.0.0.1", ...next.exchange, () => next.exchange[1].end())
      assert.strictEqual(yield* next.status, 200)
      assert.deepStrictEqual(begun, [])
      response.once("close", () => Deferred.unsafeDone(closed, Effect.void))
      request.destroy()
      yield* Deferred.await(closed)
    })
  )
})
