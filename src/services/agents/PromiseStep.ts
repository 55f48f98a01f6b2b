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
import { type ArcpError, Cancelled, isArcpError, Timeout } from "../../protocol/Errors.js"
import { EndedBy } from "../jobs/EndedBy.js"
import { inTime } from "../jobs/inTime.js"
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

/** Tells what is waited for that its function is to end, or has ended: it is interrupted, or may settle first. */
type Tell = (reason: unknown) => void

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

/** What an async function has asked its job for and waits for: a handler, or an attempt of a step. */
class Calls {
  private readonly controller = new AbortController()
  /** What is waited for; `undefined`: an emit, which is told only of an end that is not the function's own. */
  private readonly pending = new Map<AnyFiber, Tell | undefined>()
  private isTold = false
  /** The function has come to its end by itself. */
  private over: Cancelled | undefined
  /** Whether it has come to something; `undefined`: it has not settled. */
  succeeded: boolean | undefined

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
  get abortedBy(): unknown {
    return this.controller.signal.reason
  }
  /** What the function is told that waits for anything of the job: because it is to end, or has ended. */
  get reason(): unknown {
    return this.abortedBy ?? this.over
  }

  add(fiber: AnyFiber, tell: Tell | undefined): void {
    this.pending.set(fiber, tell)
    fiber.addObserver(() => this.pending.delete(fiber))
  }

  /**
   * Tells the function to end, and what it waits for. Returns what is to be waited for beside it; `undefined` when it cannot
   * know, and nobody is to wait.
   */
  abort(reason: unknown): Promise<unknown> | undefined {
    this.isTold ||= this.pending.size > 0
    this.controller.abort(reason)
    for (const [fiber, tell = () => interrupt(fiber)] of [...this.pending]) tell(reason)
    return this.isTold ? this.exited : undefined
  }

  /**
   * The function has settled: nobody waits any more for what it has left waiting, such as the loser of a race, which is told
   * so. That is over before anything else begins, and has let go of its keys; what hangs is waited for no longer than so many
   * milliseconds. And what was emitted by now is in, however long that takes.
   */
  settled(graceMs: number): Effect.Effect<unknown> {
    this.over = hasSettled
    if (this.pending.size === 0) return Effect.void
    const emits: Array<AnyFiber> = []
    const told: Array<AnyFiber> = []
    for (const [fiber, tell] of [...this.pending]) {
      if (tell === undefined) emits.push(fiber)
      else {
        told.push(fiber)
        tell(hasSettled)
      }
    }
    return Effect.zipRight(
      Effect.timeoutOption(
        Effect.promise(() => ended(told)),
        graceMs
      ),
      Effect.promise(() => ended(emits))
    )
  }

  /** Resolves when what is waited for now has come to its end. */
  private get exited(): Promise<unknown> {
    return ended([...this.pending.keys()])
  }
}

/** Resolves when all of them have ended. */
const ended = (fibers: ReadonlyArray<AnyFiber>): Promise<unknown> =>
  Promise.all(fibers.map((fiber) => new Promise((resolve) => fiber.addObserver(resolve))))

const hasSettled = new Cancelled({ message: "the function that waited for it has ended" })

const interrupt = (fiber: AnyFiber): void => fiber.unsafeInterruptAsFork(FiberId.none)

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
 * Runs an async function, whose calls these are. An interruption tells it to end, for that reason, and waits until it has settled,
 * so that what it does in `finally` is part of the run. What bounds its time does not count what it has left waiting: then it has
 * come to something already.
 */
const settling = <A, E>(
  calls: Calls,
  run: () => unknown,
  rejected: (error: unknown) => Effect.Effect<A, E>,
  reason: () => unknown,
  graceMs: number,
  bounded: (running: Effect.Effect<A, E>) => Effect.Effect<A, E> = (running) => running
): Effect.Effect<A, E> => {
  const running = Effect.async<A, E>((resume) => {
    const settled = new Promise<A>((resolve) => resolve(run() as A)).then(
      (output) => resume(Effect.succeed(output)),
      (thrown: unknown) => resume(rejected(readable(thrown)))
    )
    return Effect.suspend(() => {
      const others = calls.abort(reason())
      // One that has not asked for its signal, and waits for nothing of the job, goes on for as long as it likes.
      return others === undefined ? Effect.void : Effect.promise(() => Promise.all([settled, others]))
    })
  })
  const settled = Effect.onInterrupt(
    Effect.suspend(() => calls.settled(graceMs)),
    () => Effect.sync(() => calls.abort(reason()))
  )
  return Effect.flatMap(Effect.exit(bounded(running)), (exit) => {
    calls.succeeded = Exit.isSuccess(exit)
    return Effect.zipRight(settled, exit)
  })
}

/** Runs effects for an async function, in the step in which that is called. */
export interface InPromises {
  /**
   * Rejects with the effect's own error, which has its code, and not with a wrapper; with what ends the job, or the attempt of
   * the step, when that happens meanwhile.
   */
  readonly promise: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
  /** The same for what nobody needs any more when the function that has called it has settled. Others are emits, which still get in. */
  readonly waiting: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
  /**
   * The same for what a job that is ended does not begin any more: nothing interrupts a function that goes on, so it is told
   * at each of these.
   */
  readonly unlessEnded: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
  readonly step: PromiseStep
  /** Runs the async function of the handler. It fails with what that rejects with, whether or not its contract declares it (`F`). */
  readonly handle: <A, F>(run: (signal: AbortSignal) => A | PromiseLike<A>) => Effect.Effect<A, F | ArcpError>
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

/** The share of the grace for which a step may settle. */
const patience = 0.8

const tookTooLong = new Timeout({ message: "the attempt of the step has taken too long" })

/** Returns what runs effects for the async function of a handler, whose job this is. */
export const make = (job: JobService): Effect.Effect<InPromises> =>
  Effect.gen(function* () {
    const { error: endedBy, graceMs } = yield* EndedBy
    const runtime = yield* Effect.provideService(Effect.runtime<never>(), HandlerThread, true)
    const own = new Calls(job)
    const within = <A>(calls: Calls, run: () => A): A =>
      running === undefined ? run() : running.run(calls, run)
    /** Where a function is called may be in what another job has begun: a commit is of many. */
    const current = () => {
      const calls = running?.getStore()
      return calls?.job === job ? calls : own
    }

    type TellFiber<A, E> = (fiber: Fiber.RuntimeFiber<A, E>, reason: unknown) => void

    const promise = <A, E>(effect: Effect.Effect<A, E>, tell?: TellFiber<A, E>) => {
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

    const waiting = <A, E>(effect: Effect.Effect<A, E>) => promise(effect, interrupt)

    const unlessEnded = <A, E>(effect: Effect.Effect<A, E>, tell: TellFiber<A, E> = interrupt) => {
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
      /** What has called it: the handler, or an attempt of a step around it. */
      const caller = current()
      /** The newest attempt. */
      let newest: Calls | undefined
      /** The job is ended: there is no other attempt. */
      let isLast = false
      const inStep = <B>(
        body: (step: PromiseStepContext) => B | PromiseLike<B>,
        limit?: (running: Effect.Effect<B, ArcpError | Thrown>) => Effect.Effect<B, ArcpError | Thrown>
      ) =>
        Effect.flatMap(Step, (step) => {
          const { attempt, idempotencyKey, key } = step
          const calls = new Calls(job, step)
          newest = calls
          const context: PromiseStepContext = {
            key,
            attempt,
            idempotencyKey,
            get signal() {
              return calls.signal
            }
          }
          return settling<B, ArcpError | Thrown>(
            calls,
            () => within(calls, () => body(context)),
            (error) => {
              // That it was told to end is no outcome.
              if (calls.reason !== undefined) return Effect.interrupt
              return Effect.fail(isArcpError(error) ? error : new Thrown(error))
            },
            () => own.abortedBy ?? caller.reason ?? tookTooLong,
            graceMs,
            limit
          )
        })
      const retry = Schedule.intersect(Schedule.recurs(attempts - 1), Schedule.spaced(pause)).pipe(
        Schedule.whileInput(() => !isLast)
      )
      const attempting = Effect.suspend(() =>
        isLast ? Effect.interrupt : inStep(run, (running) => inTime(key, running, timeout))
      )
      const outcome = job.step(key, attempting, {
        error: ThrownSchema,
        retry,
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
        // What has failed is not tried again, and what goes on later or elsewhere is run again there.
        if (newest === undefined || newest.succeeded === false) return interrupt(fiber)
        // What has come to something is on its way into the log.
        if (newest.succeeded === undefined) {
          if (!isEnd(reason)) return interrupt(fiber)
          isLast = true
          const isTold = newest.abort(reason) !== undefined
          // A job that goes well has nothing to undo.
          if (!isTold && (compensate === undefined || own.succeeded === true)) return interrupt(fiber)
        }
        // What hangs is given up while the function that waits for it can still clean up.
        const giveUp = Runtime.runFork(runtime)(
          Effect.zipRight(
            Effect.sleep(graceMs * patience),
            Effect.sync(() => interrupt(fiber))
          )
        )
        fiber.addObserver(() => interrupt(giveUp))
      })
    }

    const handle: InPromises["handle"] = <A, F>(run: (signal: AbortSignal) => A | PromiseLike<A>) =>
      settling<A, F | ArcpError>(
        own,
        () => within(own, () => run(own.signal)),
        // No type says what a function throws: the contract's schema does, where failures become errors of the protocol.
        (error) => Effect.fail(error as F),
        endedBy,
        graceMs
      )

    return { promise, waiting, unlessEnded, step, handle }
  })
