/** Messages with their types: what decoding gives and encoding takes. */
import type * as Schema from "effect/Schema"
import type { Envelope } from "./Envelope.js"
import type { clientMessages, runtimeMessages } from "./Message.js"
import type { RemoteSpan } from "./Trace.js"

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
export type ClientMessage = MessageOf<typeof clientMessages> & {
  /** The span under which it was sent, of the extension or of a `trace_id` that is a whole `traceparent` (§11). */
  readonly parentSpan?: RemoteSpan | undefined
}
/** What a runtime sends. */
export type RuntimeMessage = MessageOf<typeof runtimeMessages>
