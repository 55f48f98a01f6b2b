/** What tests of jobs that wait unloaded share: processes over one store, and a handler that sleeps. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job, type JobService } from "../../../src/services/jobs/Job.js"
import type { Lease } from "../../../src/services/lease/Lease.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { dueAt, never } from "../../../src/services/store/dueAt.js"
import type { JobRecord, StoreService } from "../../../src/services/store/Store.js"
import { type Frame, open } from "../../support/Wire.js"
import { makeStore, type Session, serve, submit, type TestStore } from "./support.js"

/** A process on a store; `kill`: nothing more of it is stored. */
export const start = (store: TestStore, ...[agents, options, parts]: Tail<Parameters<typeof serve>>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      serve(store, agents, { ...patient, ...options }, parts),
      scope
    )
    return {
      run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context),
      kill: Effect.suspend(() => {
        store.cut = true
        return Scope.close(scope, Exit.void)
      }),
      stop: Scope.close(scope, Exit.void)
    }
  })

/** Nothing but the jobs minds how the clock goes. */
const patient = { revealFailures: true, heartbeatInterval: "300 days", resumeWindow: "300 days" } as const

type Tail<A extends ReadonlyArray<unknown>> = A extends readonly [unknown, ...infer Rest] ? Rest : never

/** A durable agent. */
export const durable = (
  name: string,
  handler: (job: JobService) => Effect.Effect<unknown, unknown, Job | Lease | Scope.Scope>,
  version = "1.0.0"
) =>
  Agent.handle(Agent.make(name, { version, durable: true }), () => Effect.orDie(Effect.flatMap(Job, handler)))

/** Sleeps an hour between two steps, and notes what it does in `did`. */
export const sleeper = (did: Array<string>, duration = "1 hour" as const) =>
  durable("sleeper", (job) =>
    Effect.gen(function* () {
      did.push("load")
      yield* Effect.addFinalizer(() =>
        Effect.zipRight(
          Effect.ignore(job.log("info", "closing")),
          Effect.sync(() => did.push("closed"))
        )
      )
      yield* job.log("info", "begins")
      yield* job.step(
        "a",
        Effect.sync(() => void did.push("a"))
      )
      yield* job.sleep("nap", duration)
      yield* job.step(
        "b",
        Effect.sync(() => void did.push("b"))
      )
      return "rested"
    })
  )

/** Waits until something is so, a turn of the event loop at a time: what happens does not need the clock. */
export const until = <A>(ask: Effect.Effect<A | undefined | false, unknown>): Effect.Effect<A> =>
  Effect.gen(function* () {
    for (let turns = 0; turns < 20_000; turns++) {
      const found = yield* Effect.orDie(ask)
      if (found !== undefined && found !== false) return found
      yield* eventLoop.next
    }
    return yield* Effect.dieMessage("it did not come about")
  })

/** Waits until a job is unloaded, and gives its record. */
export const unloaded = (store: StoreService, jobId: string | undefined): Effect.Effect<JobRecord> =>
  until(Effect.map(store.due({ by: never, limit: 1000 }), (rows) => rows.find((row) => row.jobId === jobId)))

/** Waits until a job is in memory. */
export const loaded = (store: StoreService, jobId: string): Effect.Effect<JobRecord> =>
  until(
    Effect.map(store.job(jobId), (record) => record !== undefined && dueAt(record) === undefined && record)
  )

export const isEnd = ({ type }: Frame) => type === "job.result" || type === "job.error"

/** What the events of a job say, in short; those of steps by key, attempt and state. */
export const told = (session: Session, jobId?: string): ReadonlyArray<string> =>
  session.seen
    .filter(({ job_id, type }) => type === "job.event" && (jobId === undefined || job_id === jobId))
    .map(({ payload: { kind, body } }) =>
      kind === "x-vendor.effect-arcp.step"
        ? `${body.key}#${body.attempt} ${body.state}`
        : kind === "log"
          ? body.message
          : kind === "status"
            ? `${body.phase}${body.attempt === undefined ? "" : ` ${body.attempt}`}`
            : kind
    )

/** A process with one sleeper that is unloaded. */
export const asleep = (
  agent: Agent.Registered,
  {
    options,
    parts,
    session: more,
    submitted
  }: {
    readonly options?: Parameters<typeof serve>[2]
    readonly parts?: Parameters<typeof serve>[3]
    readonly session?: Record<string, unknown>
    readonly submitted?: Record<string, unknown>
  } = {}
) =>
  Effect.gen(function* () {
    const store = yield* makeStore
    const process = yield* start(store, [agent], options, parts)
    yield* Effect.addFinalizer(() => process.stop)
    const session = yield* process.run(open(more))
    const jobId = (yield* submit(session, agent.name, {}, submitted)).job_id as string
    yield* session.next(isSleep)
    yield* TestClock.adjust("31 seconds")
    const record = yield* unloaded(store.store, jobId)
    return { store, process, session, jobId, record }
  })

/** The event that tells that a sleep begins. */
export const isSleep = ({ payload }: Frame) =>
  payload.kind === "x-vendor.effect-arcp.step" && payload.body.until !== undefined

/** Waits until so many jobs have begun to sleep, in whichever order. */
export const sleeping = (session: Session, count: number): Effect.Effect<void> =>
  Effect.suspend(() =>
    session.seen.filter(isSleep).length >= count
      ? Effect.void
      : Effect.zipRight(
          session.next(() => true),
          sleeping(session, count)
        )
  )
