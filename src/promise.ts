/**
 * The client without Effect: promises, async iterables, `AbortSignal`. This entry is for browsers and
 * whatever else has a WebSocket of its own; Node, Deno and Bun get promise.node.ts under the same name.
 */

import { type ConnectOptions, dialGlobal } from "./promise/options.js"
import { open, Session } from "./promise/Session.js"
import { InvalidRequest } from "./protocol/Errors.js"

/**
 * A session with a runtime, for programs of promises: submits jobs, reads their events and results, and resumes by itself.
 *
 * @example
 * await using arcp = await Arcp.connect({ url: "wss://agents.example.com/arcp", token })
 * const job = await arcp.submit("review", { repository: "." }, { signal: AbortSignal.timeout(60_000) })
 * for await (const event of job.events) console.log(event.kind, event.body)
 * console.log(await job.result)
 */
export class Arcp extends Session {
  /** Rejects when the first connection cannot be made or is refused. */
  static async connect(options: ConnectOptions): Promise<Arcp> {
    return new Arcp(
      await open(options, {
        dial: dialGlobal,
        files: new InvalidRequest({ message: "there is no file system here: read chunks instead" })
      })
    )
  }
}

export * from "./promise/index.js"
