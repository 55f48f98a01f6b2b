/**
 * Between JSON text and typed messages. Decoding looks the payload's decoder up by `type` in a table
 * built once; encoding splices: an event's payload is stored as JSON text and is never parsed or
 * serialised again on its way out (Envelope.ts).
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import type * as Schema from "effect/Schema"
import { decoder, type Envelope } from "./Envelope.js"
import { clientMessages, type runtimeMessages } from "./Message.js"
import { describe } from "./Problem.js"

type Table = Readonly<Record<string, Schema.Schema.AnyNoContext>>

/** The typed messages of a table: an envelope whose `type` names the shape of its `payload`. */
export type MessageOf<T extends Table> = {
  readonly [K in keyof T & string]: Envelope & {
    readonly type: K
    readonly payload: Schema.Schema.Type<T[K]>
  }
}[keyof T & string]

export type ClientMessage = MessageOf<typeof clientMessages>
export type RuntimeMessage = MessageOf<typeof runtimeMessages>

/** A frame from a client. */
export const decodeClient = decoder<ClientMessage>(
  new Map(
    Object.entries(clientMessages).map(([type, schema]) => {
      const decode = ParseResult.decodeUnknownEither(schema as Schema.Schema.AnyNoContext)
      return [
        type,
        (payload: unknown) => Either.mapLeft(decode(payload), (issue) => describe(issue, "payload"))
      ]
    })
  ),
  "client"
)

export * from "./Envelope.js"
export { decodeRuntime } from "./RuntimeFrame.js"
