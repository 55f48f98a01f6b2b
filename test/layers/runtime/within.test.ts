/** What a shutdown waits for is bounded wherever it waits: a finalizer runs uninterruptibly. */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { within } from "../../../src/services/runtime/within.js"

const stuck = { "never ends": Effect.never, "cannot be interrupted": Effect.uninterruptible(Effect.never) }

describe("within", () => {
  for (const [what, effect] of Object.entries(stuck)) {
    it.effect(`does not wait longer for what ${what}, in real time`, () => within(effect, "10 millis"))

    it.effect(`nor for what ${what} when a finalizer waits`, () =>
      Effect.scoped(Effect.addFinalizer(() => within(effect, "10 millis")))
    )
  }
})
