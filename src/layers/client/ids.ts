/** Ids of what a client sends. They need not be in order, unlike a runtime's, so they are made in fewer bytes. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { PCGRandom } from "effect/Utils"
import { base32 } from "../../protocol/Ids.js"

const half = Random.nextIntBetween(0, 2 ** 32)

/** A generator of 32 random bits, seeded once. Good for what is unique, not for what is secret. */
export const random: Effect.Effect<() => number> = Effect.gen(function* () {
  const random = new PCGRandom(yield* half, yield* half, yield* half, yield* half)
  return () => Math.floor(random.number() * 2 ** 32)
})

/** Returns a ULID of that time, in epoch milliseconds. */
export const ulid = (now: number, random32: () => number): string =>
  base32(now, 10) + Array.from({ length: 4 }, () => base32(random32(), 4)).join("")
