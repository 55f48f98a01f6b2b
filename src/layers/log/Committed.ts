/**
 * Where the log publishes what it has committed, and where consumers take it from. Publishing is synchronous and never
 * waits: with `suspend` those wait who want to put something into the log (`admit`), in the order in which they came.
 */
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Accepted } from "../../protocol/Message.js"
import { byteLength } from "../../protocol/Utf8.js"
import {
  Committed,
  type CommittedEvent,
  type CommittedJob,
  type Consumer,
  type Options,
  type Subscription
} from "../../services/log/Committed.js"
import { isOwnInterruption } from "../../services/runtime/interruption.js"
import { Signal } from "../../services/runtime/Signal.js"
import { within } from "../../services/runtime/within.js"
import type { JobRecord, StoredEvent } from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"
import { withoutSecrets } from "./secrets.js"
import { patienceMs } from "./ViewState.js"

/** An event as it is published: its payload is parsed when it is asked for. */
class Publication {
  private parsed: unknown

  constructor(
    readonly type: CommittedEvent["type"],
    readonly kind: string,
    readonly job: CommittedJob,
    readonly seq: number,
    readonly text: string,
    readonly audience: string | undefined,
    readonly missed = 0
  ) {}

  get payload(): unknown {
    this.parsed ??= JSON.parse(this.text)
    return this.parsed
  }
  /** Returns the same event, as one that comes after `missed` others that were lost. */
  after(missed: number): Publication {
    return new Publication(this.type, this.kind, this.job, this.seq, this.text, this.audience, missed)
  }
}

/** What waits for one consumer. */
class Tap {
  private waiting: Array<Publication> = []
  private head = 0
  private bytes = 0
  /** Lost since the event that was kept last, or directly before the oldest that waits. */
  private missed = 0
  private ended = false
  private wake: (() => void) | undefined
  /** Lost in all. */
  dropped = 0
  /** Times that its consumer has taken something. */
  taken = 0

  constructor(
    private readonly capacity: number,
    private readonly capacityBytes: number,
    readonly whenFull: NonNullable<Options["whenFull"]>,
    /** Called when there is room again. */
    private readonly roomy: () => void
  ) {}

  private get count(): number {
    return this.waiting.length - this.head
  }
  /** Returns whether there is no room for `more` events. */
  isFull(more: number): boolean {
    return this.count + more > this.capacity || (this.count > 0 && this.bytes >= this.capacityBytes)
  }
  offer(event: Publication): void {
    if (this.ended) return
    if (this.whenFull === "dropNewest" && this.isFull(1)) {
      this.missed++
      this.dropped++
      return
    }
    this.push(event)
    if (this.whenFull === "dropOldest")
      while (this.count > this.capacity || (this.count > 1 && this.bytes > this.capacityBytes)) this.shift()
    this.wake?.()
  }
  private push(event: Publication): void {
    const after = this.whenFull === "dropNewest" ? this.missed : 0
    this.waiting.push(after === 0 ? event : event.after(after))
    this.bytes += byteLength(event.text)
    this.missed -= after
  }
  private shift(): void {
    this.bytes -= byteLength((this.waiting[this.head] as Publication).text)
    this.waiting[this.head++] = undefined as never
    this.missed++
    this.dropped++
    if (this.head <= 1024 || this.head * 2 <= this.waiting.length) return
    this.waiting = this.waiting.slice(this.head)
    this.head = 0
  }
  private takeAll(): Chunk.Chunk<CommittedEvent> {
    const all = this.head === 0 ? this.waiting : this.waiting.slice(this.head)
    this.waiting = []
    this.head = this.bytes = 0
    this.taken++
    if (this.whenFull === "dropOldest" && this.missed > 0) {
      all[0] = (all[0] as Publication).after(this.missed)
      this.missed = 0
    }
    this.roomy()
    // What `type` says of a payload is what was stored under it.
    return Chunk.unsafeFromArray(all as ReadonlyArray<Publication & CommittedEvent>)
  }
  /** Ends the events: nothing more comes, and what waits can still be read. */
  end(): void {
    this.ended = true
    this.wake?.()
  }
  readonly events: Stream.Stream<CommittedEvent> = Stream.repeatEffectChunkOption(
    Effect.async<Chunk.Chunk<CommittedEvent>, Option.Option<never>>((resume) => {
      const next = () => {
        if (this.count > 0) resume(Effect.sync(() => this.takeAll()))
        else if (this.ended) resume(Effect.fail(Option.none()))
        else return
        this.wake = undefined
      }
      this.wake = next
      next()
      return Effect.sync(() => {
        this.wake = undefined
      })
    })
  )
}

const count = (name: string, value: number): number => {
  if (Number.isSafeInteger(value) && value > 0) return value
  throw new Error(`${name} of a consumer of committed events: expected a positive integer, got ${value}`)
}

/** What publishes to consumers, and holds back whoever would flood one that must lose nothing. */
export class Publisher {
  private readonly taps = new Set<Tap>()
  private readonly suspending = new Set<Tap>()
  /** Who waits for room, in the order in which they came. */
  private held = new Set<() => void>()
  /** Let in, and neither published nor given up yet. */
  private admitted = 0
  private ended = false
  /** Given when somebody begins to wait. */
  readonly stalled = new Signal()

  /** Is there any consumer? Whoever publishes asks first. */
  get listening(): boolean {
    return this.taps.size > 0
  }
  /** Is there a consumer that must lose nothing? Then whatever is put into the log passes `admit`. */
  get suspends(): boolean {
    return this.suspending.size > 0
  }
  /** How many wait for room. */
  get holds(): number {
    return this.held.size
  }
  /** Changes whenever a consumer that others wait for takes something. */
  get progress(): number {
    let taken = 0
    for (const tap of this.suspending) taken += tap.taken
    return taken
  }

  /** Publishes that a job was opened; `accepted` is its accept, without credentials. */
  opened(job: JobState, record: JobRecord, accepted: Accepted): void {
    if (this.ended) return
    const of = about(job, record.sessionId)
    const text = withoutSecrets(JSON.stringify(accepted), job.secretValues)
    this.offer(new Publication("job.accepted", "", of, 0, text, undefined))
  }
  /** Publishes events of a job that were committed. */
  publish(job: JobState, events: ReadonlyArray<StoredEvent>): void {
    const of = about(job, job.owner)
    for (const { audience, kind, payload, seq, type } of events) {
      const text = withoutSecrets(payload, job.secretValues)
      this.offer(new Publication(type, type === "job.event" ? kind : "", of, seq, text, audience))
    }
  }
  private offer(event: Publication): void {
    for (const tap of this.taps) tap.offer(event)
  }

  /**
   * Runs `go`, which puts one item into the log, as soon as every consumer that must lose nothing has room for what has
   * been let in. `go` gets what it has to call when the item is committed, or was not. The result takes a `go` back that
   * has not been run.
   */
  admit(go: (settled: () => void) => void): Effect.Effect<void> | void {
    const enter = () => {
      this.admitted++
      go(this.settled)
    }
    if (this.held.size === 0 && !this.isFull()) return enter()
    this.held.add(enter)
    this.stalled.give()
    return Effect.sync(() => {
      this.held.delete(enter)
    })
  }
  private readonly settled = () => {
    this.admitted--
    this.letIn()
  }
  private isFull(): boolean {
    for (const tap of this.suspending) if (tap.isFull(this.admitted + 1)) return true
    return false
  }
  private readonly letIn = () => {
    if (this.letting) return
    this.letting = true
    try {
      for (const enter of this.held) {
        if (this.isFull()) break
        this.held.delete(enter)
        enter()
      }
    } finally {
      this.letting = false
    }
  }
  /** What is let in may settle at once: of thousands, one after the other and not one in the other. */
  private letting = false

  readonly subscribe = (
    options: Options = {}
  ): Effect.Effect<Subscription & { readonly tap: Tap }, never, Scope.Scope> =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const { capacity = 1024, capacityBytes = 8 * 1024 * 1024, whenFull = "suspend" } = options
        const tap = new Tap(
          count("capacity", capacity),
          count("capacityBytes", capacityBytes),
          whenFull,
          this.letIn
        )
        if (this.ended) tap.end()
        this.taps.add(tap)
        if (whenFull === "suspend") this.suspending.add(tap)
        return { tap, events: tap.events, dropped: Effect.sync(() => tap.dropped) }
      }),
      ({ tap }) => Effect.sync(() => this.leave(tap))
    )

  readonly events = (options?: Options): Stream.Stream<CommittedEvent> =>
    Stream.unwrapScoped(Effect.map(this.subscribe(options), ({ events }) => events))

  /** Gives a consumer nothing more. Nobody waits for it any longer. */
  leave(tap: Tap): void {
    tap.end()
    this.taps.delete(tap)
    this.suspending.delete(tap)
    this.letIn()
  }
  /** Ends all consumers: each when it has read what waits for it. */
  end(): void {
    this.ended = true
    for (const tap of this.taps) this.leave(tap)
  }
}

const about = (job: JobState, sessionId: string): CommittedJob => ({
  jobId: job.jobId,
  principal: job.principal,
  agent: job.agent,
  traceId: job.traceId,
  sessionId,
  parentJobId: job.parentJobId
})

/** Says so when a consumer holds up the runtime, once each time that it does. */
const watch = (publisher: Publisher): Effect.Effect<never> =>
  Effect.gen(function* () {
    yield* publisher.stalled.wait
    const before = publisher.progress
    const stands = () => publisher.holds > 0 && publisher.progress === before
    yield* Effect.sleep(patience)
    if (!stands()) return
    yield* Effect.logWarning(
      `a consumer of committed events has taken none for ${Duration.format(patience)}; ${publisher.holds} emits and submits wait for it`
    )
    while (stands()) yield* Effect.sleep(patience)
  }).pipe(Effect.forever)

const patience = Duration.millis(patienceMs)

/** What a consumer gets, when its runtime closes, to work on what waits for it. */
const finishing = Duration.seconds(5)

/** Runs a consumer until the scope closes, and then to the end of what waits for it. */
const run = <R>(publisher: Publisher, { consume, options }: Consumer<R>) =>
  Effect.gen(function* () {
    const { events, tap } = yield* publisher.subscribe(options)
    const running = yield* consume(events).pipe(
      Effect.scoped,
      Effect.catchAllCause((cause) =>
        Effect.if(isOwnInterruption(cause), {
          onTrue: () => Effect.void,
          onFalse: () => Effect.logError("a consumer of committed events failed; it gets no more", cause)
        })
      ),
      Effect.ensuring(Effect.sync(() => publisher.leave(tap))),
      Effect.interruptible,
      Effect.forkDaemon
    )
    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        publisher.leave(tap)
        yield* within(Fiber.await(running), finishing)
        if (Option.isSome(yield* Fiber.poll(running))) return
        yield* Effect.logWarning("a consumer of committed events did not finish what waits for it")
        yield* Fiber.interruptFork(running)
      })
    )
  })

/**
 * Returns the place where one runtime publishes what it commits, with consumers that are there before the runtime's log
 * and after it.
 */
export const layer = <R = never>(
  consumers: ReadonlyArray<Consumer<R>> = []
): Layer.Layer<Committed, never, Exclude<R, Scope.Scope>> =>
  Layer.scoped(
    Committed,
    Effect.gen(function* () {
      const publisher = new Publisher()
      yield* Effect.forkScoped(watch(publisher))
      yield* Effect.forEach(consumers, (each) => run(publisher, each), { discard: true })
      return publisher
    })
  )

/** Returns what publishes: the one place where the service is opened up, since it was made here. */
export const publisherOf = (service: Committed["Type"]): Publisher => {
  if (service instanceof Publisher) return service
  throw new Error("Committed is provided by Committed.layer()")
}

export * from "../../services/log/Committed.js"
