/** A log over any store, without sessions or jobs above it: what its tests say and look at. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Committed from "../../../src/layers/log/Committed.js"
import * as EventLogLayer from "../../../src/layers/log/EventLog.js"
import { all, type Feature } from "../../../src/protocol/Features.js"
import { EventLog, type JobLog, type NewEvent, type View } from "../../../src/services/log/EventLog.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import {
  type JobRecord,
  Op,
  type SessionRecord,
  Store,
  type StoreError,
  type StoreService
} from "../../../src/services/store/Store.js"

/** The last millisecond that a date has. */
export const latest = 8_640_000_000_000_000

let counter = 0
/** Ids in the protocol's form, distinct over the whole run. */
export const id = (prefix: string) => `${prefix}_${(++counter).toString().padStart(26, "0")}`

export const session = (more: Partial<SessionRecord> = {}): SessionRecord => ({
  sessionId: id("sess"),
  principal: "alice",
  version: "1.1",
  features: all,
  createdAt: 1,
  lastSeenAt: 1,
  attached: true,
  tokenDigest: "t",
  acked: 0,
  ...more
})
export const record = (owner: View, more: Partial<JobRecord> = {}): JobRecord => ({
  jobId: id("job"),
  sessionId: owner.sessionId,
  submitId: id("msg"),
  principal: "alice",
  agent: "echo@1.0.0",
  status: "running",
  rejected: false,
  lease: {},
  traceId: "0af7651916cd43dd8448eb211c80319c",
  createdAt: 1,
  lastEventSeq: 0,
  ...more
})
export const event = (kind: string, n: number, audience?: string): NewEvent => ({
  type: "job.event",
  kind,
  audience,
  payload: JSON.stringify({ kind, ts: "", body: { n } })
})

export interface Frame {
  readonly id: string
  readonly type: string
  readonly session_id: string
  readonly job_id: string
  readonly event_seq: number
  readonly payload: { readonly kind?: string; readonly body?: { readonly n: number } }
}
export const readAll = (view: View, from = 0) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    let after = from
    const frames: Array<Frame> = []
    for (;;) {
      const { frames: page } = yield* log.read(view, after, wake)
      if (page.length === 0) return frames
      after += page.length
      for (const text of page) frames.push(JSON.parse(text) as Frame)
    }
  })
export const numbers = (frames: ReadonlyArray<Frame>, job: JobLog) =>
  frames.filter((frame) => frame.job_id === job.jobId).map((frame) => frame.payload.body?.n)
export const seqs = (frames: ReadonlyArray<Frame>) => frames.map((frame) => frame.event_seq)
export const upTo = (n: number, from = 1) => Array.from({ length: n - from + 1 }, (_, i) => from + i)

/** Of the connection that every session has here, where nothing else is said. */
export const wake = (): void => {}

/** A view of a connected session, which is not told of back-pressure unless it acknowledges. */
export const openViewWith = (features: ReadonlyArray<Feature>) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const view = yield* log.openView(session({ features }))
    yield* log.attach(view, { features, wake })
    return view
  })
export const openView = openViewWith(all.filter((feature) => feature !== "ack"))
export const openJob = (owner: View) => Effect.flatMap(EventLog, (log) => log.openJob(record(owner), owner))
/** The same event, whose emitter waits for the commit. */
export const awaited = (event: NewEvent): NewEvent => ({ ...event, awaited: true })
export const emit = (job: JobLog, from: number, to: number, kind = "log") =>
  Effect.flatMap(EventLog, (log) =>
    Effect.forEach(upTo(to, from), (n) => log.append(job, event(kind, n)), { discard: true })
  )
export const end = (job: JobLog, owner: View) =>
  Effect.flatMap(EventLog, (log) =>
    log.end(job, { type: "job.result", kind: "", payload: "{}" }, (lastEventSeq) => ({
      ...record(owner),
      jobId: job.jobId,
      status: "success",
      endedAt: 2,
      lastEventSeq
    }))
  )
/** An append may return before its commit; this waits for it, by a commit that the store gets too. */
export const settle = Effect.flatMap(EventLog, (log) => log.commit([Op.Alive({ at: 1 })]))

/** How often each store was called, and how many of these calls it has not answered. */
const calls = new WeakMap<StoreService, { begun: number; unanswered: number }>()

/** The same store, whose calls are counted; but not that which waits for its end, and is never answered. */
const counting = (store: StoreService): StoreService => {
  if (calls.has(store)) return store
  const count = { begun: 0, unanswered: 0 }
  const counted = <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        count.begun++
        count.unanswered++
      }),
      () => call,
      () => Effect.sync(() => count.unanswered--)
    )
  const given = (value: unknown) => (Effect.isEffect(value) ? counted(value) : value)
  const same = new Proxy(store, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name, target)
      if (name === "died") return member
      return typeof member === "function"
        ? (...args: ReadonlyArray<unknown>) => given(Reflect.apply(member, target, args))
        : given(member)
    }
  })
  calls.set(same, count)
  return same
}

/** Turns of the event loop in which nothing has asked the store for anything, after which nothing will. */
const calmTurns = 40
/** Commits for which a call that is never answered is waited for. */
const patience = 5_000

/**
 * Lets the retention get round. Its passes take turns of the event loop, commit and read: they are over when the store has
 * answered all, and was asked for nothing for some turns.
 */
export const settled = Effect.gen(function* () {
  const count = calls.get(yield* Store)
  yield* settle
  for (let calm = 0, waits = 0; calm < calmTurns && waits < patience; ) {
    const { begun, unanswered } = count ?? { begun: 0, unanswered: 0 }
    yield* eventLoop.next
    if (unanswered > 0) {
      waits++
      yield* settle
    }
    calm = unanswered === 0 && (count?.begun ?? 0) === begun ? calm + 1 : 0
  }
})

/** A log over a store. */
export const layerOn = (
  store: Layer.Layer<Store, StoreError>,
  options: RuntimeOptions.Input = {},
  consumers: ReadonlyArray<Committed.Consumer> = []
) =>
  EventLogLayer.layer().pipe(
    Layer.provideMerge(
      Layer.map(store, (built) => Context.add(built, Store, counting(Context.get(built, Store))))
    ),
    Layer.provideMerge(Committed.layer(consumers)),
    Layer.provide(Layer.succeed(RuntimeOptions.RuntimeOptions, RuntimeOptions.make(options)))
  )

/** Runs a test on a log over a store of its own. */
export const runOn =
  (store: () => Layer.Layer<Store, StoreError>) =>
  <A, E>(
    effect: Effect.Effect<A, E, Committed.Committed | EventLog | Store | Scope.Scope>,
    options: RuntimeOptions.Input = {},
    consumers?: ReadonlyArray<Committed.Consumer>
  ): Effect.Effect<A, E | StoreError> =>
    Effect.scoped(effect).pipe(Effect.provide(layerOn(store(), options, consumers)))
