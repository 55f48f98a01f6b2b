/** The SDK's stdio, in which an answer that is larger than it may be is told at once: the SDK ends the server, in seconds. */
import { StdioClientTransport, type StdioServerParameters } from "@modelcontextprotocol/sdk/client/stdio.js"
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js"
import { Replies } from "./Replies.js"
import { idOfAnswer, idOfGivenUp, idOfRequest, inPlaceOfAnswer, tooLarge } from "./Unanswered.js"

export class StdioTransport implements Transport {
  onclose?: () => void
  onerror?: (error: Error) => void
  onmessage?: (message: JSONRPCMessage) => void
  private readonly inner: StdioClientTransport
  private readonly asked = new Set<number>()
  private readonly replies = new Replies()
  private over = false

  constructor(server: StdioServerParameters & { readonly maxBufferSize: number }) {
    this.inner = new StdioClientTransport(server)
    this.inner.onclose = () => this.end()
    this.inner.onerror = (error) => {
      // Which request it would have answered is in the part that was not read.
      if (/exceeded maximum size/.test(error.message)) {
        for (const id of this.asked) this.onmessage?.(inPlaceOfAnswer(id, tooLarge(server.maxBufferSize)))
        this.end()
      }
      this.onerror?.(error)
    }
    this.inner.onmessage = (message) => {
      const id = idOfAnswer(message)
      if (id !== undefined) this.asked.delete(id)
      this.onmessage?.(message)
    }
  }

  readonly start = (): Promise<void> => this.inner.start()
  readonly close = (): Promise<void> => this.inner.close()

  async send(message: JSONRPCMessage): Promise<void> {
    const id = idOfRequest(message)
    this.asked.delete(idOfGivenUp(message) ?? Number.NaN)
    if (id === undefined) return this.replies.send(message, () => this.inner.send(message))
    this.asked.add(id)
    await this.inner.send(message)
  }

  /** The connection is over, once: the SDK says so when the process is gone. */
  private end(): void {
    if (this.over) return
    this.over = true
    this.asked.clear()
    this.onclose?.()
  }
}
