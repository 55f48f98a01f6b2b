/**
 * Begins the jobs that wait when their turn has come, and ends those whose lease is over before that. Two fibers do so for
 * all of them: one that begins, and one that sleeps until the next time that matters. On one of several nodes a third looks for who
 * waits for others' jobs.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import { isTaken } from "../../../services/log/taken.js"
import { Signal } from "../../../services/runtime/Signal.js"
import type { JobRecord } from "../../../services/store/Store.js"
import type { Reopen } from "../durable/Reopening.js"
import { resolve } from "../durable/Rerun.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import { sleepUntil } from "../Limits.js"
import type { CancelAnswer, Ending } from "../LiveJob.js"
import * as Terminal from "../Terminal.js"
import { begin } from "./Beginning.js"
import { QueuedJob, type QueuedRecord } from "./Queue.js"

/** Between two looks at whether what others have leaves room again. */
const betweenLooks = Duration.seconds(1)

/** Jobs that are begun, or ended, at once, between two turns of the event loop. */
const atOnce = 32

/** Puts a job in line that the last process, or a node that is gone, had accepted and not begun; its session may be here before it. */
export const restore = (
  { now, owners, registry, running }: JobParts,
  record: QueuedRecord
): Effect.Effect<void> =>
  Effect.map(Effect.option(resolve(registry, record.agent)), (agent) => {
    const concurrency = agent._tag === "Some" ? agent.value.concurrency : undefined
    running.queue.add(new QueuedJob(record, owners.session(record.sessionId), concurrency), now())
  })

/**
 * Stores the end of a job that waits no more, and answers those who wait for that, before it can be read. One that is another node's by
 * now waits there, and has not ended.
 */
const storeEnd = ({ job, answers, ending }: Withdrawn, parts: JobParts): Effect.Effect<void> => {
  const { log, now, options, running } = parts
  const terminal = Terminal.ended(ending, job.record, now(), options.maxOutboundFrameBytes)
  const at = now()
  const record = () => {
    const { queued: _, ...rest } = job.record
    // Whoever cancels it again is told what for it was.
    return ending._tag === "Cancel" ? { ...rest, cancelRequested: { reason: ending.reason, at } } : rest
  }
  let isOver = false
  const over = (answer: (waiting: CancelAnswer) => void) => {
    if (isOver) return
    isOver = true
    running.queue.remove(job)
    for (const waiting of answers) answer(waiting)
  }
  const stored = (isOurs: boolean) => {
    if (isOurs) over(({ given }) => given(record()))
  }
  return Terminal.untilStored(
    log.holding(job.record, (opened) =>
      Effect.gen(() =>
        Terminal.write(parts, opened, job.session ?? noOwner, () => terminal, now(), record, stored)
      )
    ),
    running
  ).pipe(Effect.ignoreLogged, Effect.ensuring(Effect.sync(() => over(({ refused }) => refused(Faults.left)))))
}

const noOwner = { send: () => {} }

/** A job that ends before it has begun. */
interface Withdrawn {
  readonly job: QueuedJob
  readonly ending: Ending
  readonly answers: ReadonlyArray<CancelAnswer>
}

/** Takes a job out of its line: in this step it is decided that its end is written here, and not by whoever runs it. */
const withdraw = (
  { running }: JobParts,
  job: QueuedJob,
  ending: Ending,
  answers: Array<CancelAnswer>
): Withdrawn => {
  job.ending = answers
  running.queue.withdraw(job)
  return { job, ending, answers }
}

/**
 * Ends a job if it has not begun, in the background; `answer` is given when that is stored, before it can be read. Returns
 * whether it waited: one that has begun ends like any other that runs.
 */
export const end = (
  parts: JobParts,
  jobId: string,
  ending: Ending,
  answer?: CancelAnswer
): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const job = parts.running.queue.get(jobId)
    if (job === undefined) return Effect.succeed(false)
    const answers = answer === undefined ? [] : [answer]
    if (job.ending === undefined)
      return Effect.as(parts.underway.fork(storeEnd(withdraw(parts, job, ending, answers), parts)), true)
    job.ending.push(...answers)
    return Effect.succeed(true)
  }).pipe(Effect.uninterruptible)

/** Ends those of the waiting jobs that are meant, in the background. None of them begins any more when this has returned. */
export const endAll = (
  parts: JobParts,
  ending: Ending,
  isMeant: (record: JobRecord) => boolean = () => true
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const meant = [...parts.running.queue.all].filter(
      (job) => job.ending === undefined && isMeant(job.record)
    )
    // All of them at once: while some are stored, places come free that the others could take.
    const withdrawn = meant.map((job) => withdraw(parts, job, ending, []))
    return parts.underway.fork(
      Effect.forEach(withdrawn, (one) => storeEnd(one, parts), { concurrency: atOnce, discard: true })
    )
  }).pipe(Effect.asVoid, Effect.uninterruptible)

/** Lets go of a job that was to begin, and that another node has by now. */
const goesOnElsewhere = ({ running }: JobParts, job: QueuedJob): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (running.queue.get(job.jobId) === job && job.ending === undefined) running.queue.remove(job)
    return Effect.logInfo(`${job.jobId} does not begin here: another node has it`)
  })

/** Begins whoever may, as many as there are places. */
const beginAll = (parts: JobParts, reopen: Reopen) =>
  Effect.gen(function* () {
    const { running, share } = parts
    while (!running.stopping) {
      const job = running.queue.places.next()
      if (job === undefined) return
      yield* share
      yield* Terminal.untilStored(begin(parts, reopen, job), running).pipe(
        Effect.catchAllCause((cause) =>
          Effect.zipRight(
            Effect.sync(() => running.queue.places.release(job)),
            Option.exists(Cause.failureOption(cause), isTaken)
              ? goesOnElsewhere(parts, job)
              : Effect.logError(`${job.jobId} could not be begun; the next start tries again`, cause)
          )
        )
      )
    }
  })

/** Does what is due, and returns when something else is. */
const keepTime = (parts: JobParts, earlier: Signal) =>
  Effect.gen(function* () {
    const { now, running, turn } = parts
    const { queue } = running
    const at = queue.nextAt
    yield* at === undefined ? earlier.wait : Effect.raceFirst(sleepUntil(at), earlier.wait)
    for (let done = 1; ; done++) {
      const appointment = queue.due(now())
      if (appointment === undefined || running.stopping) return
      const { job, what } = appointment
      if (what === "start") queue.places.add(job)
      else yield* end(parts, job.jobId, { _tag: "LeaseExpired" })
      if (done % 1_000 === 0) yield* turn.next
    }
  })

/** Begins and ends jobs that wait, from `open` on, in the background. */
export const make = (
  parts: JobParts,
  reopen: Reopen,
  /** Returns when the jobs of the last process that are run again have their places. */
  open: Effect.Effect<void>
): Effect.Effect<void, never, Scope> =>
  Effect.gen(function* () {
    const { queue } = parts.running
    const coming = new Signal()
    const earlier = new Signal()
    queue.onComing = () => coming.give()
    queue.onEarlier = () => earlier.give()
    const beginning = Effect.gen(function* () {
      yield* open
      queue.isOpen = true
      yield* Effect.forever(Effect.zipRight(beginAll(parts, reopen), coming.wait))
    })
    // What others have is known when it is asked for: nobody tells when there is less of it.
    const widening = Effect.forever(
      Effect.delay(
        Effect.sync(() => queue.places.widen()),
        betweenLooks
      )
    )
    const loops = [beginning, Effect.forever(keepTime(parts, earlier))]
    for (const loop of parts.cluster === undefined ? loops : [...loops, widening])
      yield* Effect.forkScoped(
        Effect.tapErrorCause(loop, (cause) => Effect.logError("jobs that wait are not begun any more", cause))
      )
  })
