/** Which handles get a job's frames, and how far the application has got with them. */
import type { ClientError } from "../../services/ArcpClient.js"
import type { JobFrame, JobInbox } from "./JobInbox.js"

/** A handle, and the event behind which it begins. */
interface Listener {
  readonly inbox: JobInbox
  readonly after: number
}

export class Handles {
  private readonly live = new Map<string, Array<Listener>>()
  /** All that may hold an acknowledgement back; those of ended jobs until they are read. */
  private readonly unsettled = new Set<JobInbox>()
  /** Frames that overtook, after a resume, the answer that says whose they are. */
  private readonly early = new Map<string, Array<JobFrame>>()

  has(jobId: string): boolean {
    return this.live.has(jobId)
  }
  /** From now on the job's frames behind `after` go there too. */
  register(jobId: string, inbox: JobInbox, after: number): void {
    this.unsettled.add(inbox)
    const listeners = this.live.get(jobId)
    if (listeners === undefined) this.live.set(jobId, [{ inbox, after }])
    else listeners.push({ inbox, after })
    const early = this.early.get(jobId)
    this.early.delete(jobId)
    for (const frame of early ?? []) this.deliver(jobId, frame, false)
  }
  /** `claiming`: a request is under way whose answer may claim the job. */
  deliver(jobId: string, frame: JobFrame, claiming: boolean): void {
    const listeners = this.live.get(jobId)
    if (listeners !== undefined) {
      const waiting = listeners.filter(({ after }) => frame.event_seq <= after)
      for (const { inbox, after } of listeners) if (frame.event_seq > after) inbox.offer(frame)
      if (frame.type === "job.event") return
      if (waiting.length === 0) this.live.delete(jobId)
      else this.live.set(jobId, waiting)
    } else if (claiming) {
      const early = this.early.get(jobId)
      if (early === undefined) this.early.set(jobId, [frame])
      else early.push(frame)
    } else this.early.clear()
  }
  fail(jobId: string, error: ClientError): void {
    const listeners = this.live.get(jobId) ?? []
    this.live.delete(jobId)
    for (const { inbox } of listeners) inbox.fail(error)
  }
  failAll(error: ClientError): void {
    for (const jobId of [...this.live.keys()]) this.fail(jobId, error)
    this.early.clear()
    this.unsettled.clear()
  }
  /** The newest event, at most `last`, up to which the application has taken everything. */
  consumed(last: number): number {
    let consumed = last
    for (const inbox of this.unsettled) {
      const held = inbox.unacknowledged
      if (held !== undefined) consumed = Math.min(consumed, held - 1)
      if (inbox.settled) this.unsettled.delete(inbox)
    }
    return consumed
  }
}
