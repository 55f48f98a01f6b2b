/** A runtime that can die as its process would: at once, and without a word to its store. */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Supervisor from "effect/Supervisor"
import * as Runtime from "../layers/runtime/Runtime.js"
import type { Registry } from "../services/agents/Registry.js"
import { EventLog, type JobLog } from "../services/log/EventLog.js"
import { type Op, Store, type StoreService } from "../services/store/Store.js"
import { Dialer } from "../services/transport/Transport.js"
import { type CrashPoint, CrashStore } from "./CrashStore.js"
import { authOf, calm, partsOf, type TestParts } from "./parts.js"

/** Counts whatever moves: as long as fibers go on, nobody may say that they all wait. */
export class Moves {
  count = 0
}

/** Knows the fibers of what is run under it, and counts their moves. */
export class Watch extends Supervisor.AbstractSupervisor<void> {
  private readonly fibers = new Set<Fiber.RuntimeFiber<unknown, unknown>>()

  constructor(private readonly moves: Moves) {
    super()
  }

  override get value(): Effect.Effect<void> {
    return Effect.void
  }
  override onStart<A, E, R>(
    _context: Context.Context<R>,
    _effect: Effect.Effect<A, E, R>,
    _parent: unknown,
    fiber: Fiber.RuntimeFiber<A, E>
  ): void {
    this.moves.count++
    this.fibers.add(fiber)
  }
  override onEnd<A, E>(_exit: Exit.Exit<A, E>, fiber: Fiber.RuntimeFiber<A, E>): void {
    this.fibers.delete(fiber)
  }
  override onResume(): void {
    this.moves.count++
  }
  /** Interrupts all of them: they look at that before anything else. */
  interrupt(): void {
    for (const fiber of [...this.fibers]) fiber.unsafeInterruptAsFork(FiberId.none)
  }
}

/** Where a process has died. */
export interface Died {
  /** Commits of its that changed a job, with the one at which it died. */
  readonly commits: number
  /** `undefined`: not at a commit, but when it was told to. */
  readonly at: (CrashPoint & { readonly batch: ReadonlyArray<Op> }) | undefined
}

/** A process that runs. */
export interface Process {
  readonly store: CrashStore
  readonly dialer: Dialer["Type"]
  /** Returns when it has died. */
  readonly died: Deferred.Deferred<Died>
  /** Dies now. */
  readonly kill: Effect.Effect<void>
  /** Ends as it does when it is shut down; of a dead one, closes what the application gave it of its own. */
  readonly stop: Effect.Effect<void>
}

/** What every process of a test is made with. */
export interface Given {
  readonly registry: Layer.Layer<Registry, unknown, unknown>
  readonly parts: TestParts
  readonly base: StoreService
  readonly moves: Moves
  readonly disturbed: Effect.Latch
}

/** Notes the logs of jobs that run, so that they can be closed all at once. */
const noting =
  (running: Set<JobLog>, close: { now: () => void }, wrap: NonNullable<TestParts["eventLog"]>) =>
  (base: Parameters<typeof wrap>[0]) =>
    Layer.effect(
      EventLog,
      Effect.map(EventLog, (log) => {
        const noted = <E>(opening: Effect.Effect<JobLog, E>) =>
          Effect.tap(opening, (job) => Effect.sync(() => running.add(job)))
        close.now = () => {
          for (const job of running) log.leaveJob(job)
        }
        return EventLog.of({
          ...log,
          openJob: (job, owner, options) => noted(log.openJob(job, owner, options)),
          reopenJob: (job, options) => noted(log.reopenJob(job, options)),
          end: (job, ...ending) =>
            Effect.tap(log.end(job, ...ending), () => Effect.sync(() => running.delete(job)))
        })
      })
    ).pipe(Layer.provide(wrap(base)))

/**
 * Starts a process. What the application gives it of its own, agents and whoever knows the users, is closed as usual when
 * it dies; of the runtime every fiber is interrupted, and the logs of its jobs are closed before, so that nothing of what
 * finalizers do is stored. Fails as the parts fail; returns a process that is dead when it dies at its start.
 */
export const start = (
  { base, disturbed, moves, parts, registry }: Given,
  point: CrashPoint | undefined
): Effect.Effect<Process, unknown, unknown> =>
  Effect.gen(function* () {
    const watch = new Watch(moves)
    const died = yield* Deferred.make<Died>()
    const running = new Set<JobLog>()
    const close = { now: () => {} }
    const outer = yield* Scope.make()
    const inner = yield* Scope.make()
    const die = (batch?: ReadonlyArray<Op>) => {
      if (store.isDead) return
      const { commits, point } = store
      store.die()
      close.now()
      watch.interrupt()
      const at = batch === undefined || point === undefined ? undefined : { ...point, batch }
      Deferred.unsafeDone(died, Exit.succeed({ commits, at }))
    }
    const store = new CrashStore(base, die)
    store.point = point
    const own = yield* Layer.buildWithScope(Layer.mergeAll(registry, authOf(parts)), outer)
    const served = Runtime.serve().pipe(
      Layer.provideMerge(calm(disturbed)),
      Layer.provide(
        Runtime.layer({
          ...partsOf(parts),
          eventLog: noting(running, close, parts.eventLog ?? ((base) => base))
        })
      ),
      Layer.provide(Layer.succeedContext(own)),
      Layer.provide(Layer.succeed(Store, store.service))
    )
    const building = yield* Effect.supervised(Effect.forkDaemon(Layer.buildWithScope(served, inner)), watch)
    const built = yield* Effect.raceFirst(
      Effect.map(Fiber.await(building), Option.some),
      Effect.as(Deferred.await(died), Option.none())
    )
    const dialer: Dialer["Type"] =
      built._tag === "None" ? { connect: Effect.never } : Context.get(yield* built.value, Dialer)
    return {
      store,
      dialer,
      died,
      kill: Effect.sync(() => die()),
      stop: Effect.suspend(() =>
        Effect.zipRight(
          // Of a dead one nothing waits, and nothing answers.
          store.isDead ? Effect.void : Scope.close(inner, Exit.void),
          Scope.close(outer, Exit.void)
        )
      )
    }
  })
