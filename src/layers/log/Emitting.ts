/** How events get into the logs of jobs: whatever a job emits, and the one message that ends it. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Budget from "../../protocol/Budget.js"
import type { InternalError } from "../../protocol/Errors.js"
import type { JobLog, NewEvent } from "../../services/log/EventLog.js"
import { isTaken, takenAway } from "../../services/log/taken.js"
import { Pending } from "../../services/runtime/Pending.js"
import { type JobRecord, Op } from "../../services/store/Store.js"
import type { Done } from "./CommitQueue.js"
import { JobLoad, type JobState, jobStateOf } from "./JobState.js"
import type { LogParts } from "./LogParts.js"
import type { Retention } from "./Retention.js"

/** What an emitter waits for once its event has its place. */
type Placed = Effect.Effect<void, InternalError>

/** Called when a consumer of `Committed` need not keep room for an event any more. */
type Settled = () => void

/**
 * Keeps the jobs above one in memory until what is returned is called: a cost counts for them when it is committed, whoever has let go of
 * them meanwhile.
 */
const keepAbove = ({ holds }: LogParts["live"], { account }: JobState): (() => void) => {
  const above: Array<JobState> = []
  for (let up = account?.parent; up !== undefined; up = up.parent) above.push(up.job)
  for (const job of above) holds.pin(job)
  return () => {
    for (const job of above) holds.unpin(job)
  }
}

/**
 * Returns what gives an event its place, and returns what its emitter waits for: the commit, or, with an event that
 * nobody waits for, that there is room for more.
 */
const placing = ({ committer, live, pace, windows }: LogParts) => {
  /** The emitter waits for the commit. */
  const awaited = (job: JobState, event: NewEvent, settled: Settled | undefined): Placed => {
    let exit: Exit.Exit<void, InternalError> | undefined
    let resume: Done | undefined
    const release = event.cost === undefined ? undefined : keepAbove(live, job)
    const done: Done = (committed) => {
      release?.()
      settled?.()
      exit = committed
      resume?.(committed)
    }
    windows.enter(job, event)
    committer.enqueue({ _tag: "Append", job, event, returned: false, done })
    return Effect.async((wake) => {
      if (exit !== undefined) return wake(exit)
      resume = wake
      return Effect.sync(() => windows.abandon(job, event))
    })
  }

  /** The emitter goes on, unless what it, or all of them, have emitted is too much already. */
  const returned = (job: JobState, event: NewEvent, settled: Settled | undefined): Placed => {
    windows.enter(job, event)
    committer.enqueue({ _tag: "Append", job, event, returned: true, done: settled })
    return windows.isOpen(job) ? Effect.void : windows.wait(job, event)
  }

  return (job: JobState, given: NewEvent, settled?: Settled): Placed => {
    const journal: NewEvent["journal"] | Placed =
      windows.refusal(job) ??
      committer.over() ??
      (job.isElsewhere ? takenAway : undefined) ??
      given.makeJournal?.()
    if (Effect.isEffect(journal)) {
      settled?.()
      return journal
    }
    const event = journal === undefined ? given : { ...given, journal }
    // Whoever asks for the budget right after a cost must see it counted.
    const waits = event.awaited === true || event.cost !== undefined
    const placed = waits ? awaited(job, event, settled) : returned(job, event, settled)
    return pace.holds(job) ? Effect.zipRight(placed, pace.wait(job)) : placed
  }
}

/** An emit that waits in a line. */
interface Waiting {
  /** Called when it is the first. */
  first?: (() => void) | undefined
}

/** Lets emits wait, before they take a place, until the retention has made room for their job: in their order. */
class Lines {
  private readonly lines = new Map<JobState, Set<Waiting>>()

  constructor(private readonly retention: Pick<Retention, "isBlocked" | "room">) {}

  /** Returns whether whoever emits now has to wait. */
  holds(job: JobState): boolean {
    return this.retention.isBlocked(job) || (this.lines.size > 0 && this.lines.has(job))
  }
  /** Waits, and calls `place` when it is this one's turn. */
  wait<A>(job: JobState, isEnded: () => boolean, place: () => A): Effect.Effect<A> {
    const { retention } = this
    return Effect.suspend(() => {
      const line = this.lines.get(job) ?? new Set<Waiting>()
      this.lines.set(job, line)
      const own: Waiting = {}
      line.add(own)
      const isFirst = Effect.async<void>((resume) => {
        if (firstOf(line) === own) resume(Effect.void)
        else own.first = () => resume(Effect.void)
      })
      const room = Effect.whileLoop({
        while: () => !isEnded() && retention.isBlocked(job),
        body: () => retention.room(job),
        step: () => {}
      })
      return isFirst.pipe(
        Effect.zipRight(room),
        Effect.map(place),
        Effect.ensuring(Effect.sync(() => this.leave(job, line, own)))
      )
    })
  }
  private leave(job: JobState, line: Set<Waiting>, own: Waiting): void {
    line.delete(own)
    if (line.size === 0) this.lines.delete(job)
    else firstOf(line)?.first?.()
  }
}

/** Before a cost is charged again that could not be. */
const chargeAgain = Duration.seconds(1)

const firstOf = <A>(set: ReadonlySet<A>): A | undefined => {
  for (const first of set) return first
  return undefined
}

/** Returns what appends to the log of a job: `EventLog.append`, `flush` and `end`. */
export const make = (parts: LogParts) => {
  const { committer, live, publisher, retention } = parts
  const place = placing(parts)
  const lines = new Lines(retention)

  /**
   * Nothing gets into the log of a job that has ended any more, but what it still costs is paid by those above it; of one that
   * goes on later it is discarded.
   */
  const charge = (log: JobLog, job: JobState, { cost }: NewEvent): Placed => {
    if (cost === undefined || (log instanceof JobLoad && log.isLeft)) return Effect.void
    const what = `a cost of ${Budget.format(cost.amount)} ${cost.currency}`
    // Whoever emits it has no handler that could do it again: it is tried for as long as anything is committed here.
    const isTriedAgain = (error: InternalError) => !isTaken(error) && committer.over() === undefined
    const charging = Effect.acquireUseRelease(
      Effect.sync(() => keepAbove(live, job)),
      () =>
        Effect.retry(
          committer.change((tx) => tx.chargeAbove(job, cost)),
          { while: isTriedAgain, schedule: Schedule.spaced(chargeAgain) }
        ),
      (release) => Effect.sync(release)
    )
    return Effect.logWarning(
      `${what} came after the end of its job; jobs above it that run are charged`
    ).pipe(Effect.annotateLogs({ job: job.jobId, agent: job.agent }), Effect.zipRight(charging))
  }

  /** Gives an event its place as soon as every consumer that must lose nothing has room for it. */
  const admitted = (log: JobLog, job: JobState, event: NewEvent): Placed =>
    Effect.flatten(
      Effect.async<Placed>((resume) =>
        publisher.admit((settled) => {
          if (!log.ended) return resume(Effect.succeed(place(job, event, settled)))
          settled()
          resume(Effect.succeed(charge(log, job, event)))
        })
      )
    )

  const enter = (log: JobLog, job: JobState, event: NewEvent): Placed => {
    if (log.ended) return charge(log, job, event)
    return publisher.suspends && event.ending !== true ? admitted(log, job, event) : place(job, event)
  }

  const append = (log: JobLog, event: NewEvent): Placed =>
    Effect.suspend(() => {
      const job = jobStateOf(log)
      if (log.ended || !lines.holds(job)) return enter(log, job, event)
      const isEnded = () => log.ended
      return Effect.flatten(lines.wait(job, isEnded, () => enter(log, job, event)))
    })

  const flush = (job: JobState): Placed =>
    Effect.suspend((): Placed => {
      const { window } = job
      if (window?.broken !== undefined) return window.broken
      if (window === undefined || window.events === 0) return Effect.void
      return Effect.async((resume) =>
        window.broken !== undefined
          ? resume(window.broken)
          : committer.enqueue({ _tag: "Flush", job, done: resume })
      )
    })

  const end = (
    job: JobState,
    event: NewEvent,
    record: (lastEventSeq: number) => JobRecord,
    onCommit?: (isOurs: boolean) => void
  ) =>
    new Pending<void, InternalError>((done) => {
      const isRead = job.foreignTo !== undefined
      if (!isRead) job.ended = true
      if (job.isElsewhere) {
        // Who reads it here goes on, for as long as it runs there.
        if (!isRead) job.close()
        onCommit?.(false)
        return done(Exit.void)
      }
      let principal = ""
      committer.enqueue({
        _tag: "End",
        job,
        event,
        record: (tx) => {
          const final = record(tx.lastEventSeqOf(job))
          principal = final.principal
          if (onCommit !== undefined) tx.onApply(() => onCommit(true))
          return Op.PutJob({ job: tx.withBudget(job, final) })
        },
        done: (exit) => {
          if (exit._tag === "Success" && !job.taken) retention.ended(job.jobId, principal)
          else if (job.taken) onCommit?.(false)
          done(exit)
        }
      })
    })

  return { append, flush, end }
}
