/** Processes with jobs that wait, and agents whose jobs run until they are let go. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Agent from "../../../../src/services/agents/Agent.js"
import { Job } from "../../../../src/services/jobs/Job.js"
import type * as RuntimeOptions from "../../../../src/services/runtime/RuntimeOptions.js"
import type { Frame } from "../../../support/Wire.js"
import { type Session, serve, type TestStore } from "../support.js"

export const schedule = "x-vendor.effect-arcp.schedule"

/** A process on a store; `kill`: nothing more of it is stored. */
export const start = (
  store: TestStore,
  agents: ReadonlyArray<Agent.Registered>,
  options: RuntimeOptions.Input = {},
  parts?: Parameters<typeof serve>[3]
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const context = yield* Layer.buildWithScope(
      serve(store, agents, { heartbeatInterval: "1 day", ...options }, parts),
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

/** An agent whose jobs run until they are let go, in the order in which they began. */
export const gated = (
  name: string,
  options: { readonly concurrency?: number; readonly durable?: boolean } = {}
) => {
  const begun: Array<string> = []
  const waiting: Array<{ readonly count: number; readonly reached: Deferred.Deferred<void> }> = []
  const gates = new Map<string, Deferred.Deferred<void>>()
  const gateOf = (jobId: string) => {
    const gate = gates.get(jobId) ?? Deferred.unsafeMake<void>(FiberId.none)
    gates.set(jobId, gate)
    return gate
  }
  const agent = Agent.handle(Agent.make(name, { version: "1.0.0", ...options }), (input) =>
    Effect.gen(function* () {
      const { jobId } = yield* Job
      begun.push(String(input))
      for (const { count, reached } of waiting)
        if (begun.length >= count) yield* Deferred.succeed(reached, undefined)
      yield* Deferred.await(gateOf(jobId))
      return input
    })
  )
  return {
    agent,
    begun,
    /** Waits until so many have begun; gives which. */
    began: (count: number) =>
      Effect.suspend(() => {
        const reached = Deferred.unsafeMake<void>(FiberId.none)
        waiting.push({ count, reached })
        return Effect.as(begun.length >= count ? Effect.void : Deferred.await(reached), begun)
      }),
    /** Lets a job return, now or when it begins. */
    letGo: (jobId: string | undefined) =>
      Effect.suspend(() => Deferred.succeed(gateOf(jobId ?? ""), undefined))
  }
}

/** A frame that has come, or will. */
export const find = (session: Session, wanted: (frame: Frame) => boolean) =>
  Effect.suspend(() => {
    const seen = session.seen.find(wanted)
    return seen === undefined ? session.next(wanted) : Effect.succeed(seen)
  })

export const isEnd = ({ type }: Frame) => type === "job.result" || type === "job.error"
export const endOf = (session: Session, jobId: string | undefined) =>
  find(session, (frame) => isEnd(frame) && frame.job_id === jobId)
export const begins = (session: Session, jobId: string | undefined) =>
  find(
    session,
    ({ job_id, payload }) => job_id === jobId && payload.kind === "status" && payload.body.phase === "running"
  )

/** Submits, and gives whatever answers. */
export const asked = (session: Session, agent: string, input: unknown, more: Record<string, unknown> = {}) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input }, more)
    return yield* session.next(
      ({ payload }) => payload.request_id === id || payload.details?.request_id === id
    )
  })

export const later = (at: Record<string, unknown>) => ({ extensions: { [schedule]: at } })

export const listed = (session: Session) =>
  Effect.gen(function* () {
    const id = yield* session.request("session.list_jobs", {})
    const { payload } = yield* session.expect("session.jobs", ({ payload }) => payload.request_id === id)
    return payload.jobs as ReadonlyArray<Record<string, unknown>>
  })
