/**
 * The line in which HTTP requests wait for their turn. Each begins with a share of a turn of the event loop, and who asks
 * takes turns: addresses first, and of one address the tokens that it shows. So thousands of requests of one peer keep
 * another waiting for one of them, and not for all.
 */
import type { IncomingMessage } from "node:http"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Signal } from "../../services/runtime/Signal.js"
import { TurnShare } from "../../services/runtime/TurnShare.js"

/** Requests that wait, at about the most: what comes then is refused to whoever has more than their part of the line. */
const mostWaiting = 4_000

/** What waits, in turns by address and by token. */
export class Turns<A> {
  private readonly byAddress = new Map<string, Map<string, Array<A>>>()
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
    const mine = all?.length ?? 0
    // Askers who are new have none, so that they would find room for ever: twice as many is the end of it.
    if (this.waiting >= this.most && (mine * this.askers >= this.most || this.waiting >= 2 * this.most))
      return false
    this.waiting++
    if (all !== undefined) {
      all.push(what)
      return true
    }
    this.askers++
    if (ofAddress === undefined) this.byAddress.set(address, new Map([[token, [what]]]))
    else ofAddress.set(token, [what])
    return true
  }

  /** Takes the one whose turn it is. Whose it was goes to the end. */
  next(): A | undefined {
    for (const [address, ofAddress] of this.byAddress)
      for (const [token, all] of ofAddress) {
        const what = all.shift()
        this.waiting--
        ofAddress.delete(token)
        if (all.length > 0) ofAddress.set(token, all)
        else this.askers--
        this.byAddress.delete(address)
        if (ofAddress.size > 0) this.byAddress.set(address, ofAddress)
        return what
      }
    return undefined
  }
}

/** Lets requests in, one after the other. */
export interface RequestLine {
  /** Runs `begin` when it is its turn; returns false when there are too many. */
  readonly add: (client: string, request: IncomingMessage, begin: () => void) => boolean
}

/** Makes a line that moves for as long as the scope. */
export const make: Effect.Effect<RequestLine, never, Scope.Scope> = Effect.gen(function* () {
  const share = yield* TurnShare
  const turns = new Turns<() => void>(mostWaiting)
  const some = new Signal()
  const one = Effect.suspend(() => (turns.size === 0 ? some.wait : Effect.void)).pipe(
    Effect.zipRight(share),
    Effect.zipRight(Effect.sync(() => turns.next()?.())),
    Effect.catchAllCause((cause) => Effect.logError("a request could not be begun", cause)),
    // What it has begun goes on first, so that its time counts too.
    Effect.zipRight(Effect.yieldNow())
  )
  yield* Effect.forkScoped(Effect.forever(one))
  return {
    add: (client, request, begin) => {
      const isLetIn = turns.add(client, request.headers.authorization ?? "", begin)
      if (isLetIn) some.give()
      return isLetIn
    }
  }
})
