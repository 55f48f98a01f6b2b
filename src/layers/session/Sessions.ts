/** Sessions over any transport: wires the table, the handshake, connections, records and the sweeping together. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type * as Tracer from "effect/Tracer"
import { toPayload } from "../../protocol/Errors.js"
import * as Features from "../../protocol/Features.js"
import { Registry } from "../../services/agents/Registry.js"
import { Auth } from "../../services/auth/Auth.js"
import { Policy } from "../../services/auth/Policy.js"
import { Credentials } from "../../services/credentials/Credentials.js"
import { Jobs } from "../../services/jobs/Jobs.js"
import { EventLog } from "../../services/log/EventLog.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { Secrets } from "../../services/runtime/Secrets.js"
import { Turn } from "../../services/runtime/Turn.js"
import { TurnShare } from "../../services/runtime/TurnShare.js"
import { within } from "../../services/runtime/within.js"
import { Sessions } from "../../services/session/Sessions.js"
import { Store } from "../../services/store/Store.js"
import { type Closed, type Connection, closeCode } from "../../services/transport/Transport.js"
import { frameOf } from "../jobs/fitting.js"
import { sound } from "./boundary.js"
import * as Connections from "./Connection.js"
import * as Dispatch from "./Dispatch.js"
import * as Expiry from "./Expiry.js"
import { FailedLogins, tooManyFailed } from "./FailedLogins.js"
import * as Handshake from "./Handshake.js"
import * as HelloRoom from "./HelloRoom.js"
import { Keeper } from "./Keeper.js"
import { Outbox } from "./Outbox.js"
import * as Records from "./Records.js"
import * as Resume from "./Resume.js"
import { closeCodeOf, type Served } from "./Served.js"
import { Accepts, type Attachment } from "./Session.js"
import { SessionTable } from "./SessionTable.js"
import * as Sweeper from "./Sweeper.js"
import { traced } from "./traced.js"

/** What a shutdown gives each of its parts beyond the graces of the jobs, in real time. */
const shutdownMargin = Duration.seconds(3)

/** Adds the sessions that the store has, detached until the window after their last message has passed. */
const restoreAll = (
  services: Resume.ResumeServices & { readonly store: Store["Type"] },
  resume: Resume.Resume
) =>
  Effect.gen(function* () {
    const { store, options, now, elapsed } = services
    const windowMs = Duration.toMillis(options.resumeWindow)
    // The process may have lived on until the next time it would have said so.
    const aliveUntil = (yield* store.aliveAt) + Duration.toMillis(Records.aliveEvery(options.resumeWindow))
    const at = now()
    const found = (yield* store.sessions).map((record) => {
      const seenAt = record.attached ? Math.max(record.lastSeenAt, aliveUntil) : record.lastSeenAt
      // A wall clock that was set back meanwhile makes no window longer than it is.
      const left = Math.min(windowMs, seenAt + windowMs - at)
      return { record: { ...record, lastSeenAt: Math.min(seenAt, at) }, left }
    })
    found.sort((a, b) => a.left - b.left)
    for (const { record, left } of found) yield* resume.restore(record, elapsed() + left)
  })

/** A line of the log on what becomes of a session. */
const said = (what: string, { session }: Resume.AttachedSession): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logInfo(what), {
    session: session.sessionId,
    principal: session.identity.principal
  })

/** The log has who was refused and why: nothing of it was in the token. Of a flood it has no line each. */
const refusedLogin = ({ kind, remote }: Connection, refusal: Handshake.HelloRefusal): Effect.Effect<void> =>
  Effect.annotateLogs(
    (refusal === tooManyFailed ? Effect.logDebug : Effect.logWarning)(
      `a login was refused: ${refusal.error.message}`
    ),
    {
      code: refusal.error.code,
      peer: kind === remote ? kind : `${kind} ${remote}`,
      ...(refusal.scheme === undefined ? {} : { scheme: refusal.scheme })
    }
  )

/** Tells a connection that has no session why, after a while when that is due, and closes it. */
const refuse = (
  { ids, options: { maxOutboundFrameBytes: maxBytes } }: Pick<Resume.ResumeServices, "ids" | "options">,
  connection: Connection,
  refusal: Handshake.HelloRefusal,
  pause: Effect.Effect<void> = Effect.void
) =>
  Effect.zipRight(refusedLogin(connection, refusal), pause).pipe(
    Effect.zipRight(
      connection.send([
        frameOf(
          {
            arcp: refusal.version,
            id: ids.unsafeNext(),
            type: "session.error",
            session_id: ids.unsafeMake("sess"),
            payload: toPayload(
              refusal.error,
              refusal.requestId === undefined ? undefined : { request_id: refusal.requestId }
            )
          },
          maxBytes
        )
      ])
    ),
    Effect.zipRight(connection.close(closeCodeOf(refusal.error), refusal.error.code))
  )

/** A connection whose session is attached, and the span of that. */
interface Entered {
  readonly served: Served
  /** Where somebody traces. */
  readonly span: Tracer.Span | undefined
}

/** Makes the sessions of a runtime over the services in context. */
export const make = Effect.gen(function* () {
  const log = yield* EventLog
  const jobs = yield* Jobs
  const ids = yield* IdGenerator
  const store = yield* Store
  const options = yield* RuntimeOptions
  const clock = yield* Effect.clock
  const turn = yield* Turn
  const share = yield* TurnShare
  const credentials = yield* Credentials
  const secrets = yield* Secrets
  const now = () => clock.unsafeCurrentTimeMillis()
  const elapsed = monotonic(clock)

  const table = new SessionTable()
  const dropping = yield* FiberSet.make<void>()
  const shared: Resume.ResumeServices = {
    table,
    log,
    jobs,
    ids,
    secrets,
    options,
    now,
    elapsed,
    share,
    background: (effect) => Effect.asVoid(FiberSet.run(dropping, effect))
  }
  const resume = Resume.make(shared)
  yield* restoreAll({ ...shared, store }, resume)
  const records = Records.make({
    table,
    log,
    now,
    resumeWindow: options.resumeWindow,
    outlived: store.kind === "durable"
  })
  records.ring()
  const greet = Handshake.make({
    auth: yield* Auth,
    registry: yield* Registry,
    policy: yield* Policy,
    options,
    offered: [...Features.all, ...Features.vendor].filter(
      (feature) => feature !== "provisioned_credentials" || credentials.enabled
    )
  })
  const dispatch = Dispatch.make({
    jobs,
    log,
    cancelOnBye: options.cancelOnBye,
    maxFrameBytes: options.maxOutboundFrameBytes,
    now,
    share,
    acknowledged: ({ sessionId }) => {
      const entry = table.get(sessionId)
      if (entry !== undefined) table.touch(entry)
    }
  })
  const keeper = new Keeper(elapsed, share)
  yield* Effect.forkScoped(keeper.run)
  const connections = Connections.make({
    log,
    jobs,
    ids,
    options,
    interval: Duration.toMillis(options.heartbeatInterval),
    clock,
    elapsed,
    turn,
    share,
    dispatch,
    expiry: Expiry.make({ jobs, options, now, elapsed }),
    keeper,
    run: yield* FiberSet.runtime(dropping)<never>(),
    confirm: resume.confirm,
    noMoreRequests: Effect.asVoid(Effect.suspend(() => Effect.forkDaemon(shutdown)))
  })

  let stopping = false
  const halted = yield* Deferred.make<void>()
  const failedLogins = new FailedLogins(options, elapsed)
  const room = yield* HelloRoom.make({
    options,
    elapsed,
    greet: (connection, frame) =>
      failedLogins.crowded(connection.client) ? Effect.fail(tooManyFailed) : greet(connection, frame),
    share,
    stopping: () => stopping,
    refuse: (connection, refusal) => refuse(shared, connection, refusal)
  })

  const detach = ({ entry, session, epoch }: Resume.AttachedSession) =>
    Effect.suspend(() => {
      const until = elapsed() + Duration.toMillis(options.resumeWindow)
      if (!table.detach(entry, epoch, until, now())) return Effect.void
      records.ring()
      return log.detach(session.view)
    })

  const hold = (greeted: Handshake.Greeted, attachment: Attachment) => {
    const guest = { ...greeted, attachment }
    return sound(
      Effect.suspend(() =>
        greeted.resume === undefined ? resume.open(guest) : resume.resume(guest, greeted.resume)
      ),
      "session.hello"
    ).pipe(Effect.mapError(greeted.refuse))
  }

  /** From the first frame to a session that is attached. Only waiting for the peer can be interrupted. */
  const enter = (
    connection: Connection,
    interruptible: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  ): Effect.Effect<Entered, Handshake.HelloRefusal | Closed> =>
    Effect.gen(function* () {
      const { greeted, rest } = yield* interruptible(room.greet(connection))
      yield* connection.greeted ?? Effect.void
      const attachment: Attachment = {
        outbox: new Outbox(options.maxUnsentBytes),
        accepts: new Accepts(),
        close: connection.close
      }
      const held = yield* hold(greeted, attachment)
      const resumed = greeted.resume !== undefined
      yield* said(`session ${resumed ? "resumed" : "opened"} over ${connection.kind}`, held)
      return {
        served: connections.prepare(connection, held, attachment, {
          resumed,
          after: greeted.resume?.lastEventSeq ?? 0,
          frames: rest
        }),
        span: yield* traced({
          sessionId: held.session.sessionId,
          principal: greeted.identity.principal,
          parentSpan: greeted.parentSpan,
          resumed
        })
      }
    })

  const failed = (connection: Connection, cause: Cause.Cause<never>): Effect.Effect<void> =>
    Cause.isInterruptedOnly(cause)
      ? Effect.void
      : Effect.zipRight(
          Effect.logError("a connection failed", cause),
          connection.close(1011, "internal error")
        )

  /** Refuses a hello, a failed login when its turn has come: until then it takes nobody's place. */
  const refuseSlowly = (connection: Connection, refusal: Handshake.HelloRefusal): Effect.Effect<void> => {
    const wait = refusal.error._tag === "Unauthenticated" ? failedLogins.failed(connection.client) : 0
    if (wait === 0) return refuse(shared, connection, refusal)
    const pause = Effect.raceFirst(Effect.sleep(wait), Deferred.await(halted))
    return refuse(shared, connection, refusal, Effect.zipRight(connection.greeted ?? Effect.void, pause))
  }

  const turnAway = (connection: Connection, cause: Cause.Cause<Handshake.HelloRefusal | Closed>) =>
    Either.match(Cause.failureOrCause(cause), {
      onLeft: (error) => (error._tag === "Refusal" ? refuseSlowly(connection, error) : Effect.void),
      onRight: (defect) => failed(connection, defect)
    })

  /** What follows the last frame of a connection: the session is let go of, whatever ended it. */
  const leave = ({ served, span }: Entered, exit: Exit.Exit<void>): Effect.Effect<void> =>
    Effect.zipRight(
      connections.end(served),
      Effect.suspend(() => {
        span?.end(clock.unsafeCurrentTimeNanos(), exit)
        const told = Exit.isFailure(exit) ? failed(served.connection, exit.cause) : Effect.void
        return detach(served.held).pipe(
          Effect.zipRight(told),
          Effect.zipRight(said("session disconnected", served.held))
        )
      })
    )

  const count = connectionCount()
  /**
   * One connection, to its end. Made of few parts on purpose: whatever is around the part that serves is held by every
   * connection for as long as it lives.
   */
  const serve = (connection: Connection): Effect.Effect<void> =>
    Effect.uninterruptibleMask((restore) => {
      const end = Effect.suspend(() => {
        count.end()
        return connection.close(closeCode.normal, "")
      })
      count.begin()
      return Effect.matchCauseEffect(enter(connection, restore), {
        onFailure: (cause) => Effect.zipRight(Effect.exit(restore(turnAway(connection, cause))), end),
        onSuccess: (entered) =>
          Effect.matchCauseEffect(restore(connections.run(entered.served)), {
            onFailure: (cause) => Effect.zipRight(leave(entered, Exit.failCause(cause)), end),
            onSuccess: () => Effect.zipRight(leave(entered, Exit.void), end)
          })
      })
    })

  yield* Effect.forkScoped(records.run)
  yield* Effect.forkScoped(
    Sweeper.run({
      table,
      elapsed,
      turn,
      resumeWindow: options.resumeWindow,
      committed: log.commit([])
    })
  )

  const end = Effect.gen(function* () {
    yield* Effect.logInfo("shutting down")
    yield* Deferred.succeed(halted, undefined)
    yield* within(jobs.shutdown, Duration.sum(options.shutdownGrace, shutdownMargin))
    for (const [session, attachment] of table.attachments())
      attachment.outbox.close({
        code: closeCode.goingAway,
        reason: "shutdown",
        drained: true,
        frame: session.frame({ type: "session.bye", payload: { reason: "shutdown" } })
      })
    yield* within(count.none, shutdownMargin)
    yield* within(Effect.ignoreLogged(records.write), shutdownMargin)
  })
  const ended = yield* Deferred.make<void>()
  /** Once, in a fiber of its own: whoever asks, and whoever asks again, waits until it is done. */
  const shutdown = Effect.suspend(() => {
    if (stopping) return Deferred.await(ended)
    stopping = true
    const done = Deferred.succeed(ended, undefined)
    return Effect.zipRight(Effect.forkDaemon(Effect.ensuring(end, done)), Deferred.await(ended))
  })
  yield* Effect.addFinalizer(() => shutdown)
  // Nothing can be answered any more, and clients are to know.
  yield* Effect.forkScoped(Effect.catchAll(log.stopped, () => shutdown))

  return Sessions.of({
    serve,
    shutdown
  })
})

/** Counts the connections that are served, so that a shutdown can wait until there are none. */
const connectionCount = () => {
  let running = 0
  let idle = Deferred.unsafeMake<void>(FiberId.none)
  Deferred.unsafeDone(idle, Effect.void)
  return {
    begin: () => {
      if (running++ === 0) idle = Deferred.unsafeMake<void>(FiberId.none)
    },
    end: () => {
      if (--running === 0) Deferred.unsafeDone(idle, Effect.void)
    },
    none: Effect.suspend(() => Deferred.await(idle))
  }
}

/** Provides `Sessions` over the services in context. Its end ends every session. */
export const layer = () => Layer.scoped(Sessions, make)

export * from "../../services/session/Sessions.js"
