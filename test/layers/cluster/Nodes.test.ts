import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as TestServices from "effect/TestServices"
import pg from "pg"
import { afterAll } from "vitest"
import { beating, usualExpiry } from "../../../src/layers/cluster/heartbeat.js"
import * as NodesMemory from "../../../src/layers/cluster/NodesMemory.js"
import * as NodesPg from "../../../src/layers/cluster/NodesPg.js"
import { naming } from "../../../src/layers/store/naming.js"
import { lockWriters } from "../../../src/layers/store/pg/migrate.js"
import { NodeLost, Nodes } from "../../../src/services/cluster/Nodes.js"
import { missing, query } from "../../testing/Postgres.js"
import { TcpProxy } from "../../testing/TcpProxy.js"
import { makeStores } from "../store/pg/layers.js"
import { aNode, suite, until } from "./Nodes.suite.js"

suite("memory", { layer: (expiry) => NodesMemory.layer({ expiry }) })

describe("a heartbeat", () => {
  it.scoped("that fails for less than the expiry loses nothing; for longer, or hanging, the node", () =>
    Effect.gen(function* () {
      for (const [beat, why] of [
        [Effect.fail("away"), "silent"],
        [Effect.never, "silent"],
        [Effect.succeed(false), "replaced"]
      ] as const) {
        let current: Effect.Effect<boolean, string> = Effect.succeed(true)
        const lost = yield* Effect.fork(
          yield* beating(
            "a",
            usualExpiry,
            Effect.suspend(() => current)
          )
        )
        yield* TestClock.adjust("1 minute")
        current = Effect.fail("away")
        yield* TestClock.adjust("8 seconds")
        current = Effect.succeed(true)
        yield* TestClock.adjust("1 minute")
        assert.isNull(lost.unsafePoll())
        current = beat
        yield* TestClock.adjust("17 seconds")
        assert.deepStrictEqual(yield* Fiber.await(lost), Exit.fail(new NodeLost({ name: "a", why })))
      }
    })
  )
})

const stores = makeStores()
afterAll(stores.drop)

if (missing === undefined) {
  let prefixes = 0
  const inPostgres = (options: Partial<NodesPg.Options> = {}) =>
    Layer.unwrapEffect(
      Effect.map(Effect.promise(stores.url), (url) =>
        NodesPg.layer({ url: Redacted.make(url), prefix: `nodes${++prefixes}_`, ...options })
      )
    )
  suite("Postgres", { layer: (expiry) => inPostgres({ expiry }) })

  describe("nodes on a Postgres", () => {
    it.scopedLive("one that comes back is not buried between its place among the writers and its join", () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(stores.url)
        const nodes = yield* Layer.build(inPostgres({ prefix: "back_" }))
        const { bury } = Context.get(nodes, Nodes)
        const writers = (text: string) => Effect.promise(() => query(url, text))
        yield* writers(
          "INSERT INTO back_nodes VALUES ('a', 'x', NULL, '0', now() - interval '9 s', now() - interval '9 s', now() - interval '3 s')"
        )
        yield* writers(
          "INSERT INTO back_writers VALUES ('node a', 'x', 'a', 0, clock_timestamp(), clock_timestamp() + interval '1 minute')"
        )
        assert.isFalse(yield* bury("a"))
        yield* writers("UPDATE back_writers SET expires = clock_timestamp() - interval '1 s'")
        assert.isTrue(yield* bury("a"))
        assert.deepStrictEqual(yield* writers("SELECT 1 FROM back_writers"), [])
      })
    )

    it.scoped("one that waits for what a node had locked that has gone says meanwhile that it is alive", () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(stores.url)
        const { bury, join } = Context.get(yield* Layer.build(inPostgres({ prefix: "locked_" })), Nodes)
        const ask = (text: string) => Effect.promise(() => query(url, text))
        yield* join(aNode("b"))
        const told = ask("SELECT alive::text FROM locked_nodes WHERE name = 'b'")
        const before = yield* told
        const gone = new pg.Client({ connectionString: url })
        yield* Effect.acquireRelease(
          Effect.promise(() => gone.connect()),
          () => Effect.promise(() => gone.end())
        )
        yield* Effect.promise(() => gone.query("BEGIN"))
        yield* Effect.promise(() => gone.query(naming("locked_")(lockWriters)))
        const burying = yield* Effect.fork(Effect.exit(bury("a")))
        const soon = <A>(effect: Effect.Effect<A>, ready: (a: A) => boolean) =>
          TestServices.provideLive(until(effect, ready))
        yield* soon(
          ask("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
          (rows) => rows.length > 0
        )
        yield* TestClock.adjust(Duration.times(usualExpiry, 1 / 3))
        // It fails by itself, without an answer in time.
        yield* soon(told, (now) => now[0]?.[0] !== before[0]?.[0] || burying.unsafePoll() !== null)
        assert.notDeepEqual(yield* told, before)
        assert.isNull(burying.unsafePoll())
      })
    )

    it.scopedLive(
      "one that cannot reach it is gone for others, and knows; whoever has its name since stays",
      () =>
        Effect.gen(function* () {
          const direct = new URL(yield* Effect.promise(stores.url))
          const proxy = yield* Effect.acquireRelease(
            Effect.promise(() =>
              TcpProxy.start({ host: direct.hostname, port: Number(direct.port || 5432) })
            ),
            (made) => Effect.promise(() => made.stop())
          )
          const through = new URL(direct)
          through.host = `127.0.0.1:${proxy.port}`
          const on = (url: URL, expiry: "1 second" | "1 minute") =>
            NodesPg.layer({ prefix: "apart_", expiry, url: Redacted.make(url.href) })
          const apart = yield* Layer.build(on(through, "1 second"))
          const others = yield* Layer.build(on(direct, "1 minute"))
          const lost = yield* Effect.fork(
            yield* Effect.provide(
              Effect.flatMap(Nodes, ({ join }) => join(aNode("a"))),
              apart
            )
          )
          proxy.judge = () => "cut"
          yield* Effect.gen(function* () {
            const { join, list } = yield* Nodes
            yield* until(list, ([node]) => node?.isAlive === false)
            yield* join(aNode("a"))
            assert.deepStrictEqual(
              yield* Fiber.await(lost),
              Exit.fail(new NodeLost({ name: "a", why: "silent" }))
            )
            proxy.judge = () => "pass"
            assert.deepInclude((yield* list)[0], { name: "a", isAlive: true })
            // What nobody has heard of for an hour is forgotten at the next join.
            yield* Effect.promise(() =>
              query(
                direct.href,
                "INSERT INTO apart_nodes VALUES ('old', 'x', NULL, '0', now(), now() - interval '2 hours', now())"
              )
            )
            assert.lengthOf(yield* list, 1)
            yield* join(aNode("b"))
            const left = yield* Effect.promise(() =>
              query(direct.href, "SELECT name FROM apart_nodes ORDER BY 1")
            )
            assert.deepStrictEqual(left, [["a"], ["b"]])
          }).pipe(Effect.provide(others))
        })
    )
  })
} else describe.skip(`nodes on a Postgres (${missing})`, () => it("is skipped", () => undefined))
