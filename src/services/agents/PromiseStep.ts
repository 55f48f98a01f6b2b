/** Steps of agents that are async functions: what is called inside one is told from what is called beside it. */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Argument from "../../protocol/Argument.js"
import { type ArcpError, isArcpError, Timeout } from "../../protocol/Errors.js"
import { EndedBy } from "../jobs/EndedBy.js"
import { HandlerThread, type JobService, Step, type StepService } from "../jobs/Job.js"
import { readable } from "./Thrown.js"

/** The step that an async function runs in, and its end. */
export interface PromiseStepContext extends StepService {
  /**
   * Aborted when the attempt is: the job is ended, or the step has taken too long. A step that has asked for it is waited for
   * then, until it has settled, as is one that can be compensated; another that waits for nothing of the job is not. What it
   * came to when the job is ended counts if it did not reject: it is committed, and undone.
   */
  readonly signal: AbortSignal
}

/** How a step of an async function is tried again and bounded. */
export interface PromiseStepOptions<A = unknown> {
  /** How often it is tried when it rejects. Default: once. */
  readonly attempts?: number | undefined
  /** Time between two attempts. Default: none. */
  readonly pause?: Duration.DurationInput | undefined
  /** Of each attempt. */
  readonly timeout?: Duration.DurationInput | undefined
  /** Undoes what the step has done when the job does not succeed. See `StepOptions.compensate`. */
  readonly compensate?: ((output: A, step: PromiseStepContext) => unknown) | undefined
}

/**
 * Runs an async function as a step of a durable job (see `JobService.step`): its value, as JSON, or its rejection is
 * committed, and found when the job is run again. Of an error other than the protocol's, name and message are kept.
 */
export type PromiseStep = <A>(
  key: string,
  run: (step: PromiseStepContext) => A | PromiseLike<A>,
  options?: PromiseStepOptions<NoInfer<A>>
) => Promise<A>

/** `AsyncLocalStorage`, as far as it is used. */
interface AsyncStorage<A> {
  readonly getStore: () => A | undefined
  readonly run: <R>(store: A, callback: () => R) => R
}

interface AsyncHooks {
  readonly AsyncLocalStorage: new <A>() => AsyncStorage<A>
}

interface Platform {
  readonly process?:
    | { readonly getBuiltinModule?: ((name: string) => AsyncHooks | undefined) | undefined }
    | undefined
}

/** Tells what is waited for that its function is to end. */
type Tell = (reason: unknown) => void

/** What an async function has asked its job for and waits for: a handler, or an attempt of a step. */
class Calls {
  private readonly controller = new AbortController()
  private readonly pending = new Map<Fiber.RuntimeFiber<unknown, unknown>, Tell>()
  private isTold = false

  constructor(
    /** Of whose job they are. */
    readonly job: JobService,
    readonly step?: StepService
  ) {}

  /** Aborted with the error that what is pending rejects with. */
  get signal(): AbortSignal {
    this.isTold = true
    return this.controller.signal
  }
  /** Why the function is to end, when it is. */
  get reason(): unknown {
    return this.controller.signal.reason
  }

  /** What is not told in a way of its own is interrupted. */
  add(fiber: Fiber.RuntimeFiber<unknown, unknown>, tell: Tell = () => interrupt(fiber)): void {
    this.pending.set(fiber, tell)
    fiber.addObserver(() => this.pending.delete(fiber))
  }

  /** Tells the function to end, and what it waits for; returns whether it can know. */
  abort(reason: unknown): boolean {
    this.isTold ||= this.pending.size > 0
    this.controller.abort(reason)
    for (const tell of [...this.pending.values()]) tell(reason)
    return this.isTold
  }
}

const interrupt = (fiber: Fiber.RuntimeFiber<unknown, unknown>): void =>
  fiber.unsafeInterruptAsFork(FiberId.none)

/** Tells whether a job is over with this, and does not go on later or elsewhere: then what a step came to can be undone. */
const isEnd = (reason: unknown): boolean => isArcpError(reason) && reason._tag !== "InternalError"

/** In which step an async function runs, where the platform can tell: Node, Bun and Deno can. */
const running = (() => {
  const hooks = (globalThis as Platform).process?.getBuiltinModule?.("node:async_hooks")
  return hooks === undefined ? undefined : new hooks.AsyncLocalStorage<Calls>()
})()

/** Throws when async functions cannot have steps here. */
export const assertSteps = (agent: string): void => {
  if (running === undefined)
    throw new Error(
      `agent ${agent}: durable agents of async functions need AsyncLocalStorage, which this platform has not`
    )
}

/**
 * Runs an async function. An interruption tells it to end, and waits until it has settled, so that what it does in `finally` is
 * part of the run.
 */
const settling = <A, E>(
  run: () => unknown,
  rejected: (error: unknown) => Effect.Effect<A, E>,
  /** Tells the function; returns whether it is to be waited for. */
  abort: () => boolean
): Effect.Effect<A, E> =>
  Effect.async((resume) => {
    const settled = new Promise<A>((resolve) => resolve(run() as A)).then(
      (output) => resume(Effect.succeed(output)),
      (thrown: unknown) => resume(rejected(readable(thrown)))
    )
    return Effect.suspend(() => (abort() ? Effect.promise(() => settled) : Effect.void))
  })

/** Runs effects for an async function, in the step in which that is called. */
export interface InPromises {
  /**
   * Rejects with the effect's own error, which has its code, and not with a wrapper; with what ends the job, or the attempt of
   * the step, when that happens meanwhile.
   */
  readonly promise: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
  /**
   * The same for what a job that is ended does not begin any more: nothing interrupts a function that goes on, so it is told
   * at each of these.
   */
  readonly unlessEnded: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
  readonly step: PromiseStep
  /** Runs the async function of the handler: a rejection with an error of the protocol is a failure, any other a defect. */
  readonly handle: (run: (signal: AbortSignal) => unknown) => Effect.Effect<unknown, ArcpError>
}

/** What an async function has thrown. */
class Thrown {
  constructor(readonly error: unknown) {}
}

/** Returns what was thrown. */
const thrown = <E>(error: E | Thrown): unknown => (error instanceof Thrown ? error.error : error)

const ThrownSchema = Schema.transform(
  Schema.Struct({ name: Schema.String, message: Schema.String }),
  Schema.instanceOf(Thrown),
  {
    strict: true,
    decode: ({ message, name }) => new Thrown(Object.assign(new Error(message), { name })),
    encode: ({ error }) =>
      error instanceof Error
        ? { name: error.name, message: error.message }
        : { name: "Error", message: String(error) }
  }
)

const stepOptions = Argument.options<PromiseStepOptions>({
  attempts: Argument.maybe(Argument.positive),
  pause: Argument.maybe(Argument.finiteDuration),
  timeout: Argument.maybe(Argument.duration),
  compensate: Argument.maybe(Argument.callable)
})

const tookTooLong = new Timeout({ message: "the attempt of the step has taken too long" })

/** Returns what runs effects for the async function of a handler, whose job this is. */
export const make = (job: JobService): Effect.Effect<InPromises> =>
  Effect.gen(function* () {
    const endedBy = yield* EndedBy
    const runtime = yield* Effect.provideService(Effect.runtime<never>(), HandlerThread, true)
    const own = new Calls(job)
    const within = <A>(calls: Calls, run: () => A): A =>
      running === undefined ? run() : running.run(calls, run)
    /** Where a function is called may be in what another job has begun: a commit is of many. */
    const current = () => {
      const calls = running?.getStore()
      return calls?.job === job ? calls : own
    }

    const promise = <A, E>(
      effect: Effect.Effect<A, E>,
      tell?: (fiber: Fiber.RuntimeFiber<A, E>, reason: unknown) => void
    ) => {
      const calls = current()
      const { step } = calls
      const fiber = Runtime.runFork(runtime)(
        step === undefined ? effect : Effect.provideService(effect, Step, step)
      )
      calls.add(fiber, tell === undefined ? undefined : (reason) => tell(fiber, reason))
      const exited = new Promise<Exit.Exit<A, E>>((resolve) => fiber.addObserver(resolve))
      const promised: Promise<A> = exited.then((exit) => {
        if (Exit.isSuccess(exit)) return exit.value
        if (!Cause.isInterruptedOnly(exit.cause)) throw Cause.originalError(Cause.squash(exit.cause))
        // Where nobody waits for it, that the job is ended is no fault of the agent's.
        promised.catch(() => {})
        throw calls.reason ?? endedBy()
      })
      return promised
    }

    const unlessEnded = <A, E>(
      effect: Effect.Effect<A, E>,
      tell?: (fiber: Fiber.RuntimeFiber<A, E>, reason: unknown) => void
    ) => {
      const { reason } = current()
      return promise(reason === undefined ? effect : Effect.interrupt, tell)
    }

    const step: PromiseStep = <A>(
      key: string,
      run: (step: PromiseStepContext) => A | PromiseLike<A>,
      options: PromiseStepOptions<A> = {}
    ) => {
      const refused = Argument.refusal(
        "step",
        ["run", Argument.callable, run],
        ["options", stepOptions, options]
      )
      if (refused !== undefined) return Promise.reject(refused)
      const { attempts = 1, compensate, pause = 0, timeout } = options
      /** The attempt that runs. */
      let attempted: Calls | undefined
      const inStep = <B>(body: (step: PromiseStepContext) => B | PromiseLike<B>) =>
        Effect.flatMap(Step, (step) => {
          const { attempt, idempotencyKey, key } = step
          const calls = new Calls(job, step)
          attempted = calls
          const context: PromiseStepContext = {
            key,
            attempt,
            idempotencyKey,
            get signal() {
              return calls.signal
            }
          }
          const settled = settling<B, ArcpError | Thrown>(
            () => within(calls, () => body(context)),
            (error) => {
              // That it was told to end is no outcome.
              if (calls.reason !== undefined) return Effect.interrupt
              return Effect.fail(isArcpError(error) ? error : new Thrown(error))
            },
            // One that has not asked for its signal, and waits for nothing of the job, goes on for as long as it likes.
            () => calls.abort(own.reason ?? tookTooLong)
          )
          return Effect.ensuring(
            settled,
            Effect.sync(() => {
              attempted = undefined
            })
          )
        })
      const retry = Schedule.intersect(Schedule.recurs(attempts - 1), Schedule.spaced(pause))
      const outcome = job.step(key, inStep(run), {
        error: ThrownSchema,
        retry,
        timeout,
        compensate:
          compensate === undefined
            ? undefined
            : (output: A) =>
                Effect.mapError(
                  inStep((step) => compensate(output, step)),
                  thrown
                )
      })
      return unlessEnded(Effect.mapError(outcome, thrown), (fiber, reason) => {
        const isWaitedFor = attempted?.abort(reason) === true || compensate !== undefined
        if (attempted === undefined || !isWaitedFor || !isEnd(reason)) interrupt(fiber)
      })
    }

    const handle: InPromises["handle"] = (run) =>
      settling<unknown, ArcpError>(
        () => within(own, () => run(own.signal)),
        (error) => (isArcpError(error) ? Effect.fail(error) : Effect.die(error)),
        () => own.abort(endedBy())
      )

    return { promise, unlessEnded, step, handle }
  })
