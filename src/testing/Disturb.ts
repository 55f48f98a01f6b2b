import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/** Tells a transport that from now on something may happen to its connections of which the other end is not told. */
export class Disturb extends Context.Tag("arcp/testing/Disturb")<Disturb, Effect.Effect<void>>() {}
