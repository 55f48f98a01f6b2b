/**
 * In what one job runs: in that of whoever submitted or delegated to it, its clock, tracer and loggers, with the job's name
 * on every line of the log, and what agents throw made readable (services/runtime/Guard.ts). Fibers are forked in it
 * ready-made, since each effect around them that changes their context or their references copies those, twice; and what is
 * only said of a job needs no fiber.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as HashMap from "effect/HashMap"
import * as LogLevel from "effect/LogLevel"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Tracer from "effect/Tracer"
import { guarded } from "../../services/runtime/Guard.js"
import { type Done, type Errand, runErrand } from "../../services/runtime/Pending.js"
import type { JobRecord } from "../../services/store/Store.js"

const { Interruption } = RuntimeFlags

const guardedOf = new WeakMap<object, Context.Context<DefaultServices.DefaultServices>>()

/** Returns the same services, with a tracer that guards the fibers that run what is an agent's. */
const guardedServices = (services: Context.Context<DefaultServices.DefaultServices>) => {
  const known = guardedOf.get(services)
  if (known !== undefined) return known
  const made = Context.add(services, Tracer.Tracer, guarded(Context.get(services, Tracer.Tracer)))
  guardedOf.set(services, made)
  return made
}

/** Forks the fibers of one job, and says what becomes of it. Fibers begin at once, and are nobody's children. */
export class Surroundings {
  private readonly id = FiberId.unsafeMake()
  private readonly flags: RuntimeFlags.RuntimeFlags
  private readonly references: FiberRefs.FiberRefs

  private constructor(
    private readonly runtime: Runtime.Runtime<never>,
    { agent, jobId, principal, traceId }: JobRecord
  ) {
    this.flags = RuntimeFlags.disable(runtime.runtimeFlags, Interruption)
    const about = FiberRefs.getOrDefault(runtime.fiberRefs, FiberRef.currentLogAnnotations)
    const services = FiberRefs.getOrDefault(runtime.fiberRefs, DefaultServices.currentServices)
    // Both at once: each would copy all that a fiber refers to.
    this.references = FiberRefs.updateManyAs(runtime.fiberRefs, {
      entries: [
        [DefaultServices.currentServices, [[FiberId.none, guardedServices(services)]]],
        [
          FiberRef.currentLogAnnotations,
          [
            [
              FiberId.none,
              HashMap.mutate(about, (all) => {
                HashMap.set(all, "job", jobId)
                HashMap.set(all, "agent", agent)
                HashMap.set(all, "principal", principal)
                HashMap.set(all, "trace_id", traceId)
              })
            ]
          ]
        ]
      ]
    })
  }

  /** Returns the surroundings of a job, made of those of the fiber that opens it. */
  static readonly of = (record: JobRecord): Effect.Effect<Surroundings> =>
    Effect.map(Effect.runtime<never>(), (runtime) => new Surroundings(runtime, record))

  /** Writes a line of the log, as a fiber of the job would. Never throws. */
  say(message: string): void {
    const refs = this.references
    const get = <A>(ref: FiberRef.FiberRef<A>) => FiberRefs.getOrDefault(refs, ref)
    if (LogLevel.greaterThan(get(FiberRef.currentMinimumLogLevel), LogLevel.Info)) return
    const clock = Context.get(get(DefaultServices.currentServices), Clock.Clock)
    const line = {
      fiberId: this.id,
      logLevel: LogLevel.Info,
      message: [message],
      cause: Cause.empty,
      context: refs,
      spans: get(FiberRef.currentLogSpan),
      annotations: get(FiberRef.currentLogAnnotations),
      date: new Date(clock.unsafeCurrentTimeMillis())
    }
    for (const logger of get(FiberRef.currentLoggers)) {
      try {
        logger.log(line)
      } catch {
        // A job is not to end otherwise because nobody can be told of it.
      }
    }
  }

  /** Runs an errand of the job, which only the death of the process cuts short, and calls back with its end. */
  run<A>(errand: Errand<A>, over: Done<A>): void {
    runErrand(errand, (effect) => this.forkUninterruptible(effect), over)
  }
  /** Forks what only the death of the process ends. */
  forkUninterruptible<A, E>(effect: Effect.Effect<A, E>): Fiber.RuntimeFiber<A, E> {
    return this.fork(effect, this.runtime.context, this.flags)
  }
  /** Forks what can be interrupted; given a context, with that and nothing else. */
  forkInterruptible<A, E, R = never>(
    effect: Effect.Effect<A, E, R>,
    context: Context.Context<R | never> = this.runtime.context as Context.Context<R>
  ): Fiber.RuntimeFiber<A, E> {
    return this.fork(effect, context, RuntimeFlags.enable(this.flags, Interruption))
  }

  private fork<A, E, R>(
    effect: Effect.Effect<A, E, R>,
    context: Context.Context<R>,
    runtimeFlags: RuntimeFlags.RuntimeFlags
  ): Fiber.RuntimeFiber<A, E> {
    return Runtime.runFork(Runtime.make({ context, runtimeFlags, fiberRefs: this.references }), effect)
  }
}
