/**
 * A transport that breaks when told to: rules say which frame of which connection is dropped, delayed, truncated,
 * repeated or never arrives; the service does so at once. Wraps any `Dialer`, at the client's end. A rule is data, so
 * that a failing run can be written down and run again.
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { PCGRandom } from "effect/Utils"
import {
  Closed,
  type Connection,
  closeCode,
  Dialer,
  type Inbound,
  TransportError
} from "../services/transport/Transport.js"
import { Disturb } from "./Disturb.js"

/** Whom frames go to. */
export type Side = "client" | "runtime"

/** Which frame it happens to; what is left out is any. The first that fits, unless `times` says more. */
export interface At {
  readonly to: Side
  /** The n-th connection, from 1. */
  readonly connection?: number | undefined
  /** The n-th frame that way on its connection, from 1. */
  readonly frame?: number | undefined
  /** Frames of this message type. */
  readonly type?: string | undefined
  /** To so many frames. Default: 1. */
  readonly times?: number | undefined
}

/** What is done to which frames. */
export type Rule =
  /** The connection breaks, instead of the frame or, with `delivered`, after it. */
  | (At & { readonly fault: "drop"; readonly delivered?: boolean | undefined })
  /**
   * The client's end breaks, the runtime's is left as it is, as when a network goes away: the session comes back
   * over a second connection while the first is still there. The frame is lost.
   */
  | (At & { readonly fault: "abandon" })
  /** It, and what follows it that way, comes later, by the `Clock`. */
  | (At & { readonly fault: "delay"; readonly by: Duration.DurationInput })
  /** Its beginning, so many characters, comes as a whole frame. */
  | (At & { readonly fault: "truncate"; readonly length: number })
  /** It comes twice. */
  | (At & { readonly fault: "repeat" })
  /** Neither it nor anything after it that way arrives; the connection stays open. */
  | (At & { readonly fault: "silence" })

/** A frame that was sent, whether or not it arrived. */
export interface Frame {
  readonly connection: number
  readonly to: Side
  readonly text: string
}

/** Does to the frames and connections of a transport what the test says. */
export class Faults extends Context.Tag("arcp/testing/Faults")<
  Faults,
  {
    /** From now on. The first rule that fits a frame holds. */
    readonly add: (...rules: ReadonlyArray<Rule>) => Effect.Effect<void>
    /** Rules that have not been used up. */
    readonly pending: Effect.Effect<ReadonlyArray<Rule>>
    /** Breaks every connection that is open. */
    readonly drop: Effect.Effect<void>
    /** Breaks every connection at the client's end only. */
    readonly abandon: Effect.Effect<void>
    /** Keeps frames that go there, on every connection, until `release`. */
    readonly hold: (to: Side) => Effect.Effect<void>
    readonly release: (to: Side) => Effect.Effect<void>
    /** The next so many connections cannot be made. */
    readonly refuse: (times: number) => Effect.Effect<void>
    /** How many connections were made so far. */
    readonly connections: Effect.Effect<number>
    /** Every frame that was sent so far. */
    readonly frames: Effect.Effect<ReadonlyArray<Frame>>
  }
>() {}

/**
 * Rules of which each breaks one connection, the first to the `breaks`-th, somewhere within its first `within` frames
 * to the client, or one way or the other with `both`: dropped before a frame or after it, or abandoned. The same for
 * the same seed.
 */
export const seeded = (
  seed: number,
  options: { readonly breaks: number; readonly within: number; readonly both?: boolean | undefined }
): ReadonlyArray<Rule> => {
  const random = new PCGRandom(seed)
  return Array.from({ length: options.breaks }, (_, i): Rule => {
    const at = {
      connection: i + 1,
      to: options.both === true && random.integer(2) === 1 ? ("runtime" as const) : ("client" as const),
      frame: 1 + random.integer(options.within)
    }
    const kind = random.integer(3)
    return kind === 2 ? { ...at, fault: "abandon" } : { ...at, fault: "drop", delivered: kind === 1 }
  })
}

const broken = new Closed({ code: closeCode.abnormal, reason: "broken by the test" })

const typeOf = (text: string): unknown => {
  try {
    return JSON.parse(text).type
  } catch {
    return undefined
  }
}

/** Rules with what is left of them. */
class Book {
  private entries: Array<{ readonly rule: Rule; left: number }> = []
  readonly frames: Array<Frame> = []

  add(rules: ReadonlyArray<Rule>): void {
    for (const rule of rules) this.entries.push({ rule, left: rule.times ?? 1 })
  }
  get pending(): ReadonlyArray<Rule> {
    return this.entries.map(({ rule }) => rule)
  }
  /** Writes a frame down; the rule that holds for it. */
  take(frame: Frame, position: number): Rule | undefined {
    this.frames.push(frame)
    const entry = this.entries.find(
      ({ rule }) =>
        rule.to === frame.to &&
        (rule.connection ?? frame.connection) === frame.connection &&
        (rule.frame ?? position) === position &&
        (rule.type === undefined || rule.type === typeOf(frame.text))
    )
    if (entry !== undefined && --entry.left === 0)
      this.entries = this.entries.filter((other) => other !== entry)
    return entry?.rule
  }
}

/** One way of a connection. */
class Way {
  silent = false
  /** Frames so far. */
  position = 0
  /** Open while a frame waits. */
  readonly waiting = Effect.unsafeMakeLatch(false)
  private held = false
  private readonly gate = Effect.unsafeMakeLatch(true)

  readonly hold = Effect.suspend(() => {
    this.held = true
    return this.gate.close
  })
  readonly release = Effect.suspend(() => {
    this.held = false
    return this.gate.open
  })
  readonly passable: Effect.Effect<void> = Effect.suspend(() =>
    this.held ? this.wait(this.gate.await) : Effect.void
  )
  wait<E>(until: Effect.Effect<void, E>): Effect.Effect<void, E> {
    return Effect.acquireUseRelease(
      this.waiting.open,
      () => until,
      () => this.waiting.close
    )
  }
}

/** A connection as the client has it, and what can be done to it. */
class FaultyLink {
  readonly ways: Readonly<Record<Side, Way>> = { client: new Way(), runtime: new Way() }
  abandoned = false
  private readonly gone = Deferred.unsafeMake<never, Closed>(FiberId.none)
  private readonly over = Deferred.await(this.gone)
  /** Taken from the connection and not yet handed on: whoever takes may be interrupted. */
  private readonly arrived: Array<Inbound> = []
  private readonly turn = Effect.unsafeMakeSemaphore(1)

  constructor(
    private readonly inner: Connection,
    private readonly number: number,
    private readonly book: Book,
    private readonly scope: Scope.Scope
  ) {}

  readonly drop: Effect.Effect<void> = Effect.suspend(() =>
    Effect.zipRight(Deferred.fail(this.gone, broken), this.inner.close(closeCode.goingAway, broken.reason))
  )
  readonly abandon: Effect.Effect<void> = Effect.suspend(() => {
    this.abandoned = true
    return Deferred.fail(this.gone, broken)
  })

  /** Passes a frame on, or not, by the rule that holds for it; fails when the connection breaks with it. */
  private pass(to: Side, frame: Inbound, deliver: (frame: Inbound) => Effect.Effect<void>) {
    const way = this.ways[to]
    const rule =
      typeof frame === "string"
        ? this.book.take({ connection: this.number, to, text: frame }, ++way.position)
        : undefined
    if (rule?.fault === "silence") way.silent = true
    if (way.silent) return Effect.void
    switch (rule?.fault) {
      case "drop":
        return Effect.zipRight(rule.delivered === true ? deliver(frame) : Effect.void, this.drop).pipe(
          Effect.zipRight(this.over)
        )
      case "abandon":
        return Effect.zipRight(this.abandon, this.over)
      case "delay":
        return Effect.zipRight(way.wait(Effect.raceFirst(Effect.sleep(rule.by), this.over)), deliver(frame))
      case "truncate":
        return deliver(String(frame).slice(0, rule.length))
      case "repeat":
        return Effect.zipRight(deliver(frame), deliver(frame))
      default:
        return deliver(frame)
    }
  }

  /** For as long as the connection is not broken. */
  private unbroken<A>(effect: Effect.Effect<A, Closed>): Effect.Effect<A, Closed> {
    return Effect.flatMap(Deferred.isDone(this.gone), (done) =>
      done ? this.over : Effect.raceFirst(effect, this.over)
    )
  }

  private readonly take: Effect.Effect<Chunk.Chunk<Inbound>, Closed> = Effect.gen(this, function* () {
    const passed: Array<Inbound> = []
    while (passed.length === 0) {
      if (this.arrived.length === 0)
        this.arrived.push(
          ...(yield* this.unbroken(Effect.catchAll(this.inner.take, (closed) => this.unbroken(closed))))
        )
      yield* this.unbroken(this.ways.client.passable)
      const frame = this.arrived.shift() as Inbound
      yield* this.pass("client", frame, (text) => Effect.sync(() => passed.push(text))).pipe(
        // What came before the break is still handed over; the next call fails.
        Effect.catchAll((closed) => (passed.length === 0 ? closed : Effect.void))
      )
    }
    return Chunk.unsafeFromArray(passed)
  })

  /** Frames that wait are as good as sent: a network takes them, and who has sent them may wait for an answer. */
  private readonly send = (frames: ReadonlyArray<string>): Effect.Effect<void> => {
    const way = this.ways.runtime
    const passing = Effect.forEach(
      frames,
      (frame) =>
        Effect.zipRight(
          this.unbroken(way.passable),
          this.pass("runtime", frame, (text) => this.inner.send([text as string]))
        ),
      { discard: true }
    ).pipe(Effect.ignore, this.turn.withPermits(1), Effect.interruptible, Effect.forkIn(this.scope))
    return Effect.flatMap(passing, (fiber) => Effect.raceFirst(Fiber.await(fiber), way.waiting.await)).pipe(
      Effect.asVoid
    )
  }

  readonly connection = (): Connection => ({
    ...this.inner,
    take: this.take,
    send: this.send,
    close: (code, reason) => (this.abandoned ? Effect.void : this.inner.close(code, reason))
  })
}

/** Breaks the connections of the `Dialer` in context by `rules`, and by what the service is told. */
export const layer = (rules: ReadonlyArray<Rule> = []): Layer.Layer<Dialer | Faults, never, Dialer> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const dialer = yield* Dialer
      const disturb = Option.getOrElse(yield* Effect.serviceOption(Disturb), () => Effect.void)
      const scope = yield* Effect.scope
      const book = new Book()
      book.add(rules)
      if (rules.length > 0) yield* disturb
      const links = new Set<FaultyLink>()
      const held = new Set<Side>()
      let connections = 0
      let refusals = 0
      const each = (act: (link: FaultyLink) => Effect.Effect<void>) =>
        Effect.suspend(() => Effect.forEach([...links], act, { discard: true }))

      const connect = Effect.gen(function* () {
        if (refusals > 0) {
          refusals--
          return yield* new TransportError({ message: "the test refuses this connection" })
        }
        let link: FaultyLink | undefined
        // The runtime's end outlives the client's when that is abandoned.
        const inner = yield* Effect.acquireRelease(Scope.fork(scope, ExecutionStrategy.sequential), (own) =>
          link?.abandoned === true ? Effect.void : Scope.close(own, Exit.void)
        )
        link = new FaultyLink(yield* Scope.extend(dialer.connect, inner), ++connections, book, inner)
        const made = link
        for (const side of held) yield* made.ways[side].hold
        yield* Effect.acquireRelease(
          Effect.sync(() => links.add(made)),
          () => Effect.sync(() => links.delete(made))
        )
        return made.connection()
      })

      return Context.make(Dialer, { ...dialer, connect }).pipe(
        Context.add(Faults, {
          add: (...more) =>
            Effect.zipRight(
              disturb,
              Effect.sync(() => book.add(more))
            ),
          pending: Effect.sync(() => book.pending),
          drop: each((link) => link.drop),
          abandon: Effect.zipRight(
            disturb,
            each((link) => link.abandon)
          ),
          hold: (to) =>
            Effect.zipRight(
              Effect.map(disturb, () => held.add(to)),
              each((link) => link.ways[to].hold)
            ),
          release: (to) =>
            Effect.zipRight(
              Effect.sync(() => held.delete(to)),
              each((link) => link.ways[to].release)
            ),
          refuse: (times) =>
            Effect.sync(() => {
              refusals = times
            }),
          connections: Effect.sync(() => connections),
          frames: Effect.sync(() => [...book.frames])
        })
      )
    })
  )
