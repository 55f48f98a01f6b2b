/** What tests share of handlers that are run again only for their compensations, in both forms that an agent may have. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import type { PromiseJob } from "../../../src/services/agents/PromiseJob.js"
import type { JobService } from "../../../src/services/jobs/Job.js"
import { type Frame, open } from "../../support/Wire.js"
import { makeStore, pong, type Session, submit } from "./support.js"
import { durable, isEnd, start, unloaded, until } from "./unloading.js"

/** What a job does in the world; `load`: how often its handler has been begun. */
export class World {
  readonly done: Array<string> = []
  load = 0
  /** Ends what an async function waits for. */
  wake: () => void = () => {}

  /** The handler is run for its compensations only. */
  get isAgain(): boolean {
    return this.load > 1
  }
  readonly act = (what: string) => Effect.sync(() => void this.done.push(what))
}

type Handler<J, A> = (job: J, world: World) => A
export type InEffect = Handler<JobService, Effect.Effect<unknown, unknown>>
export type InPromises = Handler<PromiseJob, Promise<unknown>>

/** The same agent in both forms. */
export const agents = (effect: InEffect, promise: InPromises) =>
  [
    [
      "an Effect",
      (world: World) =>
        durable("books", (job) =>
          Effect.suspend(() => {
            world.load++
            return effect(job, world)
          })
        )
    ],
    [
      "an async function",
      (world: World) =>
        Agent.fromPromise("books", { version: "1.0.0", durable: true }, (_, job) => {
          world.load++
          return promise(job, world)
        })
    ]
  ] as const

/** A step that can be undone. */
export const step = (job: JobService, world: World, key: string) =>
  job.step(key, world.act(`do ${key}`), { compensate: () => world.act(`undo ${key}`) })
export const stepAsync = (job: PromiseJob, world: World, key: string) =>
  job.step(key, () => void world.done.push(`do ${key}`), {
    compensate: () => void world.done.push(`undo ${key}`)
  })

export const question = { prompt: "Go on?" }
export const ask = (job: JobService) => job.input("ok", question)

/** A job that waits unloaded for an answer, and is cancelled. */
export const cancelled = (agent: Agent.Registered, parts?: Parameters<typeof start>[3]) =>
  Effect.gen(function* () {
    const store = yield* makeStore
    const others = [durable("other", () => Effect.never), durable("echoes", () => Effect.succeed("an echo"))]
    const process = yield* start(store, [agent, ...others], {}, parts)
    yield* Effect.addFinalizer(() => process.stop)
    const session = yield* process.run(open())
    const lease_request = { "agent.delegate": ["*"] }
    const jobId = (yield* submit(session, "books", {}, { lease_request })).job_id as string
    const asksLast = ({ payload }: Frame) =>
      payload.kind === Vendor.inputRequest && payload.body.expires_at === undefined
    for (let turns = 0; turns < 500 && !session.seen.some(asksLast); turns++) {
      yield* pong(session)
      // What comes before that may take its time.
      yield* TestClock.adjust("100 millis")
    }
    yield* TestClock.adjust("31 seconds")
    yield* unloaded(store.store, jobId)
    const before = session.seen.length
    yield* session.request("job.cancel", {}, { job_id: jobId })
    yield* session.expect("job.cancelled")
    const ends = () => session.seen.filter((frame) => isEnd(frame) && frame.job_id === jobId)
    return {
      session,
      after: () => session.seen.slice(before),
      /** The job's end, without any time going by; what of its steps it names. */
      end: Effect.gen(function* () {
        for (let turns = 0; turns < 500 && ends().length === 0; turns++) yield* pong(session)
        assert.deepStrictEqual(
          ends().map(({ payload }) => payload.code),
          ["CANCELLED"]
        )
        return ends()[0]?.payload.details?.not_undone
      })
    }
  })

/** Waits until something has been done, without any time going by. */
export const does = (world: World, what: string) => until(Effect.sync(() => world.done.includes(what)))

/** Waits until the handler is run again, and what bounds that. */
export const isRunAgain = (world: World, session: Session) =>
  Effect.zipRight(until(Effect.sync(() => world.isAgain)), Effect.repeatN(pong(session), 3))
