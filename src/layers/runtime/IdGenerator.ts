/** Ids from the Clock and a generator that the Random service seeds once. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { PCGRandom } from "effect/Utils"
import * as Ids from "../../protocol/Ids.js"
import * as Trace from "../../protocol/Trace.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"

const seed = Random.nextIntBetween(0, 2 ** 32)

/** Monotonic ULIDs. Unique, not secret: tokens come from `Secrets`. */
export const make: Effect.Effect<IdGenerator["Type"]> = Effect.gen(function* () {
  const clock = yield* Effect.clock
  const now = () => clock.unsafeCurrentTimeMillis()
  // The start time selects the stream (of which the lowest bit is fixed), so that equal seeds in two
  // processes still differ.
  const stream = 2 * now()
  const random = new PCGRandom(yield* seed, yield* seed, Math.floor(stream / 2 ** 32), stream >>> 0)
  const random32 = () => Math.floor(random.number() * 2 ** 32)
  const next = Ids.ulidFactory(now, random32)
  return {
    unsafeNext: next,
    unsafeMake: (prefix) => `${prefix}_${next()}`,
    unsafeTraceId: () => Trace.make(random32)
  }
})

/** Provides ids of this process. */
export const layer = (): Layer.Layer<IdGenerator> => Layer.effect(IdGenerator, make)

export * from "../../services/runtime/IdGenerator.js"
