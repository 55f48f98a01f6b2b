/**
 * The line in which HTTP requests wait for their turn. Each begins with a share of a turn of the event loop, and who asks
 * takes turns: addresses first, and of one address the tokens that it shows. So thousands of requests of one peer keep
 * another waiting for one of them, and not for all.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Signal } from "../../services/runtime/Signal.js"
import { TurnShare } from "../../services/runtime/TurnShare.js"
import type { RefusalWriter, RouteRefusal } from "../../services/transport/HttpRoutes.js"

/** Requests that wait, at about the most: what comes then is refused to whoever has more than their part of the line. */
const mostWaiting = 4_000

/** What waits, in turns by address and by token. Each is another value. */
export class Turns<A> {
  private readonly byAddress = new Map<string, Map<string, Set<A>>>()
  private waiting = 0
  /** Pairs of address and token that have something waiting. */
  private askers = 0

  constructor(private readonly most: number) {}

  get size(): number {
    return this.waiting
  }

  /** Lets one wait; returns false when the line is full and these have their part of it. */
  add(address: string, token: string, what: A): boolean {
    const ofAddress = this.byAddress.get(address)
    const all = ofAddress?.get(token)
    const mine = all?.size ?? 0
    // Askers who are new have none, so that they would find room for ever: twice as many is the end of it.
    if (this.waiting >= this.most && (mine * this.askers >= this.most || this.waiting >= 2 * this.most))
      return false
    this.waiting++
    if (all !== undefined) {
      all.add(what)
      return true
    }
    this.askers++
    if (ofAddress === undefined) this.byAddress.set(address, new Map([[token, new Set([what])]]))
    else ofAddress.set(token, new Set([what]))
    return true
  }

  /** Takes the one whose turn it is. Whose it was goes to the end. */
  next(): A | undefined {
    for (const [address, ofAddress] of this.byAddress)
      for (const [token, all] of ofAddress)
        for (const what of all) {
          this.remove(address, token, what)
          if (ofAddress.delete(token) && all.size > 0) ofAddress.set(token, all)
          if (this.byAddress.delete(address) && ofAddress.size > 0) this.byAddress.set(address, ofAddress)
          return what
        }
    return undefined
  }

  /** Takes one out whose turn has not come; it may have had its turn already. The others keep their order. */
  remove(address: string, token: string, what: A): void {
    const ofAddress = this.byAddress.get(address)
    const all = ofAddress?.get(token)
    if (ofAddress === undefined || all?.delete(what) !== true) return
    this.waiting--
    if (all.size > 0) return
    this.askers--
    ofAddress.delete(token)
    if (ofAddress.size === 0) this.byAddress.delete(address)
  }
}

/** Answers a request that its mount does not answer, and closes its connection. */
export type Refuse = (response: ServerResponse, refusal: RouteRefusal) => void

/** Refuses a request; throws before anything is sent when what is to be said is no text, or its type none that can be sent. */
const refuse = (
  response: ServerResponse,
  refusal: RouteRefusal,
  { body, contentType }: ReturnType<RefusalWriter>
): void => {
  const bytes = Buffer.from(body)
  response.writeHead(refusal.status, {
    "content-type": contentType,
    connection: "close",
    ...refusal.headers
  })
  response.end(bytes)
}

/** Refuses a request in a sentence. */
export const plainly: Refuse = (response, refusal) =>
  refuse(response, refusal, { contentType: "text/plain; charset=utf-8", body: `${refusal.message}\n` })

/**
 * Returns what refuses requests as an application writes it, and in a sentence when that cannot be: nobody else would catch what its
 * code throws.
 */
export const refusing =
  (write: RefusalWriter, unwritten: (error: unknown) => void): Refuse =>
  (response, refusal) => {
    try {
      refuse(response, refusal, write(refusal))
    } catch (error) {
      unwritten(error)
      plainly(response, refusal)
    }
  }

/** Ends a response of which nothing comes any more. */
const failed = (response: ServerResponse, refuse: Refuse): void => {
  if (response.headersSent) response.destroy()
  else
    refuse(response, {
      status: 500,
      message: "this request could not be begun; the log of the server says why"
    })
}

/** Begins a request. One that cannot be begun is answered, and logged: nobody else would. */
export const begun = (
  response: ServerResponse,
  begin: () => void,
  refuse: Refuse = plainly
): Effect.Effect<void> =>
  Effect.catchAllCause(Effect.sync(begin), (cause) =>
    Effect.zipRight(
      Effect.logError("a request could not be begun", cause),
      Effect.sync(() => failed(response, refuse))
    )
  )

/** Lets requests in, one after the other. */
export interface RequestLine {
  /**
   * Runs `begin` when it is its turn, and refuses what that cannot begin; returns false when there are too many. A response that is closed before has left the
   * line: it takes no place in it, and is not begun.
   */
  readonly add: (
    client: string,
    request: IncomingMessage,
    response: ServerResponse,
    begin: () => void,
    refuse?: Refuse | undefined
  ) => boolean
}

/** Makes a line that moves for as long as the scope. */
export const make: Effect.Effect<RequestLine, never, Scope.Scope> = Effect.gen(function* () {
  const share = yield* TurnShare
  const turns = new Turns<Effect.Effect<void>>(mostWaiting)
  const some = new Signal()
  // The line goes on whatever comes of one.
  const next = Effect.catchAllCause(
    Effect.suspend(() => turns.next() ?? Effect.void),
    (cause) => Effect.logError("a request could not be answered", cause)
  )
  const one = Effect.suspend(() => (turns.size === 0 ? some.wait : Effect.void)).pipe(
    Effect.zipRight(share),
    Effect.zipRight(next),
    // What it has begun goes on first, so that its time counts too.
    Effect.zipRight(Effect.yieldNow())
  )
  yield* Effect.forkScoped(Effect.forever(one))
  return {
    add: (client, request, response, begin, refuse) => {
      const token = request.headers.authorization ?? ""
      const waiting = begun(response, begin, refuse)
      if (!turns.add(client, token, waiting)) return false
      response.once("close", () => turns.remove(client, token, waiting))
      some.give()
      return true
    }
  }
})
