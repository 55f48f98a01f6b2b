/**
 * Calls hooks: each call is stored in the commit of the event that it tells of, and dropped when it succeeded or is given
 * up. No commit waits for one, and no job.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import type { ArcpError, InternalError } from "../../../protocol/Errors.js"
import { parseJson } from "../../../protocol/Json.js"
import type { JobStatus } from "../../../protocol/Message.js"
import { HookError, type Hooks } from "../../../services/jobs/Hooks.js"
import type { StoredCall } from "../../../services/jobs/StoredCall.js"
import type { EventLog, HookTold } from "../../../services/log/EventLog.js"
import { families } from "../../../services/runtime/Metrics.js"
import type { Options } from "../../../services/runtime/RuntimeOptions.js"
import { Signal } from "../../../services/runtime/Signal.js"
import { within } from "../../../services/runtime/within.js"
import {
  type HookEvent,
  type JobRecord,
  Op,
  type Owner,
  type Store,
  type StoreError
} from "../../../services/store/Store.js"
import { storedCall } from "../../store/intact.js"
import * as Faults from "../Faults.js"
import { HookQueue, type OwedCall } from "./HookQueue.js"

/** What calls hooks. */
export interface HookCalls {
  /** Each returns what is stored with an event; nothing when no hook is to be called. */
  readonly waiting: (
    record: JobRecord,
    at: number,
    inputId: string,
    until: number | undefined
  ) => HookTold | undefined
  readonly ended: (
    record: () => JobRecord,
    at: number,
    terminal: { readonly status: JobStatus; readonly outcome: Exit.Exit<unknown, ArcpError> }
  ) => HookTold | undefined
  readonly parked: (record: JobRecord, at: number, reason: string) => HookTold | undefined
  /**
   * This node has taken jobs of others, and makes the calls that are owed for them: some may be made twice, under the same id. They
   * are read beside whoever says so, as often as it takes.
   */
  readonly took: (jobIds: ReadonlySet<string>) => Effect.Effect<void>
  /**
   * This node makes the calls that are owed for jobs that have ended, or are not there any more, of nodes that are none of these:
   * one does for all.
   */
  readonly inherit: (alive: ReadonlySet<string>) => Effect.Effect<void, InternalError>
  /** Jobs were dropped because somebody wanted it, with what was owed: nobody is told of them any more. */
  readonly forget: (jobIds: ReadonlyArray<string>) => void
}

/** What calls of hooks are made of. */
export interface HookParts {
  readonly hooks: Hooks["Type"]
  readonly log: Pick<EventLog["Type"], "commit">
  readonly store: Pick<Store["Type"], "events" | "hookEvents" | "job" | "jobPlaces">
  /** The name of this node, where it is one: others make the calls for their jobs. */
  readonly node: string | undefined
  readonly options: Pick<Options, "hookPatience" | "maxHookEvents">
  readonly now: () => number
  /** Milliseconds since an arbitrary start, for pauses: a wall clock that is set back makes none longer. */
  readonly elapsed: () => number
}

/** Calls that run at once. */
const atOnce = 8
/** Failures in a row after which one call at a time is tried: what is called is not there. */
const maxStreak = 8
const page = 500

const longestPause = Duration.toMillis("5 minutes")
/** After failures in a row. */
const longestRest = Duration.toMillis("1 minute")
/** How long one call may take: those that hang must not keep the places of all. */
const longestCall = Duration.seconds(60)
const lastDrop = Duration.seconds(2)
/** Before what could not be dropped is tried again. */
const dropAgain = Duration.seconds(5)

/** Milliseconds before a call is tried again that has failed so often. */
export const pauseAfter = (tries: number, random: number): number =>
  Math.ceil(Math.min(longestPause, 1_000 * 2 ** Math.min(tries - 1, 16)) * (0.8 + 0.4 * random))

/** Calls the hook that is for what is stored. */
const calling = (
  { hooks, store }: HookParts,
  { jobId, seq, stored }: OwedCall
): Effect.Effect<void, HookError> => {
  const payload: Effect.Effect<unknown, InternalError> = Effect.map(
    Faults.storage(store.events(jobId, seq, 1)),
    ([event]) => (event?.seq === seq ? parseJson(event.payload) : undefined)
  )
  const found = { id: `msg_${jobId.replace(/^job_/, "")}_${seq}`, jobId, payload }
  switch (stored.kind) {
    case "waiting":
      return hooks.onWaiting?.({ ...stored, ...found }) ?? Effect.void
    case "ended":
      return hooks.onEnded?.({ ...stored, ...found }) ?? Effect.void
    case "parked":
      return hooks.onParked?.({ ...stored, ...found }) ?? Effect.void
  }
}

/** A call, by what the store finds it by. */
type Called = Omit<HookEvent, "text">

/**
 * Drops from the store what is owed no more, as much at once as there is. What could not be dropped is put back. Returns whether it
 * was. A node states with which epochs the jobs are there.
 */
const drop = ({ log, node, store }: HookParts, settled: Array<Called>): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    if (settled.length === 0) return Effect.succeed(true)
    const events = settled.splice(0).map(({ jobId, seq }) => ({ jobId, seq }))
    const jobIds = [...new Set(events.map(({ jobId }) => jobId))]
    const owners: Effect.Effect<ReadonlyArray<Owner>, StoreError> = node === undefined
      ? Effect.succeed([])
      : Effect.map(store.jobPlaces(jobIds), (places) =>
          Array.from(places, ([job, { epoch }]) => ({ job, epoch }))
        )
    return owners.pipe(
      Effect.flatMap((owners) => log.commit([Op.DropHookEvents({ events })], owners)),
      Effect.as(true),
      Effect.catchAll((error) => {
        settled.unshift(...events)
        return Effect.as(
          Effect.logWarning("calls of hooks that were made could not be dropped", error.message),
          false
        )
      })
    )
  })

/** What is given up, to be said: a sentence for all of a minute. */
class GivenUp {
  private readonly changed = new Signal()
  private count = 0
  private last: readonly [call: OwedCall, why: string] | undefined

  add(call: OwedCall, why: string): void {
    families.hookCalls.update(1, "given_up")
    this.count++
    this.last = [call, why]
    this.changed.give()
  }
  readonly say: Effect.Effect<never> = Effect.gen(this, function* () {
    yield* this.changed.wait
    if (this.last === undefined) return
    const [{ jobId, stored }, why] = this.last
    const more = this.count === 1 ? "" : `, and of ${this.count - 1} more`
    this.count = 0
    yield* Effect.logWarning(`nobody was told of ${jobId} (${stored.kind})${more}: ${why}`)
    yield* Effect.sleep("1 minute")
  }).pipe(Effect.forever)
}

/** Returns of which of some jobs the calls are wanted. */
type Wanted = (jobIds: ReadonlySet<string>) => Effect.Effect<ReadonlySet<string>, StoreError>

const among =
  (wanted: ReadonlySet<string>): Wanted =>
  (jobIds) =>
    Effect.succeed(new Set([...jobIds].filter((jobId) => wanted.has(jobId))))

/** Goes through what is owed, for as long as the scope. */
class Caller {
  private readonly queue: HookQueue
  private readonly changed = new Signal()
  private readonly settled: Array<Called> = []
  private readonly settling = new Signal()
  private readonly givenUp = new GivenUp()
  private busy = 0
  /** Failures in a row, and when the next try may be. */
  private streak = 0
  private restUntil = 0

  constructor(private readonly parts: HookParts) {
    this.queue = new HookQueue(parts.options.maxHookEvents)
  }

  add({ jobId, seq }: Called, stored: StoredCall): void {
    for (const lost of this.queue.add({ jobId, seq, stored, tries: 0 }))
      this.giveUp(lost, "more calls are owed than maxHookEvents")
    this.changed.give()
  }
  forget(jobId: string): void {
    this.queue.forget(jobId)
  }
  private giveUp(call: OwedCall, why: string): void {
    this.drop(call)
    this.givenUp.add(call, why)
  }
  private drop(call: Called): void {
    this.settled.push(call)
    this.settling.give()
  }

  /** Calls one, and decides what becomes of it. */
  private attempt(call: OwedCall): Effect.Effect<void> {
    return Effect.gen(this, function* () {
      // One that cannot be interrupted goes on beside, and keeps nobody's place.
      const exit = yield* Effect.disconnect(Effect.suspend(() => calling(this.parts, call))).pipe(
        Effect.timeoutFail({ duration: longestCall, onTimeout: () => tooLong }),
        Effect.exit
      )
      call.tries++
      if (Exit.isFailure(exit)) return yield* this.failed(call, exit.cause)
      this.streak = this.restUntil = 0
      this.queue.settle(call)
      this.drop(call)
      families.hookCalls.update(1, "succeeded")
    }).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          this.busy--
          this.changed.give()
        })
      )
    )
  }
  private failed(call: OwedCall, cause: Cause.Cause<HookError>): Effect.Effect<void> {
    const { elapsed, now, options } = this.parts
    return Effect.gen(this, function* () {
      const failure = Option.getOrUndefined(Cause.failureOption(cause))
      if (failure === undefined) yield* Effect.logError("a hook died", cause)
      const { message, retryAfter = 0, retryable = true } = failure ?? died
      if (!retryable || now() - call.stored.at >= Duration.toMillis(options.hookPatience)) {
        this.queue.settle(call)
        return this.giveUp(call, message)
      }
      const pause = pauseAfter(call.tries, yield* Random.next)
      this.queue.again(call, elapsed() + Math.max(pause, Math.min(retryAfter, longestPause)))
      this.streak++
      if (this.streak >= maxStreak)
        this.restUntil = elapsed() + Math.min(longestRest, pauseAfter(this.streak - maxStreak + 1, 0.5))
      if (this.streak === 1) yield* Effect.logWarning(`a hook failed, and is called again: ${message}`)
    })
  }

  /** What earlier processes of this node owe; where it is none, all. */
  private readonly own: Wanted = (jobIds) => {
    const { node, store } = this.parts
    return node === undefined
      ? Effect.succeed(jobIds)
      : Effect.map(
          store.jobPlaces([...jobIds]),
          (places) => new Set([...jobIds].filter((jobId) => places.get(jobId)?.node === node))
        )
  }

  /** What nodes owe that are none of these, for jobs that nobody takes. */
  ofGone(alive: ReadonlySet<string>): Wanted {
    const { store } = this.parts
    return (jobIds) =>
      Effect.gen(function* () {
        const places = yield* store.jobPlaces([...jobIds])
        const found = new Set<string>()
        for (const jobId of jobIds) {
          const node = places.get(jobId)?.node
          if (node !== undefined && alive.has(node)) continue
          const record = yield* store.job(jobId)
          if (record === undefined || record.endedAt !== undefined) found.add(jobId)
        }
        return found
      })
  }

  /** Adds what is owed for those of the jobs that are wanted. */
  load(wanted: Wanted = this.own): Effect.Effect<void, InternalError> {
    return Effect.gen(this, function* () {
      for (let after = { jobId: "", seq: 0 }; ; ) {
        const events = yield* Faults.storage(this.parts.store.hookEvents(after, page))
        const jobIds = new Set(events.map(({ jobId }) => jobId))
        const ours = jobIds.size === 0 ? jobIds : yield* Faults.storage(wanted(jobIds))
        for (const event of events) {
          if (!ours.has(event.jobId)) continue
          const stored = storedCall(event.text)
          if (stored !== undefined) this.add(event, stored)
          else {
            yield* Effect.logError(`nobody is told of ${event.jobId}: what is stored of the call is damaged`)
            families.hookCalls.update(1, "given_up")
            this.drop(event)
          }
        }
        const last = events.at(-1)
        if (last === undefined || events.length < page) return
        after = last
      }
    })
  }

  /** The same, as often as it takes. */
  loaded(wanted?: Wanted): Effect.Effect<void> {
    return Effect.tapErrorCause(this.load(wanted), (cause) =>
      Effect.logError("calls of hooks that are owed could not be read; trying again", cause)
    ).pipe(Effect.retry(Schedule.spaced("5 seconds")), Effect.orDie)
  }

  /** Waits until something may be called that may not be now. */
  private wait(at: number, hasRoom: boolean): Effect.Effect<void> {
    const { dueAt } = this.queue
    if (!hasRoom) return this.changed.wait
    if (this.restUntil > at) return Effect.sleep(this.restUntil - at)
    return Number.isFinite(dueAt)
      ? Effect.raceFirst(this.changed.wait, Effect.sleep(Math.max(0, dueAt - at)))
      : this.changed.wait
  }

  /** Calls what is due, several at once; one at a time while what is called is not there. */
  private readonly callDue = Effect.gen(this, function* () {
    const running = yield* FiberSet.make<void>()
    for (;;) {
      const at = this.parts.elapsed()
      const hasRoom = this.busy < (this.streak >= maxStreak ? 1 : atOnce)
      const call = hasRoom && this.restUntil <= at ? this.queue.take(at) : undefined
      if (call === undefined) yield* this.wait(at, hasRoom)
      else {
        this.busy++
        yield* FiberSet.run(running, this.attempt(call))
      }
    }
  })

  readonly start: Effect.Effect<void, never, Scope> = Effect.gen(this, function* () {
    const { parts, settled, settling } = this
    // The first to be there and the last to go: what was called is not to be called again.
    yield* Effect.addFinalizer(() => within(drop(parts, settled), lastDrop))
    const dropAll = drop(parts, settled).pipe(
      Effect.tap((dropped) => (dropped ? Effect.void : Effect.sleep(dropAgain))),
      Effect.repeat({ until: (dropped) => dropped })
    )
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(settling.wait, dropAll)))
    yield* Effect.forkScoped(this.givenUp.say)
    yield* Effect.forkScoped(Effect.scoped(Effect.zipRight(this.loaded(), this.callDue)))
  })
}

const codeOf = (outcome: Exit.Exit<unknown, ArcpError>): string | undefined =>
  Exit.isFailure(outcome) ? Option.getOrUndefined(Cause.failureOption(outcome.cause))?.code : undefined

const died = new HookError({ message: "the hook died" })
const tooLong = new HookError({ message: "the hook took longer than a minute" })

/** Returns what calls hooks, for as long as the scope. */
export const make = (parts: HookParts): Effect.Effect<HookCalls, never, Scope> =>
  Effect.gen(function* () {
    const { onEnded, onParked, onWaiting } = parts.hooks
    const caller = new Caller(parts)
    const told = ({ jobId }: JobRecord, stored: StoredCall): HookTold => ({
      text: JSON.stringify(stored),
      committed: (seq) => caller.add({ jobId, seq }, stored)
    })
    const facts = ({ agent, parentJobId, principal, traceId }: JobRecord, at: number) => ({
      at,
      agent,
      principal,
      traceId,
      parentJobId
    })
    const isCalled = onEnded !== undefined || onParked !== undefined || onWaiting !== undefined
    const run = yield* FiberSet.makeRuntime<never>()
    if (isCalled) yield* caller.start
    return {
      took: (taken) =>
        Effect.sync(() => {
          if (isCalled && taken.size > 0) run(caller.loaded(among(taken)))
        }),
      inherit: (alive) => (isCalled ? caller.load(caller.ofGone(alive)) : Effect.void),
      waiting: (record, at, inputId, expiresAt) =>
        onWaiting === undefined
          ? undefined
          : told(record, { kind: "waiting", ...facts(record, at), inputId, expiresAt }),
      ended: (recordNow, at, { outcome, status }) => {
        if (onEnded === undefined) return undefined
        const record = recordNow()
        if (record.parentJobId !== undefined) return undefined
        const { createdAt } = record
        return told(record, { kind: "ended", ...facts(record, at), status, code: codeOf(outcome), createdAt })
      },
      parked: (record, at, reason) =>
        onParked === undefined ? undefined : told(record, { kind: "parked", ...facts(record, at), reason }),
      forget: (jobIds) => {
        for (const jobId of jobIds) caller.forget(jobId)
      }
    }
  })
