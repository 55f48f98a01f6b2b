/** `effect-arcp/promise` as Node, Deno and Bun get it: over `ws`, and with a file system. */
import * as Effect from "effect/Effect"
import * as DialerWebSocket from "./layers/transport/DialerWebSocket.js"
import { type ConnectOptions, dialGlobal } from "./promise/options.js"
import { open, Session } from "./promise/Session.js"
import { InvalidRequest } from "./protocol/Errors.js"
import { needs } from "./services/runtime/needs.js"

/** Imported when a result is saved: the rest of the client does without. */
const files = needs(
  "saveResult",
  "@effect/platform-node",
  () => import("@effect/platform-node/NodeFileSystem")
).pipe(
  Effect.map(({ layer }) => layer),
  Effect.mapError(({ message }) => new InvalidRequest({ message }))
)

/** See promise.ts, whose declarations are the types of both. */
export class Arcp extends Session {
  static async connect(options: ConnectOptions): Promise<Arcp> {
    return new Arcp(
      await open(options, {
        dial: (options) =>
          options.WebSocket === undefined
            ? Effect.succeed(DialerWebSocket.layer(options))
            : dialGlobal(options),
        files
      })
    )
  }
}

export * from "./promise/index.js"
