/** Messages with their types: what decoding gives and encoding takes. */
import type * as Schema from "effect/Schema"
import type { Envelope } from "./Envelope.js"
import type { clientMessages, runtimeMessages } from "./Message.js"

/** A schema of the payload by `type`. */
export type Table = Readonly<Record<string, Schema.Schema.AnyNoContext>>

/** The typed messages of a table: an envelope whose `type` names the shape of its `payload`. */
export type MessageOf<T extends Table> = {
  readonly [K in keyof T & string]: Envelope & {
    readonly type: K
    readonly payload: Schema.Schema.Type<T[K]>
  }
}[keyof T & string]

/** What a client sends. */
export type ClientMessage = MessageOf<typeof clientMessages>
/** What a runtime sends. */
export type RuntimeMessage = MessageOf<typeof runtimeMessages>
