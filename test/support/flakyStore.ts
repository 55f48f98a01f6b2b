/** A store of which some of what it is asked fails, whatever it is. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { PCGRandom } from "effect/Utils"
import { Store, StoreError, type StoreService } from "../../src/services/store/Store.js"

/** Returns a layer over a store, and how much of it fails, from 0 to 1, for whoever tests to set. */
export const flakyStore = (inner: Layer.Layer<Store>, seed: number) => {
  const faults = { share: 0, failed: 0 }
  const random = new PCGRandom(seed)
  const failing = <A, E>(work: Effect.Effect<A, E>): Effect.Effect<A, E | StoreError> =>
    Effect.suspend((): Effect.Effect<A, E | StoreError> => {
      if (random.number() >= faults.share) return work
      faults.failed++
      return new StoreError({ message: "/var/lib/secret/arcp.db: input/output error" })
    })
  const flaky = (member: unknown): unknown =>
    Effect.isEffect(member)
      ? failing(member as Effect.Effect<unknown>)
      : typeof member === "function"
        ? (...args: ReadonlyArray<unknown>) => {
            const answer: unknown = member(...args)
            return Effect.isEffect(answer) ? failing(answer as Effect.Effect<unknown>) : answer
          }
        : member
  const layer = Layer.effect(
    Store,
    Effect.map(
      Store,
      (store) =>
        ({
          ...Object.fromEntries(Object.entries(store).map(([name, member]) => [name, flaky(member)])),
          kind: "durable"
        }) as unknown as StoreService
    )
  ).pipe(Layer.provide(inner))
  return { faults, layer }
}
