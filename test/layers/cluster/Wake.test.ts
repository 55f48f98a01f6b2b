import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { afterAll } from "vitest"
import { wakingApart } from "../../../src/layers/cluster/looking.js"
import * as WakeMemory from "../../../src/layers/cluster/WakeMemory.js"
import * as WakePg from "../../../src/layers/cluster/WakePg.js"
import { Wake } from "../../../src/services/cluster/Wake.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { database, missing, query } from "../../testing/Postgres.js"
import { TcpProxy } from "../../testing/TcpProxy.js"

/** What a node that listens is called back with: waits until it has been woken so many times more. */
const listening = (node: string) =>
  Effect.gen(function* () {
    const wake = yield* Wake
    let count = 0
    let waiting: { readonly from: number; readonly done: Deferred.Deferred<void> } | undefined
    yield* wake.listen(node, () => {
      count++
      if (waiting !== undefined && count > waiting.from) Deferred.unsafeDone(waiting.done, Effect.void)
    })
    return {
      count: () => count,
      woken: (after: number) =>
        Effect.suspend(() => {
          if (count > after) return Effect.void
          const done = Deferred.unsafeMake<void>(FiberId.none)
          waiting = { from: after, done }
          return Deferred.await(done)
        })
    }
  })

describe("wakes in one process", () => {
  it.scoped("come to whom they are for, each time, until it stops to listen", () =>
    Effect.gen(function* () {
      const { tell } = yield* Wake
      const one = yield* listening("one")
      const two = yield* listening("two")
      tell("one")
      tell("one")
      tell("three")
      assert.deepStrictEqual([one.count(), two.count()], [2, 0])
      yield* Effect.scoped(
        Effect.gen(function* () {
          const again = yield* listening("one")
          tell("one")
          assert.strictEqual(again.count(), 1)
        })
      )
      tell("one")
      assert.strictEqual(one.count(), 4)
    }).pipe(Effect.provide(WakeMemory.layer()))
  )

  it.scoped("are missed for a second at most", () =>
    Effect.gen(function* () {
      const one = yield* listening("one")
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(one.count(), 3)
    }).pipe(Effect.provide(WakeMemory.layer()))
  )
})

describe("what is said often", () => {
  it.scoped("wakes at once, and then a hundred times a second at the most, for all of it", () =>
    Effect.gen(function* () {
      let count = 0
      const say = yield* wakingApart(() => count++)
      const settle = Effect.repeatN(eventLoop.next, 3)
      yield* settle
      for (let ms = 0; ms < 100; ms++) {
        say()
        say()
        yield* settle
        yield* TestClock.adjust("1 millis")
      }
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.strictEqual(count, 11)
      say()
      yield* settle
      assert.strictEqual(count, 12)
    })
  )
})

let made: ReturnType<typeof database> | undefined
afterAll(async () => (await made)?.drop())

describe.skipIf(missing !== undefined)(
  `wakes over Postgres${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    const here = Effect.promise(async () => {
      made ??= database()
      return (await made).url
    })
    const wakes = (url: string, prefix: string) =>
      WakePg.layer({ url: Redacted.make(url), prefix, look: "1 hour" })
    const both = (prefix: string, through?: string) =>
      Effect.gen(function* () {
        const url = yield* here
        const telling = yield* Layer.build(wakes(url, prefix))
        const listens = yield* Layer.build(wakes(through ?? url, prefix))
        const one = yield* Effect.provide(listening("one"), listens)
        const { tell } = yield* Effect.provide(Wake, telling)
        // When it can be told.
        yield* one.woken(0)
        return { one, tell }
      })

    it.scopedLive("come from another node, and only to whom they are for", () =>
      Effect.gen(function* () {
        const { one, tell } = yield* both("arcp_a")
        const before = one.count()
        tell("two")
        tell("one")
        yield* one.woken(before)
        assert.strictEqual(one.count(), before + 1)
      })
    )

    it.scopedLive("said ten thousand times while one is on its way are few", () =>
      Effect.gen(function* () {
        const { one, tell } = yield* both("arcp_b")
        const before = one.count()
        for (let i = 0; i < 10_000; i++) tell("one")
        yield* one.woken(before)
        tell("one")
        yield* one.woken(before + 1)
        assert.isBelow(one.count() - before, 10)
      })
    )

    it.scopedLive("come again after the connection was cut, the one that was lost by the new beginning", () =>
      Effect.gen(function* () {
        const url = new URL(yield* here)
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => TcpProxy.start({ host: url.hostname, port: Number(url.port) })),
          (proxy) => Effect.promise(() => proxy.stop())
        )
        url.host = `127.0.0.1:${proxy.port}`
        const { one, tell } = yield* both("arcp_c", url.href)
        const before = one.count()
        let cuts = 0
        proxy.judge = () => (cuts++ === 0 ? "cut" : "pass")
        tell("one")
        yield* one.woken(before)
        const since = one.count()
        tell("one")
        yield* one.woken(since)
      })
    )

    it.scopedLive("come again after the server has ended the backend that listens", () =>
      Effect.gen(function* () {
        const { one, tell } = yield* both("arcp_d")
        const before = one.count()
        const url = yield* here
        yield* Effect.promise(() =>
          query(
            url,
            "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen \"arcp_d%' and pid <> pg_backend_pid()"
          )
        )
        yield* one.woken(before)
        const since = one.count()
        tell("one")
        yield* one.woken(since)
      })
    )

    it.scopedLive("of a node with a long name come too, and not those of one whose name begins alike", () =>
      Effect.gen(function* () {
        const both = yield* Layer.build(wakes(yield* here, "arcp_e"))
        const long = "n".repeat(100)
        const one = yield* Effect.provide(listening(`${long}1`), both)
        const { tell } = yield* Effect.provide(Wake, both)
        yield* one.woken(0)
        const before = one.count()
        tell(`${long}2`)
        tell(`${long}1`)
        yield* one.woken(before)
        assert.strictEqual(one.count(), before + 1)
      })
    )
  }
)
