/**
 * Sessions over any transport. A connection has a reader (this fiber), a writer, a heartbeat, and once it
 * submits a lane that keeps submits in order; all end with it. The session does not.
 */
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { encode, type Version } from "../../protocol/Codec.js"
import {
  type ArcpError,
  HeartbeatLost,
  InternalError,
  InvalidRequest,
  toPayload
} from "../../protocol/Errors.js"
import { timestamp } from "../../protocol/EventText.js"
import * as Features from "../../protocol/Features.js"
import { Registry } from "../../services/agents/Registry.js"
import { Auth } from "../../services/auth/Auth.js"
import { Policy } from "../../services/auth/Policy.js"
import { Credentials } from "../../services/credentials/Credentials.js"
import { Jobs } from "../../services/jobs/Jobs.js"
import { EventLog } from "../../services/log/EventLog.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { Turn } from "../../services/runtime/Turn.js"
import { Resume } from "../../services/session/Resume.js"
import { Sessions } from "../../services/session/Sessions.js"
import { Store } from "../../services/store/Store.js"
import { type Connection, closeCode, type Inbound } from "../../services/transport/Transport.js"
import { inRealTime } from "../jobs/Runner.js"
import * as Dispatch from "./Dispatch.js"
import * as Handshake from "./Handshake.js"
import { type Attached, Outbox, Session } from "./Session.js"

/** Answers that may wait for a client that asks but does not read; then its frames are no longer read. */
const maxOutbox = 1024

/** Submits of one connection that wait to be decided, at the most. */
const maxWaitingSubmits = 256

export const make = Effect.gen(function* () {
  const log = yield* EventLog
  const jobs = yield* Jobs
  const resume = yield* Resume
  const ids = yield* IdGenerator
  const store = yield* Store
  const options = yield* RuntimeOptions
  const clock = yield* Effect.clock
  const turn = yield* Turn
  const now = () => clock.unsafeCurrentTimeMillis()
  const credentials = yield* Credentials
  const greet = Handshake.make({
    auth: yield* Auth,
    resume,
    registry: yield* Registry,
    policy: yield* Policy,
    options,
    offered: Features.all.filter((feature) => feature !== "provisioned_credentials" || credentials.enabled)
  })
  const dispatch = Dispatch.make({ jobs, log, cancelOnBye: options.cancelOnBye, now })

  const sessions = new Map<string, Session>()
  const connections = new Set<Fiber.RuntimeFiber<void>>()
  let pendingHellos = 0
  let stopping = false

  const refuse = (connection: Connection, error: ArcpError, version: Version, requestId?: string) =>
    connection
      .send([
        encode({
          arcp: version,
          id: ids.unsafeNext(),
          type: "session.error",
          session_id: ids.unsafeMake("sess"),
          payload: toPayload(error, requestId === undefined ? undefined : { request_id: requestId })
        })
      ])
      .pipe(Effect.zipRight(connection.close(refusalCode(error), error.code)))

  /** The first frames: one of them the hello, the others for the session. */
  const firstFrames = (connection: Connection) =>
    connection.take.pipe(
      Effect.timeoutFail({
        duration: options.helloTimeout,
        onTimeout: () =>
          new Handshake.Refusal(
            new InvalidRequest({
              message: `session.hello must come within ${Duration.toSeconds(options.helloTimeout)} s`
            }),
            "1.1"
          )
      })
    )

  /** Waits in the hello room, at most `maxPendingHellos` at a time. */
  const handshake = (connection: Connection) =>
    Effect.acquireUseRelease(
      Effect.sync(() => ++pendingHellos),
      (pending) =>
        Effect.gen(function* () {
          if (stopping) return yield* Effect.fail(new Handshake.Refusal(shuttingDown, "1.1"))
          if (pending > options.maxPendingHellos)
            return yield* Effect.fail(new Handshake.Refusal(tooManyHellos(options.maxPendingHellos), "1.1"))
          yield* connection.setMaxFrameBytes(options.maxHelloFrameBytes)
          const frames = yield* firstFrames(connection)
          const greeted = yield* greet(Chunk.unsafeHead(frames))
          yield* connection.setMaxFrameBytes(options.maxFrameBytes)
          return { greeted, rest: Chunk.drop(frames, 1) }
        }),
      () => Effect.sync(() => --pendingHellos)
    )

  /** Attaches a connection to its session; one that is still attached there is closed. */
  const attach = (greeted: Handshake.Greeted, attached: Attached) =>
    Effect.gen(function* () {
      let session = sessions.get(greeted.sessionId)
      if (session === undefined) {
        session = new Session(
          greeted.sessionId,
          greeted.version,
          greeted.view,
          greeted.identity,
          greeted.features,
          ids.unsafeNext
        )
        sessions.set(greeted.sessionId, session)
      }
      const superseded = session.attached
      session.attached = attached
      session.identity = greeted.identity
      session.features = greeted.features
      yield* log.attach(session.view, { features: greeted.features, wake: attached.outbox.wake })
      session.send({ type: "session.welcome", payload: greeted.welcome })
      if (superseded !== undefined)
        yield* Effect.forkDaemon(superseded.close(closeCode.superseded, "resumed on another transport"))
      return session
    })

  const detach = (session: Session, attached: Attached, done: boolean) =>
    Effect.suspend(() => {
      if (session.attached !== attached) return Effect.void
      session.attached = undefined
      return Effect.zipRight(log.detach(session.view), resume.detach(session.sessionId, done))
    })

  /**
   * The one writer of a connection: answers first, then events from where the transport is. The answers are
   * taken after the events were read, so that `job.accepted`, queued at the commit, precedes its job's events.
   */
  const write = (connection: Connection, session: Session, outbox: Outbox, after: number, line: Line) =>
    Effect.gen(function* () {
      let cursor = after
      const given = { serial: session.announcements.startAt(after) }
      for (;;) {
        const { frames: read } = yield* log.read(session.view, cursor)
        const answers = outbox.take()
        const events = session.announcements.weave(read, cursor, given, (message) => session.frame(message))
        cursor += read.length
        const farewell = outbox.farewell
        if (answers.length > 0 || events.length > 0) {
          line.sentAt = now()
          yield* connection.send(answers.length === 0 ? events : [...answers, ...events])
        }
        if (farewell !== undefined && (events.length === 0 || !farewell.drained)) {
          if (farewell.frame !== undefined) yield* connection.send([farewell.frame])
          return yield* connection.close(farewell.code, farewell.reason)
        }
        if (answers.length === 0 && events.length === 0)
          yield* Effect.async<void>((resume) => outbox.onWake(() => resume(Effect.void)))
      }
    }).pipe(
      Effect.catchAll((error) =>
        connection
          .send([session.frame({ type: "session.error", payload: toPayload(error) })])
          .pipe(Effect.zipRight(connection.close(refusalCode(error), error.code)))
      )
    )

  /**
   * Pings when nothing was sent, or nothing came, for an interval: a client that only listens to a busy stream
   * has no other reason to speak. Gives up when nothing came for two.
   */
  const heartbeat = (connection: Connection, session: Session, line: Line) => {
    const interval = Duration.toMillis(options.heartbeatInterval)
    return Effect.gen(function* () {
      let pingedAt = 0
      for (;;) {
        const { sentAt, receivedAt } = line
        const ping = Math.min(sentAt, pingedAt > receivedAt ? Infinity : receivedAt) + interval
        const due = Math.min(ping, receivedAt + 2 * interval) - now()
        if (due > 0) {
          yield* clock.sleep(Duration.millis(due))
          continue
        }
        if (now() - receivedAt >= 2 * interval) {
          const error = new HeartbeatLost({ message: "nothing was received for two heartbeat intervals" })
          // The writer may be stuck on this very peer, so it is not asked.
          const frame = session.frame({ type: "session.error", payload: toPayload(error) })
          yield* Effect.raceFirst(connection.send([frame]), turn.next)
          return yield* connection.close(closeCode.heartbeatLost, error.code)
        }
        pingedAt = line.sentAt = now()
        session.send({
          type: "session.ping",
          payload: { nonce: ids.unsafeNext(), sent_at: timestamp(pingedAt) }
        })
      }
    })
  }

  /** Submits of one connection, one after the other. Started with the first; when it is full the reader waits. */
  const lane = (session: Session, scope: Scope.Scope) => {
    let queue: Mailbox.Mailbox<Effect.Effect<void>> | undefined
    return (submit: Effect.Effect<void, ArcpError>, id: string) =>
      Effect.gen(function* () {
        if (queue === undefined) {
          const started = yield* Mailbox.make<Effect.Effect<void>>({ capacity: maxWaitingSubmits })
          queue = started
          yield* started.take.pipe(Effect.flatten, Effect.forever, Effect.ignore, Effect.forkIn(scope))
        }
        yield* queue.offer(
          Effect.catchAll(submit, (error) =>
            Effect.sync(() =>
              session.send({ type: "session.error", payload: toPayload(error, { request_id: id }) })
            )
          )
        )
      })
  }

  /** Reads and dispatches until the transport ends. Returns whether the client said that it is done. */
  const read = (
    connection: Connection,
    session: Session,
    outbox: Outbox,
    greeted: Handshake.Greeted,
    rest: Chunk.Chunk<Inbound>,
    line: Line
  ) =>
    Effect.gen(function* () {
      const submits = lane(session, yield* Effect.scope)
      const malformed: Array<number> = []
      let unconfirmed = greeted.resumed
      let frames = rest
      for (;;) {
        line.receivedAt = now()
        for (const frame of frames) {
          if (unconfirmed) {
            unconfirmed = false
            // Stored before anything answers this frame: whoever got an answer has a new token that holds.
            yield* resume.confirm(session.sessionId)
          }
          const verdict = yield* dispatch(session, frame, submits)
          if (verdict._tag === "Close") {
            outbox.close({ code: verdict.code, reason: verdict.reason, drained: false })
            return verdict.done
          }
          if (verdict._tag === "Malformed") {
            const at = now()
            malformed.push(at)
            while ((malformed[0] as number) < at - Duration.toMillis(options.malformedWindow))
              malformed.shift()
            if (malformed.length > options.maxMalformedFrames) {
              outbox.close({ code: closeCode.policy, reason: "too many malformed frames", drained: false })
              return false
            }
          }
        }
        if (outbox.length > maxOutbox)
          yield* Effect.async<void>((resume) => outbox.onRoom(() => resume(Effect.void)))
        frames = yield* connection.take
      }
    })

  const serve = (connection: Connection): Effect.Effect<void> =>
    Effect.gen(function* () {
      const { greeted, rest } = yield* handshake(connection)
      const outbox = new Outbox()
      const attached: Attached = { outbox, close: connection.close }
      const line: Line = { sentAt: now(), receivedAt: now() }
      let done = false
      const session = yield* attach(greeted, attached)
      yield* Effect.gen(function* () {
        const writer = yield* Effect.forkScoped(write(connection, session, outbox, greeted.after, line))
        if (session.has("heartbeat")) yield* Effect.forkScoped(heartbeat(connection, session, line))
        done = yield* read(connection, session, outbox, greeted, rest, line).pipe(
          // The peer may have closed its side only: what is ready to be sent still goes out.
          Effect.catchTag("Closed", () => {
            outbox.close({ code: closeCode.normal, reason: "", drained: false })
            return Effect.succeed(false)
          })
        )
        yield* Fiber.join(writer)
      }).pipe(Effect.scoped, Effect.ensuring(Effect.suspend(() => detach(session, attached, done))))
    }).pipe(
      Effect.catchAll((error) =>
        error._tag === "Refusal"
          ? refuse(connection, error.error, error.version, error.requestId)
          : Effect.void
      ),
      Effect.catchAllCause((cause) =>
        Effect.zipRight(
          Effect.logError("a connection failed", cause),
          connection.close(1011, "internal error")
        )
      ),
      Effect.ensuring(connection.close(closeCode.normal, ""))
    )

  const sweepEvery = Duration.millis(
    Math.min(30_000, Math.max(100, Duration.toMillis(options.resumeWindow) / 4))
  )
  yield* Effect.gen(function* () {
    for (const sessionId of yield* resume.sweep) sessions.delete(sessionId)
    yield* Effect.repeat(store.vacuum, { while: (more) => more, schedule: Schedule.spaced("10 millis") })
  }).pipe(
    Effect.catchAll((error) =>
      Effect.logWarning("the sweeper could not work; it will try again", error.message)
    ),
    Effect.delay(sweepEvery),
    Effect.forever,
    Effect.forkScoped
  )

  const shutdown = Effect.gen(function* () {
    if (stopping) return
    stopping = true
    yield* jobs.shutdown
    for (const session of sessions.values())
      session.attached?.outbox.close({
        code: closeCode.goingAway,
        reason: "shutdown",
        drained: true,
        frame: session.frame({ type: "session.bye", payload: { reason: "shutdown" } })
      })
    yield* Effect.interruptible(Effect.forEach([...connections], Fiber.await, { discard: true })).pipe(
      Effect.timeoutOption("3 seconds"),
      inRealTime
    )
  })
  yield* Effect.addFinalizer(() => shutdown)

  return Sessions.of({
    serve: (connection) =>
      Effect.withFiberRuntime<void>((fiber) => {
        connections.add(fiber as unknown as Fiber.RuntimeFiber<void>)
        return Effect.ensuring(
          serve(connection),
          Effect.sync(() => connections.delete(fiber as unknown as Fiber.RuntimeFiber<void>))
        )
      }),
    shutdown
  })
})

/** When something last went out, and last came in: for heartbeats. Epoch ms. */
interface Line {
  sentAt: number
  receivedAt: number
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

const refusalCode = (error: ArcpError): number => {
  switch (error._tag) {
    case "InternalError":
      return closeCode.tryLater
    case "InvalidRequest":
      return closeCode.protocolError
    default:
      return closeCode.policy
  }
}

export const layer = Layer.scoped(Sessions, make)

export * from "../../services/session/Sessions.js"
