/** Requests that were sent and not answered yet, oldest first. */
import type { Frame } from "../../protocol/RuntimeFrame.js"
import type * as Vendor from "../../protocol/Vendor.js"
import { type ClientError, RequestTimeout } from "../../services/client/ArcpClient.js"

/** A message that answers a request. */
export type Answer = Frame & {
  readonly type:
    | typeof Vendor.jobInputAccepted
    | "job.accepted"
    | "job.cancelled"
    | "job.subscribed"
    | "session.jobs"
    | "session.pong"
}

/** What a message without `request_id` says of the request that it answers. */
export type About = Pick<Frame, "job_id" | "trace_id">

/** A request that waits for its answer. */
export interface Pending {
  /** The type of its answer. */
  readonly answer: Answer["type"]
  readonly jobId?: string | undefined
  readonly traceId?: string | undefined
  /** The frame, without the session that it goes to. */
  readonly text: string
  /** Called with an answer of that type. */
  readonly answered: (answer: Answer) => void
  readonly failed: (error: ClientError) => void
  /** May be sent to a new session too, when the one it was sent to is gone. */
  readonly repeatable?: boolean | undefined
  /** A job whose subscription ends before the request, each time that is sent; but not where the job has a handle again. */
  readonly leaves?: string | undefined
  /** Its answer claims a job, whose frames may come before it. */
  readonly claims?: boolean | undefined
}

/** A request, and how far it has got. */
interface Sent extends Pending {
  /** Since when its answer is waited for on this connection. */
  since: number
  /** Which it is of those that claim a job. */
  readonly claim: number
  /** A connection was given it, so that it may have arrived. */
  sent: boolean
  /** This connection was. */
  given: boolean
  /** How many connections were lost that had been given it, and when the first had: what they end of may be this. */
  lost: number
  first?: number | undefined
}

/** Lets the oldest go when there are more than so many. */
export const trim = (all: Map<unknown, unknown> | Set<unknown>, most: number): void => {
  if (all.size > most) all.delete(all.keys().next().value)
}

/** Adds to what is remembered, of which a thousand are enough. */
export const remember = (set: Set<unknown>, value: unknown): void => trim(set.add(value), 1000)

const noAnswer = () => new RequestTimeout({ message: "no answer in time" })

/** How many are sent again for nobody. */
const maxLeft = 1_000

/** How many connections may be lost with a request unanswered, for longer than an answer may take. */
const maxLost = 10

/** Holds the requests of a session that wait for answers, each for as long as it may take on one connection. */
export class Requests {
  readonly #now: () => number
  readonly #limit: number
  /** What is looked for may be anything that a runtime says. */
  readonly #pending = new Map<unknown, Sent>()
  /** The traces of those that do not wait any more: what comes of them late, or again, answers no other. */
  readonly #past = new Set<unknown>()
  /** Submits that whoever waited has left. */
  readonly left = new Set<unknown>()
  /** How many there have been whose answer may claim a job, and how many of them there are. */
  #claims = 0
  #claiming = 0
  /** Called for each that is added. */
  declare onAdd: (() => void) | undefined
  /** Called when one of them is over, with the oldest that is not; `Infinity`: all are. */
  declare onClaimed: ((oldest: number) => void) | undefined
  /** Called when none is left of the submits that whoever waited has left. */
  declare onSettled: (() => void) | undefined

  /** `now` is in milliseconds and only goes forward; `limit` is what an answer may take, in milliseconds. */
  constructor(now: () => number, limit: number) {
    this.#now = now
    this.#limit = limit
  }

  add(id: string, request: Pending): void {
    const claim = request.claims ? ++this.#claims : Infinity
    if (request.claims) this.#claiming++
    this.#pending.set(id, { ...request, claim, since: this.#now(), sent: false, given: false, lost: 0 })
    this.onAdd?.()
  }
  /** The newest whose answer may claim a job; 0: there is none. */
  get claim(): number {
    return this.#claiming && this.#claims
  }
  get #oldestClaim(): number {
    // They are in their order, and most of those before the first are none.
    if (this.#claiming) for (const { claim, claims } of this.#pending.values()) if (claims) return claim
    return Infinity
  }
  /** A connection is about to be given it: is it still to be sent? */
  sends(id: unknown): boolean {
    const request = this.#pending.get(id)
    if (request) {
      request.sent = request.given = true
      request.first ??= this.#now()
    }
    return !!request
  }
  /**
   * Whoever waited has left. One that may have arrived is sent again until its answer comes, for `answered`, if there is that;
   * but not to another session. One that cannot have arrived is never sent. What a submit has begun goes on until it is
   * cancelled: it has the session's time, where others have what an answer may take.
   */
  leave(id: unknown, answered: Pending["answered"] | undefined): void {
    const request = this.#take(id)
    if (!request?.sent || !answered) return
    // As new: they are in the order of their times.
    const since = this.#now()
    const isSubmit = request.answer === "job.accepted"
    const repeatable = isSubmit && request.repeatable
    this.#pending.set(id, { ...request, answered, since, repeatable, claims: false, failed: () => {} })
    if (!isSubmit) return
    const [oldest] = this.left.add(id)
    if (this.left.size > maxLeft) this.#take(oldest)
  }
  /**
   * The connection is gone. A request whose connections are lost, however often it is sent again, is given up after some time, since it
   * may be what ends them: absences do not count, nor connections that the client itself has `left`. A bad network is no reason.
   * `said`: what the runtime has said before it closed.
   */
  ended(left: boolean, said: ClientError = noAnswer()): void {
    for (const [id, request] of [...this.#pending]) {
      const { first = 0, given } = request
      request.given = false
      if (given && !left && ++request.lost >= maxLost && this.#now() - first >= this.#limit)
        this.reject(id, said)
    }
  }
  /** All of them, to be sent on another connection: their time begins again. */
  resent(): ReadonlyArray<readonly [unknown, Pending]> {
    for (const request of this.#pending.values()) request.since = this.#now()
    return [...this.#pending]
  }
  /** The one with the largest frame. */
  get largest(): unknown {
    let largest: unknown
    let most = 0
    for (const [id, { text }] of this.#pending) if (text.length > most) [largest, most] = [id, text.length]
    return largest
  }
  /** The only one that somebody waits for, if it is about that job. */
  only(jobId?: string): unknown {
    const [only, other] = [...this.#pending].filter(([, { leaves }]) => !leaves)
    return other || (jobId && only?.[1].jobId !== jobId) ? undefined : only?.[0]
  }
  /**
   * The one that an answer without `request_id` belongs to (§3 of the protocol page): of its trace, else the oldest of its
   * kind. The trace of an earlier submit is that of its key, or says that the answer is not for this one.
   */
  like(answer: unknown, about: About): unknown {
    let oldest: unknown
    for (const [id, request] of this.#pending) {
      if (request.answer !== answer || (request.jobId ?? about.job_id) !== about.job_id) continue
      const { repeatable, traceId } = request
      if (traceId && about.trace_id?.includes(traceId)) return id
      if (!traceId || repeatable || !this.#past.has(about.trace_id)) oldest ??= id
    }
    return oldest
  }
  /** Of another kind than was asked for it answers nothing: whoever waits does so as long as an answer may take. */
  answer(id: unknown, message: Frame): void {
    if (this.#pending.get(id)?.answer === message.type)
      this.#take(id, (request) => request.answered(message as Answer))
  }
  /** Was there such a request? */
  reject(id: unknown, error: ClientError): boolean {
    return !!this.#take(id, (request) => request.failed(error))
  }
  /** The session is gone; repeatable ones can be kept for the next. */
  fail(error: ClientError, keepRepeatable: boolean): void {
    for (const [id, request] of [...this.#pending])
      if (!(keepRepeatable && request.repeatable && !this.left.has(id))) this.reject(id, error)
  }
  /**
   * Fails what has waited too long; returns in how many milliseconds the next will have, if there is one. A submit that nobody
   * waits for any more has the session's time, since its job is to be cancelled whenever it is accepted; but not where answers
   * are `guessed`: there the next one's could be taken for it.
   */
  expire(guessed: boolean): number | undefined {
    for (const [id, { since }] of this.#pending) {
      if (this.left.has(id) && !guessed) continue
      const left = since + this.#limit - this.#now()
      if (left > 0) return left
      this.reject(id, noAnswer())
    }
    return undefined
  }

  /** Takes one out, and ends it so: its answer is not waited for any more. */
  #take(id: unknown, end?: (request: Sent) => void): Sent | undefined {
    const request = this.#pending.get(id)
    if (!request) return undefined
    this.#pending.delete(id)
    if (request.traceId) remember(this.#past, request.traceId)
    end?.(request)
    // Not before: what was kept for it is handed over with its answer.
    if (request.claims) {
      this.#claiming--
      this.onClaimed?.(this.#oldestClaim)
    }
    if (this.left.delete(id) && !this.left.size) this.onSettled?.()
    return request
  }
}
