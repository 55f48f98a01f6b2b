/** Steps of agents that are async functions: what is called inside one is told from what is called beside it. */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Argument from "../../protocol/Argument.js"
import { type ArcpError, isArcpError } from "../../protocol/Errors.js"
import { HandlerThread, type JobService, Step, type StepService } from "../jobs/Job.js"
import { readable } from "./Thrown.js"

/** The step that an async function runs in, and its end. */
export interface PromiseStepContext extends StepService {
  /** Aborted when the attempt is: the job is ended, or the step has taken too long. */
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

/** Which step an async function is in, where the platform can tell: Node, Bun and Deno can. */
const running = (() => {
  const hooks = (globalThis as Platform).process?.getBuiltinModule?.("node:async_hooks")
  return hooks === undefined ? undefined : new hooks.AsyncLocalStorage<StepService>()
})()

/** Throws when async functions cannot have steps here. */
export const assertSteps = (agent: string): void => {
  if (running === undefined)
    throw new Error(
      `agent ${agent}: durable agents of async functions need AsyncLocalStorage, which this platform has not`
    )
}

/**
 * Runs an async function. An interruption aborts its signal and waits until it has settled, so that what it does in
 * `finally` is part of the run.
 */
const settling = <A, E>(
  run: (signal: AbortSignal) => unknown,
  rejected: (error: unknown) => Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.async((resume) => {
    const controller = new AbortController()
    const settled = new Promise<A>((resolve) => resolve(run(controller.signal) as A)).then(
      (output) => resume(Effect.succeed(output)),
      (thrown: unknown) => resume(rejected(readable(thrown)))
    )
    return Effect.promise(() => {
      controller.abort()
      return settled
    })
  })

/** Runs the async function of a handler: a rejection with an error of the protocol is a failure, any other a defect. */
export const settled = (run: (signal: AbortSignal) => unknown): Effect.Effect<unknown, ArcpError> =>
  settling(run, (error) => (isArcpError(error) ? Effect.fail(error) : Effect.die(error)))

/** Runs effects for an async function, in the step in which that is called. */
export interface InPromises {
  /** Rejects with the effect's own error, which has its code, and not with a wrapper. */
  readonly promise: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
  readonly step: PromiseStep
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

/** Returns what runs effects for the async function of a handler, whose job this is. */
export const make = (job: JobService): Effect.Effect<InPromises> =>
  Effect.map(Effect.provideService(Effect.runtime<never>(), HandlerThread, true), (runtime) => {
    const promise: InPromises["promise"] = (effect) => {
      const step = running?.getStore()
      return Runtime.runPromiseExit(runtime)(
        step === undefined ? effect : Effect.provideService(effect, Step, step)
      ).then((exit) => {
        if (Exit.isSuccess(exit)) return exit.value
        throw Cause.originalError(Cause.squash(exit.cause))
      })
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
      const inStep = <B>(body: (step: PromiseStepContext) => B | PromiseLike<B>) =>
        Effect.flatMap(Step, (step) => {
          const { attempt, idempotencyKey, key } = step
          const within = (signal: AbortSignal) => body({ key, attempt, idempotencyKey, signal })
          return settling<B, ArcpError | Thrown>(
            (signal) => (running === undefined ? within(signal) : running.run(step, () => within(signal))),
            (error) => Effect.fail(isArcpError(error) ? error : new Thrown(error))
          )
        })
      const retry = Schedule.intersect(Schedule.recurs(attempts - 1), Schedule.spaced(pause))
      return promise(
        Effect.mapError(
          job.step(key, inStep(run), {
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
          }),
          thrown
        )
      )
    }
    return { promise, step }
  })
