/** Wakes between the runtimes of one process: for tests, and as the model of what others do. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Wake } from "../../services/cluster/Wake.js"
import { lookingEvery, type WakeOptions } from "./looking.js"

/** Returns wakes for all who are given the same layer. */
export const layer = (options: Pick<WakeOptions, "look"> = {}): Layer.Layer<Wake> =>
  Layer.sync(Wake, () => {
    const listeners = new Map<string, Set<(told: boolean) => void>>()
    return {
      tell: (node) => {
        for (const onWake of listeners.get(node) ?? []) onWake(true)
      },
      listen: (node, onWake) =>
        Effect.gen(function* () {
          const others = listeners.get(node) ?? new Set()
          yield* Effect.acquireRelease(
            Effect.sync(() => listeners.set(node, others.add(onWake))),
            () =>
              Effect.sync(() => {
                others.delete(onWake)
                if (others.size === 0 && listeners.get(node) === others) listeners.delete(node)
              })
          )
          yield* lookingEvery(options.look, onWake)
        })
    }
  })
