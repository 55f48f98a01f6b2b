import type { AddressInfo } from "node:net"
import { createServer, connect as dial, type Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import pg from "pg"
import * as WakeMemory from "../../../src/layers/cluster/WakeMemory.js"
import * as WakePg from "../../../src/layers/cluster/WakePg.js"
import { Wake } from "../../../src/services/cluster/Wake.js"

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

/** Passes bytes on to a server, until it is told to cut them. */
const passing = (port: number) =>
  Effect.acquireRelease(
    Effect.async<{
      readonly port: number
      readonly cut: (refuse: boolean) => void
      readonly close: () => void
    }>((resume) => {
      const open = new Set<Socket>()
      let refusing = false
      const server = createServer((near) => {
        if (refusing) return near.destroy()
        const far = dial(port, "127.0.0.1")
        for (const socket of [near, far]) {
          open.add(socket)
          socket.on("error", () => {})
          socket.on("close", () => {
            near.destroy()
            far.destroy()
            open.delete(socket)
          })
        }
        near.pipe(far).pipe(near)
        return undefined
      })
      const cut = (refuse: boolean) => {
        refusing = refuse
        for (const socket of open) socket.destroy()
      }
      server.listen(0, "127.0.0.1", () =>
        resume(
          Effect.succeed({
            port: (server.address() as AddressInfo).port,
            cut,
            close: () => {
              server.close()
              cut(true)
            }
          })
        )
      )
    }),
    ({ close }) => Effect.sync(close)
  )

const url = process.env["ARCP_TEST_PG"]

describe.skipIf(url === undefined)("wakes over Postgres", () => {
  const connection = { connectionString: url }
  const at = (port: number) => {
    const through = new URL(url as string)
    through.port = String(port)
    return { connectionString: through.href }
  }
  const portOf = () => Number(new URL(url as string).port)
  const wakes = (connection: pg.ClientConfig, prefix: string) =>
    WakePg.layer({ connection, prefix, look: "1 hour" })
  const both = (connection: pg.ClientConfig, prefix: string) =>
    Effect.gen(function* () {
      const here = yield* Layer.build(wakes({ connectionString: url }, prefix))
      const there = yield* Layer.build(wakes(connection, prefix))
      const one = yield* Effect.provide(listening("one"), there)
      const { tell } = yield* Effect.provide(Wake, here)
      // When it can be told.
      yield* one.woken(0)
      return { one, tell }
    })

  it.scopedLive("come from another node, and only to whom they are for", () =>
    Effect.gen(function* () {
      const { one, tell } = yield* both(connection, "arcp_a")
      const before = one.count()
      tell("two")
      tell("one")
      yield* one.woken(before)
      assert.strictEqual(one.count(), before + 1)
    })
  )

  it.scopedLive("said ten thousand times while one is on its way are few", () =>
    Effect.gen(function* () {
      const { one, tell } = yield* both(connection, "arcp_b")
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
      const proxy = yield* passing(portOf())
      const { one, tell } = yield* both(at(proxy.port), "arcp_c")
      const before = one.count()
      proxy.cut(true)
      tell("one")
      proxy.cut(false)
      yield* one.woken(before)
      const since = one.count()
      tell("one")
      yield* one.woken(since)
    })
  )

  it.scopedLive("come again after the server has ended the backend that listens", () =>
    Effect.gen(function* () {
      const { one, tell } = yield* both(connection, "arcp_d")
      const before = one.count()
      const admin = new pg.Client({ connectionString: url })
      yield* Effect.promise(() => admin.connect())
      yield* Effect.promise(() =>
        admin.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen \"arcp_d%' and pid <> pg_backend_pid()"
        )
      )
      yield* Effect.promise(() => admin.end())
      yield* one.woken(before)
      const since = one.count()
      tell("one")
      yield* one.woken(since)
    })
  )

  it.scopedLive("of a node with a long name come too, and not those of one whose name begins alike", () =>
    Effect.gen(function* () {
      const here = yield* Layer.build(wakes(connection, "arcp_e"))
      const long = "n".repeat(100)
      const one = yield* Effect.provide(listening(`${long}1`), here)
      const { tell } = yield* Effect.provide(Wake, here)
      yield* one.woken(0)
      const before = one.count()
      tell(`${long}2`)
      tell(`${long}1`)
      yield* one.woken(before)
      assert.strictEqual(one.count(), before + 1)
    })
  )
})
