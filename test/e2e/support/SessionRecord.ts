import { type Frame, frameViolations, isNumbered, isTerminal } from "./Frame.js"

interface Seen {
  readonly id: string
  readonly content: string
}

interface JobState {
  announced: boolean
  endedAt: number | undefined
}

const contentOf = (frame: Frame) => JSON.stringify([frame.type, frame.job_id, frame.payload])

/**
 * One session over all its transports, as its client saw it. Every frame is checked on arrival against
 * what must hold always; the breaches are collected and fail the test that made them.
 */
export class SessionRecord {
  id = ""
  resumeToken = ""
  version = "1.1"
  /** The newest `event_seq` received without gap. */
  lastSeq = 0
  /** Set when an answer to a submit may have been lost with a transport: its job is then unannounced. */
  answersLost = false
  readonly violations: Array<string> = []
  private readonly seen = new Map<number, Seen>()
  private readonly seqOfId = new Map<string, number | undefined>()
  private readonly jobs = new Map<string, JobState>()
  private readonly rejections = new Set<string>()
  private readonly accepts = new Set<string>()

  /**
   * Takes one frame that arrived on a transport on which `expected` is the next `event_seq`. Returns the
   * `event_seq` to expect next.
   */
  observe(frame: Frame, expected: number): number {
    this.violations.push(...frameViolations(frame, this.version))
    if (this.id !== "" && frame.session_id !== this.id) {
      this.breach(frame, `session_id is not ${this.id}`)
    }
    this.announce(frame)
    const seq = frame.event_seq
    if (!isNumbered(frame) || seq === undefined) {
      if (this.seqOfId.has(frame.id)) this.breach(frame, "id was used before")
      this.seqOfId.set(frame.id, undefined)
      return expected
    }
    const before = this.seen.get(seq)
    if (seq < expected && before !== undefined && this.isRepeatedRejection(frame)) return expected
    if (seq !== expected) this.breach(frame, `event_seq ${seq} where ${expected} was due`)
    if (before !== undefined) this.compare(frame, before)
    else this.first(frame, seq)
    return seq + 1
  }

  private breach(frame: Frame, sentence: string) {
    this.violations.push(
      `${frame.type} seq ${frame.event_seq ?? "-"} job ${frame.job_id ?? "-"}: ${sentence}`
    )
  }

  private announce(frame: Frame) {
    const job = frame.job_id
    if (job === undefined || (frame.type !== "job.accepted" && frame.type !== "job.subscribed")) return
    const request = String(frame.payload.request_id)
    // The same accept again announces nothing new; a second observation starts over.
    const again = this.accepts.has(request)
    this.accepts.add(request)
    const state = this.jobs.get(job)
    if (state === undefined) this.jobs.set(job, { announced: true, endedAt: undefined })
    else if (!again) Object.assign(state, { announced: true, endedAt: undefined })
  }

  /** A refused submit sent again may be answered with the very same `job.error`. */
  private isRepeatedRejection(frame: Frame): boolean {
    return frame.type === "job.error" && this.rejections.has(String(frame.payload.details?.["request_id"]))
  }

  private compare(frame: Frame, before: Seen) {
    if (frame.id !== before.id) this.breach(frame, `replayed with id ${frame.id} instead of ${before.id}`)
    if (contentOf(frame) !== before.content) this.breach(frame, "replayed with another content")
  }

  private first(frame: Frame, seq: number) {
    if (this.seqOfId.has(frame.id)) this.breach(frame, "id was used before")
    this.seqOfId.set(frame.id, seq)
    this.seen.set(seq, { id: frame.id, content: contentOf(frame) })
    if (seq === this.lastSeq + 1) this.lastSeq = seq
    const job = frame.job_id ?? ""
    const state = this.jobs.get(job) ?? { announced: false, endedAt: undefined }
    this.jobs.set(job, state)
    const request = frame.payload.details?.["request_id"]
    const rejected = frame.type === "job.error" && request !== undefined
    if (rejected) this.rejections.add(String(request))
    if (!state.announced && !rejected && !this.answersLost) this.breach(frame, "event before job.accepted")
    if (state.endedAt !== undefined && !this.isRepeatedRejection(frame)) {
      this.breach(frame, `follows the job's terminal message ${state.endedAt}`)
    }
    if (isTerminal(frame)) state.endedAt = seq
  }
}
