/** What we say to a server unasked, or because it asked: a server that asks and does not read must not fill the memory. */
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js"

/** So many may be on their way; what comes then is not said. Whoever asks so much does not wait for all of it. */
const most = 64

/** Sends messages that nobody here waits for an answer to. */
export class Replies {
  private underWay = 0

  async send(message: JSONRPCMessage, send: () => Promise<void>): Promise<void> {
    // Answers only: of notifications there are few, and each means something.
    if (!("method" in message) && this.underWay >= most) return
    this.underWay++
    try {
      await send()
    } finally {
      this.underWay--
    }
  }
}
