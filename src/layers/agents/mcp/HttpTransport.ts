/**
 * The SDK's streamable HTTP, in which every request gets an answer: when the server has ended its answer without one, in a
 * stream or otherwise, the request fails at once. Answers are bounded, decompressed and while they are read. Requests that
 * nobody waits for any more are not read on.
 */
import { randomUUID } from "node:crypto"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import type { FetchLike, Transport } from "@modelcontextprotocol/sdk/shared/transport.js"
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js"
import { atMost, type End, wholeEvents } from "./events.js"
import { Pauses } from "./Pauses.js"
import { Replies } from "./Replies.js"
import { idOfAnswer, idOfGivenUp, idOfRequest, inPlaceOfAnswer, tooLarge, Unanswered } from "./Unanswered.js"

/** A request that was sent and not answered. */
interface Asked {
  readonly abort: AbortController
  /** The answer is a stream: there may be one as long as that has not ended. */
  streamed: boolean
  /** The newest event after which the stream can be gone on with, when the server says so. */
  resumable: string | undefined
  /** How often in a row the server has refused to go on with it. */
  refused: number
  readonly pauses: Pauses
  /** Where a redirect leads next on the way to the stream, and how many there were. */
  leadsTo: string | undefined
  hops: number
}

/** Milliseconds that the server gets to take what it is to answer nothing to. */
const heardWithin = 30_000

/** How often the SDK asks for the rest of a stream before it gives that up. */
const maxResumptions = 2

/** Redirects in a row that the SDK follows. */
const maxHops = 5

/** Stands after the last event of an answer: in the stream, so that it is read after whatever was in that. */
const endOfAnswer = "notifications/effect-arcp/end-of-answer"

const ends: Readonly<Record<"end" | "cut", Unanswered>> = {
  end: new Unanswered("no_result", "the server ended its answer without a result"),
  cut: new Unanswered("cut", "the connection was cut while the server answered")
}

/** Nobody waits for it any more. */
const givenUp = new Unanswered("cut", "the request was given up")

export class HttpTransport implements Transport {
  onclose?: () => void
  onerror?: (error: Error) => void
  onmessage?: (message: JSONRPCMessage) => void
  private readonly inner: StreamableHTTPClientTransport
  private readonly asked = new Map<number, Asked>()
  /**
   * Begins the ids of the events at the ends of answers. The SDK goes on with a stream after the last event that it has read, so
   * that it names the request, whatever the server has numbered; which of the server's events that is, is known here.
   */
  private readonly mark = `${randomUUID()}:`
  private readonly replies = new Replies()
  /** Of the stream of what the server says by itself. */
  private readonly listening = new Pauses()

  constructor(
    private readonly url: URL,
    private readonly options: {
      readonly headers: Readonly<Record<string, string>>
      /** Of one message, in bytes. */
      readonly maxAnswerBytes: number
    }
  ) {
    this.inner = new StreamableHTTPClientTransport(url, {
      requestInit: { headers: { ...options.headers } },
      fetch: this.fetch,
      reconnectionOptions: {
        // The pauses are ours.
        initialReconnectionDelay: 0,
        maxReconnectionDelay: 0,
        reconnectionDelayGrowFactor: 1,
        maxRetries: maxResumptions
      }
    })
    this.inner.onclose = () => this.onclose?.()
    // What became of a request is told to whoever asked.
    this.inner.onerror = (error) => (error instanceof Unanswered ? undefined : this.onerror?.(error))
    this.inner.onmessage = (message) => this.received(message)
  }

  get sessionId(): string | undefined {
    return this.inner.sessionId
  }
  readonly setProtocolVersion = (version: string): void => this.inner.setProtocolVersion(version)
  readonly start = (): Promise<void> => this.inner.start()
  /** Ends the session at the server. */
  readonly leave = (): Promise<void> => this.inner.terminateSession()

  async close(): Promise<void> {
    for (const id of [...this.asked.keys()]) this.giveUp(id)
    await this.inner.close()
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const id = idOfRequest(message)
    if (id === undefined) {
      const over = idOfGivenUp(message)
      if (over !== undefined) this.giveUp(over)
      return this.replies.send(message, () => this.inner.send(message))
    }
    const asked: Asked = {
      abort: new AbortController(),
      streamed: false,
      resumable: undefined,
      refused: 0,
      pauses: new Pauses(performance.now()),
      leadsTo: undefined,
      hops: 0
    }
    this.asked.set(id, asked)
    const onresumptiontoken = (token: string) => {
      if (!token.startsWith(this.mark)) asked.resumable = token
    }
    try {
      await this.inner.send(message, { onresumptiontoken })
    } catch (error) {
      if (error instanceof Unanswered) return this.fail(id, error)
      this.asked.delete(id)
      throw error
    }
    if (!asked.streamed) this.fail(id, ends.end)
  }

  private received(message: JSONRPCMessage): void {
    if ("method" in message && message.method === endOfAnswer) return this.ended(message.params ?? {})
    const id = idOfAnswer(message)
    if (id !== undefined) this.asked.delete(id)
    this.onmessage?.(message)
  }

  /** The stream of an answer has ended. It may be gone on with where it says so, and where that led to anything last time. */
  private ended({ id, from, end }: { readonly [name: string]: unknown }): void {
    const asked = this.asked.get(Number(id))
    if (asked === undefined) return
    if (end === "too_large") return this.fail(Number(id), tooLarge(this.options.maxAnswerBytes))
    if (asked.resumable !== undefined && asked.resumable !== from) return
    this.fail(Number(id), end === "cut" ? ends.cut : ends.end)
  }

  private fail(id: number, why: Unanswered): void {
    if (!this.asked.has(id)) return
    this.giveUp(id)
    // Whether the server is there at all is for whoever hears of it to find out.
    if (why.why === "cut") this.onerror?.(why)
    this.onmessage?.(inPlaceOfAnswer(id, why))
  }

  private giveUp(id: number): void {
    const asked = this.asked.get(id)
    this.asked.delete(id)
    asked?.abort.abort(givenUp)
  }

  private readonly fetch: FetchLike = async (url, init = {}) => {
    const headers = new Headers(init.headers)
    const after = init.method === "GET" ? headers.get("last-event-id") : null
    if (after?.startsWith(this.mark) === true)
      return this.goOn(Number(after.slice(this.mark.length)), url, init, headers)
    const id = idIn(init.body)
    if (id === undefined) return this.bounded(await this.said(url, init), this.listening)
    const asked = this.asked.get(id)
    if (asked === undefined) throw givenUp
    const response = await fetch(url, { ...init, signal: asked.abort.signal })
    asked.streamed = response.ok && response.status !== 202 && isStream(response)
    return this.bounded(response, asked.pauses, this.lastEvent(id, undefined))
  }

  /** Makes the event at the end of an answer that went on from the event `from`, if it did. */
  private lastEvent(id: number, from: string | undefined): (end: End) => string {
    return (end) => {
      const message = { jsonrpc: "2.0", method: endOfAnswer, params: { id, from, end } }
      return `id: ${this.mark}${id}\ndata: ${JSON.stringify(message)}\n\n`
    }
  }

  /** Goes on with the stream of a request, if it can be and somebody still waits. */
  private async goOn(id: number, url: string | URL, init: RequestInit, headers: Headers): Promise<Response> {
    const asked = this.asked.get(id)
    const from = asked?.resumable
    // As of a server without such streams, which the SDK takes for an answer.
    if (asked === undefined || from === undefined) return new Response(null, { status: 405 })
    if (asked.leadsTo !== String(url)) {
      asked.hops = 0
      await asked.pauses.begin(asked.abort.signal)
    }
    headers.set("last-event-id", from)
    return this.resumed(id, asked, from, fetch(url, { ...init, headers, signal: asked.abort.signal }), url)
  }

  /** Sends what is about no request of ours, or listens to what the server says by itself. */
  private async said(url: string | URL, init: RequestInit): Promise<Response> {
    if (init.method !== "GET") {
      const signals = [AbortSignal.timeout(heardWithin), ...(init.signal == null ? [] : [init.signal])]
      return fetch(url, { ...init, signal: AbortSignal.any(signals) })
    }
    // Closed: as of a server without such a stream, which the SDK does not ask again.
    if (init.signal?.aborted === true) return new Response(null, { status: 405 })
    // Elsewhere is where a redirect has led.
    if (String(url) === this.url.href) await this.listening.begin(init.signal ?? undefined)
    return fetch(url, init)
  }

  /** Going on with a stream: what the SDK does not try again is the end of it. */
  private async resumed(
    id: number,
    asked: Asked,
    from: string,
    attempt: Promise<Response>,
    url: string | URL
  ) {
    asked.leadsTo = undefined
    const failed = (forGood: boolean) => {
      if (!forGood && ++asked.refused < maxResumptions) return
      asked.resumable = undefined
      this.fail(id, ends.cut)
    }
    const response = await attempt.catch((error) => {
      failed(false)
      throw error
    })
    asked.leadsTo = asked.hops < maxHops ? followed(response, url) : undefined
    if (asked.leadsTo !== undefined) {
      asked.hops++
      return response
    }
    if (!response.ok) {
      // Before it is given up: the SDK would take an aborted body for something to try again.
      await response.body?.cancel()
      failed(response.status === 405)
      return new Response(null, { status: response.status, statusText: response.statusText })
    }
    asked.refused = 0
    return this.bounded(response, asked.pauses, this.lastEvent(id, from))
  }

  private bounded(response: Response, { retry }: Pauses, last?: (end: End) => string): Response {
    const { body, headers, status, statusText } = response
    if (body === null) return response
    const max = this.options.maxAnswerBytes
    const bounded =
      response.ok && isStream(response)
        ? wholeEvents(body, max, { last, retry })
        : atMost(body, max, () => tooLarge(max))
    return new Response(bounded, { status, statusText, headers })
  }
}

/** Returns where the SDK asks next after a redirect: nowhere, when that leads out of the origin. */
const followed = ({ headers, status }: Response, url: string | URL): string | undefined => {
  const location = headers.get("location")
  if (![301, 302, 303, 307, 308].includes(status) || location === null || !URL.canParse(location, url))
    return undefined
  const from = new URL(url)
  const to = new URL(location, url)
  const isWithin = to.origin === from.origin || (from.port === "" && to.origin === `https://${from.hostname}`)
  return isWithin && to.username === "" && to.password === "" ? to.href : undefined
}

const isStream = ({ headers }: Response): boolean =>
  /^\s*text\/event-stream\s*(;|$)/i.test(headers.get("content-type") ?? "")

/** Returns the id of the request in a body. */
const idIn = (body: RequestInit["body"]): number | undefined =>
  typeof body === "string" ? idOfRequest(JSON.parse(body) as JSONRPCMessage) : undefined
