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
import type * as List from "effect/List"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type * as LogSpan from "effect/LogSpan"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Tracer from "effect/Tracer"
import { guarded } from "../../services/runtime/Guard.js"
import { type Done, type Errand, runErrand } from "../../services/runtime/Pending.js"
import * as Tracing from "../../services/runtime/Tracing.js"
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

/**
 * Returns references that say the same in less: without what is as it is anyway, and without what fibers further up had. They are
 * copied for every fiber of a job, and for each effect in it that changes one of them.
 */
const concise = ({ locals }: FiberRefs.FiberRefs): FiberRefs.FiberRefs => {
  const kept: typeof locals = new Map()
  for (const [reference, [newest]] of locals)
    if (newest[1] !== FiberRefs.getOrDefault(none, reference)) kept.set(reference, [newest])
  return FiberRefs.unsafeMake(kept)
}

/** In which everything is as it is anyway. */
const none = FiberRefs.empty()

/** What the jobs are in that one fiber opens, as far as it is the same for all of them. */
class Ground {
  readonly flags: RuntimeFlags.RuntimeFlags
  readonly context: Context.Context<never>
  readonly references: FiberRefs.FiberRefs
  readonly clock: Clock.Clock
  /** Somebody sees the spans that are made here. */
  readonly isTraced: boolean
  readonly about: HashMap.HashMap<string, unknown>
  readonly logSpan: List.List<LogSpan.LogSpan>
  /** None where lines of this level are not wanted. */
  readonly loggers: ReadonlyArray<Logger.Logger<unknown, unknown>>

  constructor({ context, fiberRefs, runtimeFlags }: Runtime.Runtime<never>) {
    const get = <A>(ref: FiberRef.FiberRef<A>) => FiberRefs.getOrDefault(fiberRefs, ref)
    const services = get(DefaultServices.currentServices)
    this.references = FiberRefs.updateAs(concise(fiberRefs), {
      fiberId: FiberId.none,
      fiberRef: DefaultServices.currentServices,
      value: guardedServices(services)
    })
    this.flags = RuntimeFlags.disable(runtimeFlags, Interruption)
    this.context = context
    this.clock = Context.get(services, Clock.Clock)
    this.isTraced = Tracing.isSeen(Context.get(services, Tracer.Tracer))
    this.about = get(FiberRef.currentLogAnnotations)
    this.logSpan = get(FiberRef.currentLogSpan)
    this.loggers = LogLevel.greaterThan(get(FiberRef.currentMinimumLogLevel), LogLevel.Info)
      ? []
      : Array.from(get(FiberRef.currentLoggers)).filter(
          // What it adds to a span that nobody sees is seen by nobody.
          (logger) => this.isTraced || logger !== Logger.tracerLogger
        )
  }
}

const groundOf = new WeakMap<object, Ground>()

/** Forks the fibers of one job, and says what becomes of it. Fibers begin at once, and are nobody's children. */
export class Surroundings {
  private readonly id = FiberId.unsafeMake()
  private readonly about: HashMap.HashMap<string, unknown>
  private readonly references: FiberRefs.FiberRefs
  /** In which its lines are said: made when a logger looks at it, which those that write lines do not. */
  private saying: FiberRefs.FiberRefs | undefined
  private span: Tracer.Span | undefined
  /** In which is done of it what is given none. */
  private context: Context.Context<never>

  private constructor(
    private readonly ground: Ground,
    { agent, jobId, principal, traceId }: JobRecord
  ) {
    this.about = HashMap.mutate(ground.about, (all) => {
      HashMap.set(all, "job", jobId)
      HashMap.set(all, "agent", agent)
      HashMap.set(all, "principal", principal)
      HashMap.set(all, "trace_id", traceId)
    })
    this.references = FiberRefs.updateAs(ground.references, {
      fiberId: FiberId.none,
      fiberRef: FiberRef.currentLogAnnotations,
      value: this.about
    })
    this.context = ground.context
  }

  /**
   * Puts the job into its span: what is said of it belongs to its trace. What is done of it does too where somebody sees spans; else
   * no job has a copy of the context.
   */
  enter(span: Tracer.Span): void {
    const { context, isTraced } = this.ground
    this.span = span
    this.saying = undefined
    if (isTraced)
      this.context = Context.merge(context, Context.make(Tracer.ParentSpan, span) as Context.Context<never>)
  }

  /** References as a fiber of the job has them, in its span. */
  private get said(): FiberRefs.FiberRefs {
    const { references, span } = this
    if (span === undefined) return references
    this.saying ??= FiberRefs.updateAs(references, {
      fiberId: FiberId.none,
      fiberRef: FiberRef.currentContext,
      value: Context.add(
        FiberRefs.getOrDefault(references, FiberRef.currentContext),
        Tracer.ParentSpan,
        span
      ) as Context.Context<never>
    })
    return this.saying
  }

  /** Returns the surroundings of a job, made of those of the fiber that opens it. */
  static readonly of = (record: JobRecord): Effect.Effect<Surroundings> =>
    Effect.map(Effect.runtime<never>(), (runtime) => new Surroundings(new Ground(runtime), record))

  /**
   * The same of a job that is submitted. The fiber that decides the submits of a connection is in the same at each of them, so it is
   * looked at once.
   */
  static readonly ofSubmit = (record: JobRecord): Effect.Effect<Surroundings> =>
    Effect.withFiberRuntime<Surroundings>((fiber) => {
      const known = groundOf.get(fiber)
      if (known !== undefined) return Effect.succeed(new Surroundings(known, record))
      return Effect.map(Effect.runtime<never>(), (runtime) => {
        const ground = new Ground(runtime)
        groundOf.set(fiber, ground)
        return new Surroundings(ground, record)
      })
    })

  /** Somebody sees the spans of the job. */
  get isTraced(): boolean {
    return this.ground.isTraced
  }
  get clock(): Clock.Clock {
    return this.ground.clock
  }

  /** Writes a line of the log, as a fiber of the job would. Never throws. */
  say(message: string): void {
    const { clock, loggers, logSpan } = this.ground
    if (loggers.length === 0) return
    const said = () => this.said
    const line = {
      fiberId: this.id,
      logLevel: LogLevel.Info,
      message: [message],
      cause: Cause.empty,
      get context() {
        return said()
      },
      spans: logSpan,
      annotations: this.about,
      date: new Date(clock.unsafeCurrentTimeMillis())
    }
    for (const logger of loggers) {
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
    return this.fork(effect, this.context, this.ground.flags)
  }
  /** Forks what can be interrupted; given a context, with that and nothing else. */
  forkInterruptible<A, E, R = never>(
    effect: Effect.Effect<A, E, R>,
    context: Context.Context<R | never> = this.context as Context.Context<R>
  ): Fiber.RuntimeFiber<A, E> {
    return this.fork(effect, context, RuntimeFlags.enable(this.ground.flags, Interruption))
  }

  private fork<A, E, R>(
    effect: Effect.Effect<A, E, R>,
    context: Context.Context<R>,
    runtimeFlags: RuntimeFlags.RuntimeFlags
  ): Fiber.RuntimeFiber<A, E> {
    return Runtime.runFork(Runtime.make({ context, runtimeFlags, fiberRefs: this.references }), effect)
  }
}
