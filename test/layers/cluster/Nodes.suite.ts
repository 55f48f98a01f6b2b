/** What every list of nodes promises. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { Nodes } from "../../../src/services/cluster/Nodes.js"
import type { StoreError } from "../../../src/services/store/Store.js"

export const aNode = (name: string) => ({ name, address: "127.0.0.1:7777", version: "1.0.0" })

/** Waits for what comes with time. */
export const until = <A, E, R>(effect: Effect.Effect<A, E, R>, ready: (a: A) => boolean) =>
  effect.pipe(
    Effect.filterOrFail(ready),
    Effect.retry(Schedule.intersect(Schedule.spaced(Duration.millis(20)), Schedule.recurs(1_000)))
  )

/** A list of nodes, in which each expires after so long. */
export interface NodesUnderTest {
  readonly layer: (expiry: Duration.DurationInput) => Layer.Layer<Nodes, StoreError>
}

export const suite = (name: string, { layer }: NodesUnderTest): void => {
  const names = Effect.map(
    Effect.flatMap(Nodes, ({ list }) => list),
    (found) => found.map((node) => `${node.name} ${node.isAlive ? "alive" : "gone"}`)
  )

  describe(`Nodes: ${name}`, () => {
    it.scopedLive("are listed by name while they have joined, with what they say of themselves", () =>
      Effect.gen(function* () {
        const { join, list } = yield* Nodes
        assert.deepStrictEqual(yield* list, [])
        const scope = yield* Scope.make()
        yield* Scope.extend(join(aNode("b\0")), scope)
        yield* join({ ...aNode("a"), address: undefined })
        const [a, b] = yield* list
        assert.deepInclude(a, { name: "a", address: undefined, version: "1.0.0", isAlive: true })
        assert.deepInclude(b, { ...aNode("b\0"), isAlive: true })
        assert.isBelow(Math.abs((a?.startedAt ?? 0) - Date.now()), 60_000)
        assert.isBelow(a?.silentFor ?? 60_000, 60_000)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* names, ["a alive"])
      }).pipe(Effect.provide(layer("1 minute")))
    )

    it.scopedLive("one that is alive cannot be buried; one that is not is told, and its name is free", () =>
      Effect.gen(function* () {
        const { bury, join, list } = yield* Nodes
        assert.isTrue(yield* bury("nobody"))
        const scope = yield* Scope.make()
        yield* Scope.extend(join(aNode("a")), scope)
        assert.isFalse(yield* bury("a"))
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(yield* bury("a"))
        yield* join(aNode("a"))
        assert.deepInclude((yield* list)[0], { name: "a", isAlive: true })
      }).pipe(Effect.provide(layer("1 minute")))
    )

    it.scopedLive("have a name each, for as long as they say that they are alive", () =>
      Effect.gen(function* () {
        const { join, list } = yield* Nodes
        const lost = yield* Effect.fork(yield* join(aNode("a")))
        for (let beats = 0; beats < 2; beats++) {
          let longest = -1
          yield* until(list, ([node]) => {
            const { silentFor = 0 } = node ?? {}
            const hasSpoken = silentFor < longest
            longest = silentFor
            return hasSpoken
          })
        }
        const refused = yield* Effect.flip(Effect.scoped(join(aNode("a"))))
        assert.strictEqual(refused._tag, "NameTaken")
        assert.deepStrictEqual(yield* names, ["a alive"])
        assert.isNull(lost.unsafePoll())
        yield* Fiber.interrupt(lost)
      }).pipe(Effect.provide(layer("3 seconds")))
    )
  })
}
