/** What a client must have been sent, over all its connections: each number of a session, and the same under it each time. */
import type { Frame } from "./Faults.js"

/** What is looked at of a frame. */
interface Numbered {
  readonly type: string
  readonly session_id: string
  readonly job_id?: string | undefined
  readonly event_seq?: number | undefined
}

/** Returns what the client was sent, frame by frame. */
export const toClient = (frames: ReadonlyArray<Frame>): ReadonlyArray<Numbered> =>
  frames.flatMap(({ text, to }) => (to === "client" ? [JSON.parse(text)] : []))

/** Notes numbers of a session that are missing, or that were given twice. */
export const numberedOnce = (frames: ReadonlyArray<Frame>, into: Array<string>): void => {
  const sessions = new Map<string, Map<number, string>>()
  for (const { event_seq, job_id, session_id, type } of toClient(frames)) {
    if (event_seq === undefined) continue
    const seen = sessions.get(session_id) ?? new Map<number, string>()
    sessions.set(session_id, seen)
    const what = `${type} of ${job_id}`
    const before = seen.get(event_seq)
    if (before !== undefined && before !== what)
      into.push(`event_seq ${event_seq} was ${before}, and is ${what}`)
    seen.set(event_seq, what)
  }
  for (const seen of sessions.values())
    for (let i = 1; i <= seen.size; i++) if (!seen.has(i)) into.push(`event_seq ${i} was not sent`)
}
