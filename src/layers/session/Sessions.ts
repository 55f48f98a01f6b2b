/** Sessions over any transport: wires the table, the handshake, connections, records and the sweeping together. */
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import { encode } from "../../protocol/Codec.js"
import { InternalError, InvalidRequest, toPayload } from "../../protocol/Errors.js"
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
import { type Connection, closeCode } from "../../services/transport/Transport.js"
import { sound } from "./boundary.js"
import { closeCodeOf, make as serveOn } from "./Connection.js"
import * as Dispatch from "./Dispatch.js"
import * as Handshake from "./Handshake.js"
import { Outbox } from "./Outbox.js"
import * as Records from "./Records.js"
import * as Resume from "./Resume.js"
import { Accepts, type Attachment } from "./Session.js"
import { SessionTable } from "./SessionTable.js"
import * as Sweeper from "./Sweeper.js"

/** What a shutdown gives each of its parts beyond the graces of the jobs, in real time. */
const shutdownMargin = Duration.seconds(3)

/** The sessions that the store has, detached until the window after their last message has passed. */
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

/** The frame of a connection that has no session, and its end. */
const refuse = (ids: IdGenerator["Type"], connection: Connection, refusal: Handshake.HelloRefusal) =>
  connection
    .send([
      encode({
        arcp: refusal.version,
        id: ids.unsafeNext(),
        type: "session.error",
        session_id: ids.unsafeMake("sess"),
        payload: toPayload(
          refusal.error,
          refusal.requestId === undefined ? undefined : { request_id: refusal.requestId }
        )
      })
    ])
    .pipe(Effect.zipRight(connection.close(closeCodeOf(refusal.error), refusal.error.code)))

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
  const records = Records.make({ table, log, now, resumeWindow: options.resumeWindow })
  records.ring()
  const greet = Handshake.make({
    auth: yield* Auth,
    registry: yield* Registry,
    policy: yield* Policy,
    options,
    offered: Features.all.filter((feature) => feature !== "provisioned_credentials" || credentials.enabled)
  })
  const dispatch = Dispatch.make({
    jobs,
    log,
    cancelOnBye: options.cancelOnBye,
    now,
    share,
    acknowledged: ({ sessionId }) => {
      const entry = table.get(sessionId)
      if (entry !== undefined) table.touch(entry)
    }
  })
  const connect = serveOn({
    log,
    jobs,
    ids,
    options,
    clock,
    elapsed,
    turn,
    share,
    dispatch,
    confirm: resume.confirm,
    noMoreRequests: Effect.asVoid(Effect.suspend(() => Effect.forkDaemon(shutdown)))
  })

  let stopping = false
  const room = yield* helloRoom({ options, greet, share, stopping: () => stopping })

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

  const serve = (connection: Connection): Effect.Effect<void> =>
    Effect.gen(function* () {
      const { greeted, rest } = yield* room(connection)
      const attachment: Attachment = {
        outbox: new Outbox(options.maxUnsentBytes),
        accepts: new Accepts(),
        close: connection.close
      }
      yield* Effect.acquireUseRelease(
        hold(greeted, attachment),
        (held) =>
          connect(connection, held, attachment, {
            resumed: greeted.resume !== undefined,
            after: greeted.resume?.lastEventSeq ?? 0,
            frames: rest
          }).pipe(traced(greeted, held)),
        detach
      )
    }).pipe(
      Effect.catchAll((refused) =>
        refused._tag === "Refusal" ? refuse(ids, connection, refused) : Effect.void
      ),
      Effect.catchAllCause((cause) =>
        Effect.zipRight(
          Effect.logError("a connection failed", cause),
          connection.close(1011, "internal error")
        )
      ),
      Effect.ensuring(connection.close(closeCode.normal, ""))
    )

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

  const served = connectionCount()
  const end = Effect.gen(function* () {
    yield* within(jobs.shutdown, Duration.sum(options.shutdownGrace, shutdownMargin))
    for (const [session, attachment] of table.attachments())
      attachment.outbox.close({
        code: closeCode.goingAway,
        reason: "shutdown",
        drained: true,
        frame: session.frame({ type: "session.bye", payload: { reason: "shutdown" } })
      })
    yield* within(served.none, shutdownMargin)
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
    serve: (connection) => served.count(serve(connection)),
    shutdown
  })
})

/** Serves a session on one transport in a span of its own, and with its name in the logs (§11). */
const traced =
  (greeted: Handshake.Greeted, { session: { sessionId } }: Resume.AttachedSession) =>
  <A, E>(serving: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    serving.pipe(
      Effect.withSpan("arcp.session", {
        captureStackTrace: false,
        ...(greeted.parentSpan === undefined ? { root: true } : { parent: greeted.parentSpan }),
        attributes: { "arcp.session_id": sessionId, "arcp.session.resumed": greeted.resume !== undefined }
      }),
      Effect.annotateLogs({ session: sessionId, principal: greeted.identity.principal })
    )

/** The hello room: connections that have not said who they are, at most `maxPendingHellos` of them. */
const helloRoom = ({
  options,
  greet,
  share,
  stopping
}: {
  readonly options: RuntimeOptions["Type"]
  readonly greet: ReturnType<typeof Handshake.make>
  readonly share: Effect.Effect<void>
  readonly stopping: () => boolean
}) =>
  Effect.sync(() => {
    let waiting = 0
    const late = new Handshake.HelloRefusal(
      new InvalidRequest({
        message: `session.hello must come within ${Duration.toSeconds(options.helloTimeout)} s`
      }),
      "1.1"
    )
    /** The first frames: one of them the hello, the others for the session. */
    const firstFrames = (connection: Connection) =>
      connection.take.pipe(Effect.timeoutFail({ duration: options.helloTimeout, onTimeout: () => late }))
    return (connection: Connection) =>
      Effect.acquireUseRelease(
        Effect.sync(() => ++waiting),
        (inside) =>
          Effect.gen(function* () {
            if (stopping()) return yield* Effect.fail(new Handshake.HelloRefusal(shuttingDown, "1.1"))
            if (inside > options.maxPendingHellos)
              return yield* Effect.fail(
                new Handshake.HelloRefusal(tooManyHellos(options.maxPendingHellos), "1.1")
              )
            yield* connection.setMaxFrameBytes(options.maxHelloFrameBytes)
            const frames = yield* firstFrames(connection)
            yield* share
            const greeted = yield* greet(connection, Chunk.unsafeHead(frames))
            yield* connection.setMaxFrameBytes(options.maxFrameBytes)
            return { greeted, rest: Chunk.drop(frames, 1) }
          }),
        () => Effect.sync(() => --waiting)
      )
  })

/** Counts what runs, so that a shutdown can wait until nothing does. */
const connectionCount = () => {
  let running = 0
  let idle = Deferred.unsafeMake<void>(FiberId.none)
  Deferred.unsafeDone(idle, Effect.void)
  return {
    count: (effect: Effect.Effect<void>) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          if (running++ === 0) idle = Deferred.unsafeMake<void>(FiberId.none)
        }),
        () => effect,
        () =>
          Effect.sync(() => {
            if (--running === 0) Deferred.unsafeDone(idle, Effect.void)
          })
      ),
    none: Effect.suspend(() => Deferred.await(idle))
  }
}

const shuttingDown = new InternalError({
  message: "the runtime is shutting down",
  details: { reason: "shutdown" }
})

const tooManyHellos = (max: number) =>
  new InternalError({
    message: `limit reached: at most ${max} connections may be waiting for session.hello; try again later`,
    details: { limit: "pending_hellos" }
  })

/** Provides `Sessions` over the services in context. Its end ends every session. */
export const layer = () => Layer.scoped(Sessions, make)

export * from "../../services/session/Sessions.js"
