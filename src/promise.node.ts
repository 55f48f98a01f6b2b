/** `effect-arcp/promise` as Node gets it: over `ws`, and with a file system. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as Effect from "effect/Effect"
import * as DialerWebSocket from "./layers/transport/DialerWebSocket.js"
import { type ConnectOptions, dialGlobal } from "./promise/options.js"
import { open, Session } from "./promise/Session.js"

/** See promise.ts, whose declarations are the types of both. */
export class Arcp extends Session {
  static async connect(options: ConnectOptions): Promise<Arcp> {
    return new Arcp(
      await open(options, {
        dial: (options) =>
          options.WebSocket === undefined
            ? Effect.succeed(DialerWebSocket.layer(options))
            : dialGlobal(options),
        files: Effect.succeed(NodeFileSystem.layer)
      })
    )
  }
}

export * from "./promise/index.js"
