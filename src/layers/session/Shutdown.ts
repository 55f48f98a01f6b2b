/**
 * The end of all sessions, in this order: jobs end, and the sessions hear of it; each is told goodbye after the last frame that
 * waits for it; the connections close; the records are written. Nothing of it is waited for longer than its part may take.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import { failureMessage } from "../../services/agents/Agent.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import { within } from "../../services/runtime/within.js"
import { closeCode } from "../../services/transport/Transport.js"
import type { Records } from "./Records.js"
import type { SessionTable } from "./SessionTable.js"

/** What a shutdown gives each of its parts beyond the graces of the jobs, in real time. */
const shutdownMargin = Duration.seconds(3)

/** Counts the connections that are served, so that a shutdown can wait until there are none. */
export class Connected {
  private running = 0
  private idle = Deferred.unsafeMake<void>(FiberId.none)

  constructor() {
    Deferred.unsafeDone(this.idle, Effect.void)
  }
  begin(): void {
    if (this.running++ === 0) this.idle = Deferred.unsafeMake<void>(FiberId.none)
  }
  end(): void {
    if (--this.running === 0) Deferred.unsafeDone(this.idle, Effect.void)
  }
  /** Returns when nobody is connected. */
  readonly none: Effect.Effect<void> = Effect.suspend(() => Deferred.await(this.idle))
}

interface ShutdownServices {
  readonly jobs: Jobs["Type"]
  readonly options: Options
  readonly table: SessionTable
  readonly records: Records
  readonly connected: Connected
}

/** How all sessions end, and whether they do. */
export interface Shutdown {
  /** Tells whether it has begun: nobody comes in any more. */
  readonly begun: () => boolean
  /** Returns when it has begun. */
  readonly halted: Effect.Effect<void>
  /**
   * Ends everything once, in a fiber of its own: whoever asks, and whoever asks again, waits until it is done. `exit` is how what
   * needed the sessions has ended; a failure is said, since what else is said of it comes after everything has ended.
   */
  readonly run: (exit?: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
}

const said = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause)
    ? "shutting down"
    : `shutting down: ${failureMessage(Cause.squash(exit.cause))}`

const ending = ({ connected, jobs, options, records, table }: ShutdownServices): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* within(jobs.shutdown, Duration.sum(options.shutdownGrace, shutdownMargin))
    for (const [session, attachment] of table.attachments())
      attachment.outbox.close({
        code: closeCode.goingAway,
        reason: "shutdown",
        drained: true,
        frame: session.frame({ type: "session.bye", payload: { reason: "shutdown" } })
      })
    yield* within(connected.none, shutdownMargin)
    yield* within(Effect.ignoreLogged(records.write), shutdownMargin)
  })

/** Makes the end of the sessions in a table. */
export const make = (services: ShutdownServices): Shutdown => {
  const halted = Deferred.unsafeMake<void>(FiberId.none)
  const ended = Deferred.unsafeMake<void>(FiberId.none)
  let begun = false
  return {
    begun: () => begun,
    halted: Deferred.await(halted),
    // Whoever begins it may be interrupted, but not between saying so and starting it: others would wait for ever.
    run: (exit = Exit.void) =>
      Effect.uninterruptibleMask((restore) => {
        if (begun) return restore(Deferred.await(ended))
        begun = true
        return Effect.logInfo(said(exit)).pipe(
          Effect.zipRight(Deferred.succeed(halted, undefined)),
          Effect.zipRight(ending(services)),
          Effect.ensuring(Deferred.succeed(ended, undefined)),
          restore,
          Effect.forkDaemon,
          Effect.zipRight(restore(Deferred.await(ended)))
        )
      })
  }
}
