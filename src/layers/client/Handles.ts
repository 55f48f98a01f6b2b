/** Which handles get a job's frames, and how far the application has got with them. */
import type { ClientError } from "../../services/client/ArcpClient.js"
import type { JobFrame, JobInbox } from "./JobInbox.js"

/** Bytes of frames that are kept for a request that may claim their job. */
const maxEarlyBytes = 8 * 1024 * 1024
/** What a frame takes beside its text, in bytes. */
const frameOverhead = 256

/** A frame, its length, and the newest request that may claim it. */
type EarlyFrame = readonly [JobFrame, number, number]

/** Counts the handles of each job, and acts when the last one is gone. */
export class Handles {
  readonly #live = new Map<string, ReadonlyArray<JobInbox>>()
  /** All that may hold an acknowledgement back; those of ended jobs until they are read. */
  readonly #unsettled = new Set<JobInbox>()
  /** Frames that overtook, after a resume, the answer that says whose they are. */
  readonly #early = new Map<string, [EarlyFrame, ...Array<EarlyFrame>]>()
  #earlyBytes = 0
  /**
   * There were more, from this event on, the last of which this request may claim: a job that is claimed has to read again what
   * was left out.
   */
  #earlyCut: readonly [seq: number, claim: number] | undefined

  has(jobId: string): boolean {
    return this.#live.has(jobId)
  }
  /** Jobs of which something is to come, each with its handles. */
  get jobs(): ReadonlyArray<readonly [string, ReadonlyArray<JobInbox>]> {
    return [...this.#live]
  }
  get #inboxes(): ReadonlyArray<JobInbox> {
    return [...this.#live.values()].flat()
  }
  /** The only job of which something is to come. */
  get only(): string | undefined {
    const [only, other] = this.#live.keys()
    return other ? undefined : only
  }
  register(jobId: string, inbox: JobInbox): void {
    this.#unsettled.add(inbox)
    this.#keep(jobId, [...this.of(jobId), inbox])
    for (const [frame, bytes] of this.#dropped(jobId, Infinity)) this.deliver(jobId, frame, bytes, 0)
    if (this.#earlyCut) inbox.cut()
  }
  /** Takes out what was kept of a job and only requests before `oldest` can claim. */
  #dropped(jobId: string, oldest: number): ReadonlyArray<EarlyFrame> {
    const early = this.#early.get(jobId) ?? []
    const kept = early.findIndex(([, , claim]) => claim >= oldest)
    const dropped = early.splice(0, kept < 0 ? early.length : kept)
    for (const [, bytes] of dropped) this.#earlyBytes -= bytes + frameOverhead
    if (kept < 0) this.#early.delete(jobId)
    return dropped
  }
  /** The handles of a job. */
  of(jobId: string): ReadonlyArray<JobInbox> {
    return this.#live.get(jobId) ?? []
  }
  #keep(jobId: string, inboxes: ReadonlyArray<JobInbox>): void {
    if (inboxes.length > 0) this.#live.set(jobId, inboxes)
    else this.#live.delete(jobId)
  }
  /** The handle is no longer used. */
  release(jobId: string, inbox: JobInbox): void {
    inbox.release()
    this.#unsettled.delete(inbox)
    this.#keep(
      jobId,
      this.of(jobId).filter((other) => other !== inbox)
    )
  }
  /** Is there a handle on the job that has come to nothing as new as its event `seq`? */
  awaits(jobId: string | undefined, seq: number): boolean {
    return this.of(jobId as string).some(({ newest }) => newest < seq)
  }
  /** `claim`: the newest request that is under way and whose answer may claim the job; 0: there is none. */
  deliver(jobId: string, frame: JobFrame, bytes: number, claim: number): void {
    const inboxes = this.#live.get(jobId)
    if (inboxes) {
      for (const inbox of inboxes) inbox.offer(frame, bytes)
      if (frame.type === "job.event") return
      this.#keep(
        jobId,
        inboxes.filter((inbox) => !inbox.complete)
      )
    } else if (claim) {
      const size = this.#earlyBytes + bytes + frameOverhead
      // What follows what was left out would come before it.
      if (this.#earlyCut || size > maxEarlyBytes) {
        this.#earlyCut = [this.#earlyCut?.[0] ?? frame.event_seq ?? Infinity, claim]
        return
      }
      this.#earlyBytes = size
      const early = this.#early.get(jobId)
      if (early) early.push([frame, bytes, claim])
      else this.#early.set(jobId, [[frame, bytes, claim]])
    }
  }
  /** Nobody can claim what was kept when the requests from `oldest` on had not been made yet. */
  unclaimed(oldest: number): void {
    if (this.#earlyCut && this.#earlyCut[1] < oldest) this.#earlyCut = undefined
    for (const jobId of [...this.#early.keys()]) this.#dropped(jobId, oldest)
  }
  fail(jobId: string, error: ClientError): void {
    const inboxes = this.of(jobId)
    this.#live.delete(jobId)
    for (const inbox of inboxes) inbox.fail(error)
  }
  failAll(error: ClientError): void {
    for (const jobId of this.#live.keys()) this.fail(jobId, error)
    this.#early.clear()
    this.#unsettled.clear()
  }

  /** From where a resume has to replay so that every reader that waits gets what was skipped. */
  rewindTo(last: number): number {
    return this.#inboxes.reduce((to, { rewindTo }) => Math.min(to, rewindTo), last)
  }
  /** The session is gone, and with it the numbers of what was kept, and of what has all come and is not read yet. */
  lose(): void {
    this.unclaimed(Infinity)
    for (const inbox of this.#unsettled) inbox.lose()
  }
  rewound(from: number): void {
    for (const inbox of this.#inboxes) inbox.rewound(from)
  }
  /** Readers that wait for what is not retained any more, whether it was skipped or not yet there again, go on without it. */
  evicted(): void {
    for (const inbox of this.#inboxes) inbox.evicted()
  }

  /** The newest event, at most `last`, up to which the application has taken everything. */
  consumed(last: number): number {
    let consumed = Math.min(last, (this.#earlyCut?.[0] ?? Infinity) - 1)
    for (const [[frame]] of this.#early.values())
      consumed = Math.min(consumed, (frame.event_seq ?? Infinity) - 1)
    for (const inbox of this.#unsettled) {
      consumed = Math.min(consumed, inbox.unacknowledged - 1)
      if (inbox.settled) this.#unsettled.delete(inbox)
    }
    return consumed
  }
}
