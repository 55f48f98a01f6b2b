/** What is known of the jobs that principals have on other nodes: when it is read, and what is decided on it. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Elsewhere from "../../../src/layers/jobs/Elsewhere.js"
import type { ClusterService } from "../../../src/services/cluster/Cluster.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type OpenJobs, StoreError } from "../../../src/services/store/Store.js"

const settle = Effect.repeatN(eventLoop.next, 10)

/** What principals have elsewhere, and what is read of it, one read after the other. */
const reader = Effect.gen(function* () {
  const there = new Map<string, OpenJobs>()
  const read: Array<ReadonlyArray<string>> = []
  const state = { fails: false }
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const openOn = (nodes: ReadonlyArray<string>, principals: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(nodes, ["b"])
      read.push([...principals].sort())
      yield* eventLoop.next
      if (state.fails) return yield* new StoreError({ message: "it is away" })
      return there
    })
  // What is left of one that is gone is nobody's.
  const seen = Object.entries({ a: true, b: true, gone: false }).map(([name, isAlive]) => ({ name, isAlive }))
  const cluster = { node: "a", nodes: { list: Effect.succeed(seen) } } as unknown as ClusterService
  const made = yield* Elsewhere.make(cluster, { openOn }).pipe(Scope.extend(scope))
  assert.isDefined(made)
  const elsewhere = made as Elsewhere.Elsewhere
  const room = (own: number, { isRead = false, max = 100, principal = "alice" } = {}) =>
    elsewhere.room({ what: "running", principal, own, max }, isRead)
  return { close: Scope.close(scope, Exit.void), elsewhere, read, room, state, there }
})

it.scoped("who submits is read beside it, once a second while it does; who does not is forgotten", () =>
  Effect.gen(function* () {
    const { elsewhere, read, room } = yield* reader
    yield* elsewhere.read("alice")
    assert.deepStrictEqual(read, [["alice"]])
    for (let i = 0; i < 20; i++) assert.strictEqual(room(i % 3), "room")
    yield* elsewhere.read("bob")
    assert.strictEqual(room(1, { principal: "bob" }), "room")
    yield* settle
    assert.deepStrictEqual(read, [["alice"], ["bob"]])
    yield* TestClock.adjust("1 second")
    yield* settle
    assert.deepStrictEqual(read.slice(2), [["alice", "bob"]])
    yield* TestClock.adjust("1 minute")
    yield* settle
    assert.lengthOf(read, 3)
  })
)

it.scoped("who submits seldom is read first, and never taken for one without jobs", () =>
  Effect.gen(function* () {
    const { elsewhere, room, there } = yield* reader
    there.set("alice", { running: 1_000, pending: 0 })
    for (let i = 0; i < 4; i++) {
      assert.strictEqual(room(0, { max: 1_000 }), "unknown")
      yield* elsewhere.read("alice")
      assert.strictEqual(room(0, { isRead: true, max: 1_000 }), "full")
      for (let second = 0; second < 4; second++) {
        yield* TestClock.adjust("1 second")
        yield* settle
      }
    }
  })
)

it.scoped("of who has thousands it is read seldomer: every ten seconds at the most", () =>
  Effect.gen(function* () {
    const { elsewhere, read, room, there } = yield* reader
    there.set("alice", { running: 0, pending: 3_500 }).set("bob", { running: 90_000, pending: 0 })
    yield* elsewhere.read("alice")
    yield* elsewhere.read("bob")
    for (let second = 0; second < 20; second++) {
      room(0, { principal: "alice", max: 99_999 })
      room(0, { principal: "bob", max: 999_999 })
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
    }
    const times = (principal: string) => read.filter((all) => all.includes(principal)).length
    assert.deepStrictEqual([times("alice"), times("bob")], [6, 3])
  })
)

it.scoped("no more than an eighth of what was left is taken before it is read again", () =>
  Effect.gen(function* () {
    const { elsewhere, room, there } = yield* reader
    there.set("alice", { running: 20, pending: 7 })
    assert.strictEqual(room(0), "unknown")
    yield* elsewhere.read("alice")
    for (let own = 0; own < 10; own++) assert.strictEqual(room(own), "room", String(own))
    assert.strictEqual(room(10), "unknown")
    yield* elsewhere.read("alice")
    // 70 are left: who has waited for the read takes one at least.
    for (let own = 10; own < 18; own++) assert.strictEqual(room(own), "room", String(own))
    assert.strictEqual(room(18), "unknown")
    // What has ended here somebody else may have taken: 75 are left, and not 83.
    assert.strictEqual(room(5), "room")
    assert.strictEqual(room(13), "room")
    assert.strictEqual(room(14), "unknown")
    yield* elsewhere.read("alice")
    assert.strictEqual(room(79), "unknown")
    assert.strictEqual(room(79, { isRead: true }), "room")
    assert.strictEqual(room(80, { isRead: true }), "full")
    // What waits is counted by itself.
    const asked = { what: "pending", principal: "alice", own: 0 } as const
    assert.strictEqual(elsewhere.room({ ...asked, max: 15 }, false), "room")
    assert.strictEqual(elsewhere.room({ ...asked, max: 14 }, false), "unknown")
    assert.strictEqual(elsewhere.room({ ...asked, max: 8 }, true), "room")
    assert.strictEqual(elsewhere.room({ ...asked, max: 7 }, true), "full")
  })
)

it.scoped("nobody is refused by what was read before, nor by a read that had begun", () =>
  Effect.gen(function* () {
    const { elsewhere, read, room, there } = yield* reader
    there.set("alice", { running: 100, pending: 0 })
    yield* elsewhere.read("alice")
    assert.strictEqual(room(0), "unknown")
    const first = yield* Effect.fork(elsewhere.read("alice"))
    yield* Effect.yieldNow()
    yield* Effect.yieldNow()
    assert.lengthOf(read, 2)
    const second = yield* Effect.fork(elsewhere.read("alice"))
    const third = yield* Effect.fork(elsewhere.read("alice"))
    yield* Fiber.join(first)
    assert.strictEqual(room(0, { isRead: true }), "full")
    there.delete("alice")
    yield* Fiber.join(second)
    yield* Fiber.join(third)
    assert.lengthOf(read, 3)
    assert.strictEqual(room(0, { isRead: true }), "room")
  })
)

it.scoped("who waits for a read that fails, or that nobody makes any more, is told", () =>
  Effect.gen(function* () {
    const { close, elsewhere, read, room, state } = yield* reader
    state.fails = true
    assert.strictEqual((yield* Effect.flip(elsewhere.read("alice"))).message, "it is away")
    state.fails = false
    yield* elsewhere.read("alice")
    assert.lengthOf(read, 2)
    assert.strictEqual(room(0), "room")
    yield* close
    const late = yield* Effect.fork(elsewhere.read("alice"))
    yield* settle
    assert.isTrue(Exit.isFailure(yield* Fiber.await(late)))
  })
)

it("of a runtime that is alone only what is here counts", () => {
  const asked = { what: "running", principal: "alice", max: 2 } as const
  assert.strictEqual(Elsewhere.roomFor(undefined, { ...asked, own: 1 }, false), "room")
  assert.strictEqual(Elsewhere.roomFor(undefined, { ...asked, own: 2 }, false), "full")
})
