/** Whether anything still holds on to an object. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Effect from "effect/Effect"

setFlagsFromString("--expose-gc")
/** Collects garbage now. */
export const gc = runInNewContext("gc") as () => void

/** A turn later: until then the engine keeps what was just looked at, and fibers what they just returned. */
export const isCollected = (ref: WeakRef<object>): Effect.Effect<boolean> =>
  Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve))).pipe(
    Effect.zipRight(
      Effect.sync(() => {
        gc()
        return ref.deref() === undefined
      })
    )
  )
