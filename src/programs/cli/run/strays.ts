/**
 * What an agent lets go of and what nobody waits for: a promise that is rejected is logged, with its job, and the server
 * goes on; an error that nothing catches is the end of the server, in order, or of a server to write agents with an entry of its log.
 */
import { AsyncLocalStorage } from "node:async_hooks"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Runtime from "effect/Runtime"
import type * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import { failureMessage } from "../../../services/agents/Agent.js"
import { readable, whole } from "../../../services/agents/Thrown.js"
import { Job } from "../../../services/jobs/Job.js"
import type { Hosted } from "../agents-module.js"

/** An error that nothing has caught: nobody knows what it has left behind, so the process is to be started again. */
export class Crashed extends Data.TaggedError("Crashed")<{ readonly message: string }> {}

/** The job, or the module, that the running code was started by, across timers and promises. */
const origin = new AsyncLocalStorage<Readonly<Record<"job" | "agent", string> | Record<"module", string>>>()

/** Runs what loads a module, whatever that starts being known as its own. */
export const inNameOfModule = <A>(module: string, load: () => A): A => origin.run({ module }, load)

/** A scheduler whose tasks run in the name of a job: a fiber's only way to run on. */
const inNameOf = (base: Scheduler.Scheduler, { agent, jobId: job }: Job["Type"]): Scheduler.Scheduler => ({
  shouldYield: (fiber) => base.shouldYield(fiber),
  scheduleTask: (task, priority, fiber) =>
    base.scheduleTask(() => origin.run({ job, agent }, task), priority, fiber)
})

/** The agent, whatever it starts being known as its job's. */
export const traceable = (agent: Hosted): Hosted => ({
  ...agent,
  prepare: (...args) =>
    Effect.map(agent.prepare(...args), (run) =>
      Effect.gen(function* () {
        const scheduler = inNameOf(yield* FiberRef.get(FiberRef.currentScheduler), yield* Job)
        return yield* Effect.withScheduler(Effect.zipRight(Effect.yieldNow(), run), scheduler)
      })
    )
})

/** Keeps agents from ending the process, and with it the jobs of all others: in the name of one `process.exit` throws. */
const withoutExit = (refused: (error: Error) => void): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => {
        const { exit } = process
        process.exit = (code) => {
          const by = origin.getStore()
          if (by === undefined) return exit(code)
          const error = new Error(
            "module" in by
              ? "a module of agents called process.exit(): it may not end the server"
              : "an agent called process.exit(): it may end its job, not the server"
          )
          refused(error)
          throw error
        }
        return exit
      }),
      (exit) =>
        Effect.sync(() => {
          process.exit = exit
          // Nor do they say how it has ended.
          process.exitCode = undefined
        })
    )
  )

/** Serves until that has ended, or the process cannot go on; a race would not wait for what it interrupts. */
export const unless = <E, R>(
  crashed: Effect.Effect<never, Crashed>,
  serving: Effect.Effect<void, E, R>
): Effect.Effect<void, E | Crashed, R> =>
  Effect.acquireUseRelease(
    Effect.forkDaemon(Effect.interruptible(serving)),
    (fiber) => Effect.raceFirst(Fiber.join(fiber), crashed),
    Fiber.interrupt
  )

/** Strays of one job, or of one module, that are logged whole within a second: of what comes beyond these their number is. */
const loggedWhole = 10

/** Lets so many through for each origin in a second; `left` is told how many more there were. */
const bounded = (left: (by: object, more: number) => void): (() => boolean) => {
  const counts = new Map<string, number>()
  return () => {
    const by = origin.getStore() ?? {}
    const key = JSON.stringify(by)
    const count = (counts.get(key) ?? 0) + 1
    counts.set(key, count)
    if (count > 1) return count <= loggedWhole
    setTimeout(() => {
      const more = (counts.get(key) ?? 0) - loggedWhole
      counts.delete(key)
      if (more > 0) left(by, more)
    }, 1_000).unref()
    return true
  }
}

/** What becomes of a server where an error is thrown that nothing catches. */
export type AfterException = "shut down" | "go on"

/** Watches for strays as long as the scope is open. What it gives fails when the process is not to go on. */
export const watch = (
  then: AfterException
): Effect.Effect<Effect.Effect<never, Crashed>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const runtime = yield* Effect.runtime<never>()
    const crashed = yield* Deferred.make<never, Crashed>()
    const write = (line: Effect.Effect<void>, by: object) =>
      void Runtime.runFork(runtime)(Effect.annotateLogs(line, by as Record<string, string>))
    const log = (message: string, reason: unknown) =>
      write(Effect.logError(message, whole(Cause.die(readable(reason)))), origin.getStore() ?? {})
    const passes = bounded((by, more) =>
      write(
        Effect.logError(
          `${more} more errors within a second that nobody waited for, or caught, are not logged`
        ),
        by
      )
    )
    const logBounded = (message: string, reason: unknown) => {
      if (passes()) log(message, reason)
    }
    const onRejection = (reason: unknown) =>
      logBounded("a promise was rejected that nobody waits for", reason)
    const onException = (error: unknown) => {
      const what = "an error was thrown that nothing catches"
      if (then === "go on")
        return logBounded(`${what}; this server goes on, where arcp serve would shut down`, error)
      log(`${what}; shutting down`, error)
      const message = `${what} (${failureMessage(readable(error))}); the server has shut down`
      Deferred.unsafeDone(crashed, Effect.fail(new Crashed({ message })))
    }
    yield* withoutExit((error) => logBounded("an agent tried to end the process", error))
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        process.on("unhandledRejection", onRejection)
        process.on("uncaughtException", onException)
      }),
      () =>
        Effect.sync(() => {
          process.off("unhandledRejection", onRejection)
          process.off("uncaughtException", onException)
        })
    )
    return Deferred.await(crashed)
  })
