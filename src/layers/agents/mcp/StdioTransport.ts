/**
 * The SDK's stdio, read by us (LineReader.ts): a server that floods takes no more than its share of the process, and an answer
 * that is larger than it may be is told at once, where the SDK only ends the server, in seconds.
 */
import type { ChildProcess } from "node:child_process"
import { StdioClientTransport, type StdioServerParameters } from "@modelcontextprotocol/sdk/client/stdio.js"
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import { type JSONRPCMessage, JSONRPCMessageSchema } from "@modelcontextprotocol/sdk/types.js"
import { isRecord } from "../../../protocol/Json.js"
import { LineReader } from "./LineReader.js"
import { Replies } from "./Replies.js"
import { idOfAnswer, idOfGivenUp, idOfRequest, inPlaceOfAnswer, tooLarge, Unanswered } from "./Unanswered.js"

/** Says why an answer is of no use. */
const noAnswer = new Unanswered("no_result", "the server answered with what is neither a result nor an error")

/**
 * Returns the message of a line; nothing when it is none, as of a server that logs to stdout. What should answer one of `asked`, and
 * cannot, is an error in its place.
 */
const messageOf = (line: string, asked: ReadonlySet<number>): JSONRPCMessage | undefined => {
  try {
    const value: unknown = JSON.parse(line)
    // Before it is looked at closely: to say what is wrong with what is no message is the most work.
    if (!isRecord(value) || value["jsonrpc"] !== "2.0") return undefined
    const { data } = JSONRPCMessageSchema.safeParse(value)
    if (data !== undefined) return data
    const { id, method } = value
    return method === undefined && typeof id === "number" && asked.has(id)
      ? inPlaceOfAnswer(id, noAnswer)
      : undefined
  } catch {
    return undefined
  }
}

export class StdioTransport implements Transport {
  onclose?: () => void
  onerror?: (error: Error) => void
  onmessage?: (message: JSONRPCMessage) => void
  private readonly inner: StdioClientTransport
  private readonly asked = new Set<number>()
  private readonly replies = new Replies()
  private reader: LineReader | undefined
  private over = false

  constructor(private readonly server: StdioServerParameters & { readonly maxBufferSize: number }) {
    this.inner = new StdioClientTransport(server)
    // What it has said last is heard before it is gone.
    this.inner.onclose = () =>
      this.reader === undefined ? this.end() : this.reader.whenIdle(() => this.end())
    this.inner.onerror = (error) => this.onerror?.(error)
    this.inner.onmessage = (message) => this.received(message)
  }

  async start(): Promise<void> {
    await this.inner.start()
    // The SDK tells nobody what it reads from. Where it is not this, it reads by itself.
    const { _process: child } = this.inner as unknown as { readonly _process?: ChildProcess | undefined }
    if (child?.stdout == null) return
    child.stdout.removeAllListeners("data")
    this.reader = new LineReader(child.stdout, {
      max: this.server.maxBufferSize,
      onLine: (line) => {
        const message = messageOf(line, this.asked)
        if (message !== undefined) this.received(message)
      },
      onTooLarge: () => this.refuse()
    })
  }

  close(): Promise<void> {
    this.reader?.stop()
    return this.inner.close()
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const id = idOfRequest(message)
    this.asked.delete(idOfGivenUp(message) ?? Number.NaN)
    if (id === undefined) return this.replies.send(message, () => this.inner.send(message))
    this.asked.add(id)
    await this.inner.send(message)
  }

  private received(message: JSONRPCMessage): void {
    const id = idOfAnswer(message)
    if (id !== undefined) this.asked.delete(id)
    try {
      this.onmessage?.(message)
    } catch (error) {
      // Nobody else would catch what is thrown because of a line, and the process would end.
      this.onerror?.(error instanceof Error ? error : new Error(String(error)))
    }
  }

  /** Which request a line that is too large would have answered is in the part that was not read. */
  private refuse(): void {
    const why = tooLarge(this.server.maxBufferSize)
    for (const id of this.asked) this.onmessage?.(inPlaceOfAnswer(id, why))
    this.end()
    this.onerror?.(why)
    void this.inner.close()
  }

  /** The connection is over, once: the SDK says so when the process is gone. */
  private end(): void {
    if (this.over) return
    this.over = true
    this.asked.clear()
    this.onclose?.()
  }
}
