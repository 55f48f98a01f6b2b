/**
 * Begins the jobs that wait when their turn has come, and ends those whose lease is over before that. Two fibers do so for
 * all of them: one that begins, and one that sleeps until the next time that matters.
 */
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { Signal } from "../../../services/runtime/Signal.js"
import type { Reopen } from "../durable/Reopening.js"
import { resolve } from "../durable/Rerun.js"
import type { JobParts } from "../JobParts.js"
import { sleepUntil } from "../Limits.js"
import type { Ending } from "../LiveJob.js"
import * as Terminal from "../Terminal.js"
import { begin } from "./Beginning.js"
import { QueuedJob, type QueuedRecord } from "./Queue.js"

/** Jobs that are begun, or ended, at once, between two turns of the event loop. */
const atOnce = 32

/** Puts a job in line that the last process had accepted and not begun. */
export const restore = ({ now, registry, running }: JobParts, record: QueuedRecord): Effect.Effect<void> =>
  Effect.map(Effect.option(resolve(registry, record.agent)), (agent) => {
    const concurrency = agent._tag === "Some" ? agent.value.concurrency : undefined
    running.queue.add(new QueuedJob(record, undefined, concurrency), now())
  })

/** Ends a job that has not begun; `acknowledge` is called when its end is stored, before that can be read. */
export const end = (
  parts: JobParts,
  job: QueuedJob,
  ending: Ending,
  acknowledge: ReadonlyArray<() => void> = []
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { log, now, options, running } = parts
    if (job.ending !== undefined) {
      job.ending.push(...acknowledge)
      return Effect.void
    }
    const answers = [...acknowledge]
    job.ending = answers
    running.queue.withdraw(job)
    const terminal = Terminal.ended(ending, job.record, now(), options.maxOutboundFrameBytes)
    const record = () => {
      const { queued: _, ...rest } = job.record
      return rest
    }
    const stored = () => {
      running.queue.remove(job)
      for (const answer of answers) answer()
    }
    return Terminal.untilStored(
      log.holding(job.record, (opened) =>
        Effect.gen(() =>
          Terminal.write(parts, opened, job.session ?? noOwner, () => terminal, now(), record, stored)
        )
      ),
      running
    ).pipe(Effect.ignoreLogged)
  })

const noOwner = { send: () => {} }

/** Ends those of the waiting jobs that are meant. */
export const endAll = (
  parts: JobParts,
  ending: Ending,
  isMeant: (job: QueuedJob) => boolean = () => true
): Effect.Effect<void> =>
  Effect.forEach([...parts.running.queue.all].filter(isMeant), (job) => end(parts, job, ending), {
    concurrency: atOnce,
    discard: true
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
            Effect.logError(`${job.jobId} could not be begun; the next start tries again`, cause)
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
      else yield* Effect.forkDaemon(end(parts, job, { _tag: "LeaseExpired" }))
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
    for (const loop of [beginning, Effect.forever(keepTime(parts, earlier))])
      yield* Effect.forkScoped(
        Effect.tapErrorCause(loop, (cause) => Effect.logError("jobs that wait are not begun any more", cause))
      )
  })
