/** Requests that were sent and not answered yet, oldest first. */

import type { ArcpError } from "../../protocol/Errors.js"
import type { RuntimeMessage } from "../../protocol/TypedMessage.js"
import type { ClientError } from "../../services/client/ArcpClient.js"

/** A message that answers a request. */
export type Answer = RuntimeMessage & {
  readonly type: "job.accepted" | "job.cancelled" | "job.subscribed" | "session.jobs" | "session.pong"
}

/** A request that waits for its answer. */
export interface Pending {
  readonly frame: (sessionId: string) => string
  readonly answered: (answer: Answer) => void
  readonly failed: (error: ClientError) => void
  /** May be sent to a new session too, when the one it was sent to is gone. */
  readonly repeatable: boolean
  /** Its answer claims a job, whose frames may come before it. */
  readonly claims: boolean
}

/** Holds the requests of a session that wait for answers. */
export class Requests {
  private readonly pending = new Map<string, Pending>()

  add(id: string, request: Pending): void {
    this.pending.set(id, request)
  }
  has(id: string): boolean {
    return this.pending.has(id)
  }
  drop(id: string): void {
    this.pending.delete(id)
  }
  /** Is there one whose answer may claim a job? */
  get claiming(): boolean {
    for (const request of this.pending.values()) if (request.claims) return true
    return false
  }
  /** All of them, to be sent again. */
  frames(sessionId: string): Array<string> {
    return [...this.pending.values()].map((request) => request.frame(sessionId))
  }
  answer(id: string | undefined, message: Answer): void {
    if (id !== undefined) this.take(id)?.answered(message)
  }
  /** Was there such a request? */
  reject(id: string, error: ArcpError): boolean {
    const request = this.take(id)
    request?.failed(error)
    return request !== undefined
  }
  /** The session is gone; repeatable ones can be kept for the next. */
  fail(error: ClientError, keepRepeatable: boolean): void {
    for (const [id, request] of [...this.pending])
      if (!(keepRepeatable && request.repeatable)) this.take(id)?.failed(error)
  }

  private take(id: string): Pending | undefined {
    const request = this.pending.get(id)
    this.pending.delete(id)
    return request
  }
}
