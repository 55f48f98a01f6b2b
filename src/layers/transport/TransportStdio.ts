/**
 * The stdio transport of a runtime that is somebody's child (§4): envelopes as lines on stdin and
 * stdout, and nothing else on stdout. Logs belong on stderr.
 */

import type { Readable, Writable } from "node:stream"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { type Connection, closeCode, TransportServer } from "../../services/transport/Transport.js"
import { hasReader } from "./hasReader.js"
import * as LineConnection from "./LineConnection.js"
import { reserveStreams } from "./reserveStreams.js"

/** Options of a transport over the standard streams of this process. */
export interface Options {
  /**
   * Default: `process.stdin`, which is then the transport's alone: whoever else reads it finds its end. Destroyed when the
   * connection closes.
   */
  readonly input?: Readable | undefined
  /**
   * Ended when the connection closes. Default: `process.stdout`, which is then the transport's alone: what else in this
   * process writes to it or to the `console` goes to stderr.
   */
  readonly output?: Writable | undefined
}

/** Time between two looks whether somebody still reads. */
const lookInterval = "2 seconds"

/** Closes the connection when nobody reads what it writes: a peer that does not listen cannot be told anything. */
const closeUnread = (connection: Connection, fd: number) =>
  Effect.sync(() => hasReader(fd)).pipe(
    Effect.delay(lookInterval),
    Effect.repeat({ while: (read) => read }),
    Effect.zipRight(connection.close(closeCode.abnormal, "nobody reads what is written"))
  )

/** What is not given is this process's, and reserved at once: whoever asked for it a second time would get what stands in for it. */
const streams = ({ input, output }: Options) =>
  input !== undefined && output !== undefined
    ? Effect.succeed({ input, output })
    : Effect.map(reserveStreams, (reserved) => ({
        input: input ?? reserved.input,
        output: output ?? reserved.output
      }))

/** The one connection, closed with the scope. After the end of input it can still be written to. */
export const make = (options: Options = {}): Effect.Effect<Connection, never, RuntimeOptions | Scope.Scope> =>
  Effect.gen(function* () {
    const { maxHelloFrameBytes } = yield* RuntimeOptions
    const { input, output } = yield* streams(options)
    const connection = yield* Effect.acquireRelease(
      Effect.sync(() =>
        LineConnection.make({ input, output, remote: "stdio", maxFrameBytes: maxHelloFrameBytes })
      ),
      (connection) => connection.close(closeCode.goingAway, "server is stopping")
    )
    if ("fd" in output && typeof output.fd === "number")
      yield* Effect.forkScoped(closeUnread(connection, output.fd))
    return connection
  })

/** A server with this one connection; its stream ends after it. */
export const layer = (options: Options = {}): Layer.Layer<TransportServer, never, RuntimeOptions> =>
  Layer.scoped(
    TransportServer,
    Effect.map(make(options), (connection) => ({
      address: "stdio:",
      connections: Stream.make(connection)
    }))
  )
