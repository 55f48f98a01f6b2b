/**
 * A session while jobs may hold it. Three lifetimes meet here: jobs hold the session, the session knows the connection
 * that is attached, if any, and neither waits for the one below.
 */
import type * as Effect from "effect/Effect"
import type { Version } from "../../protocol/Codec.js"
import type { Feature } from "../../protocol/Features.js"
import type { Identity } from "../../services/auth/Auth.js"
import type { JobSession, Outgoing } from "../../services/jobs/Jobs.js"
import type { View } from "../../services/log/EventLog.js"
import { PassingSet } from "../../services/runtime/Passing.js"
import { frameOf } from "../jobs/fitting.js"
import type { Outbox } from "./Outbox.js"

/** Accepts remembered at the most; one that is forgotten is sent again, which is allowed. */
const maxAccepts = 4096

/**
 * The jobs whose `job.accepted` was sent on one transport, and whose first event was not: only until then it matters
 * whether the accept has to be made again (§6.3).
 */
export class Accepts {
  /** From the first accept on. */
  private jobIds: PassingSet<string> | undefined

  sent(jobId: string): void {
    this.jobIds ??= new PassingSet()
    const { jobIds } = this
    jobIds.delete(jobId)
    jobIds.add(jobId)
    if (jobIds.size <= maxAccepts) return
    for (const oldest of jobIds) {
      jobIds.delete(oldest)
      return
    }
  }
  /** Returns whether the accept of a job that begins now has been sent. Asked once per job. */
  begins(jobId: string): boolean {
    return this.jobIds?.delete(jobId) ?? false
  }
}

/** The connection's side that a session knows. */
export interface Attachment {
  readonly outbox: Outbox
  readonly accepts: Accepts
  /** Events up to this `event_seq` have been handed to the transport, or the client had them before. */
  cursor: number
  readonly close: (code: number, reason: string) => Effect.Effect<void>
}

/** A session as its jobs hold it: what is sent to it goes to the connection that is attached, or nowhere. */
export class Session implements JobSession {
  constructor(
    readonly sessionId: string,
    readonly version: Version,
    readonly view: View,
    public identity: Identity,
    public features: ReadonlyArray<Feature>,
    public exposed: boolean,
    private readonly parts: {
      readonly nextId: () => string
      /** Bytes that a frame may have. */
      readonly maxFrameBytes: number
      /** The connection that is attached now. */
      readonly attachment: () => Attachment | undefined
    }
  ) {}

  /** Tells whether another connection has taken the place of one that was attached, and may be sent what that one may not. */
  hasLeft(attachment: Attachment): boolean {
    const current = this.parts.attachment()
    return current !== undefined && current !== attachment
  }
  has(feature: Feature): boolean {
    return this.features.includes(feature)
  }
  frame(message: Outgoing): string {
    return frameOf(
      {
        arcp: this.version,
        id: this.parts.nextId(),
        type: message.type,
        session_id: this.sessionId,
        job_id: message.jobId,
        trace_id: message.traceId,
        extensions: message.extensions,
        payload: message.payload
      },
      this.parts.maxFrameBytes
    )
  }
  readonly send = (message: Outgoing): void => {
    const attachment = this.parts.attachment()
    if (attachment === undefined) return
    attachment.outbox.push(this.frame(message))
    if (message.type === "job.accepted" && message.jobId !== undefined) attachment.accepts.sent(message.jobId)
  }
  readonly sendAgain = (eventSeq: number, frame: string): void => {
    const attachment = this.parts.attachment()
    if (attachment !== undefined && eventSeq <= attachment.cursor) attachment.outbox.push(frame)
  }
}
