/**
 * One transport of an open session: a reader (the fiber that serves it), a writer, a heartbeat, and once it submits a
 * queue that keeps submits in order. All end with it; the session does not.
 */
import type * as Chunk from "effect/Chunk"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import {
  type ArcpError,
  HeartbeatLost,
  type InternalError,
  type ResumeWindowExpired,
  toPayload
} from "../../protocol/Errors.js"
import { timestamp } from "../../protocol/EventText.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { EventLog, Page } from "../../services/log/EventLog.js"
import type { IdGenerator } from "../../services/runtime/IdGenerator.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import { type Closed, type Connection, closeCode, type Inbound } from "../../services/transport/Transport.js"
import { heartbeat, Pulse } from "../transport/heartbeat.js"
import { sound } from "./boundary.js"
import type * as Dispatch from "./Dispatch.js"
import type { AttachedSession } from "./Resume.js"
import type { Attachment, Session } from "./Session.js"

/** Submits of one connection that wait to be decided, and what their frames hold: beyond it the reader waits. */
const maxWaitingSubmits = 256
const maxWaitingBytes = 1024 * 1024

/** How long a peer whose answers fill the outbox may take none of them; two heartbeat intervals if that is longer. */
const patience = Duration.minutes(1)

/** What a connection works on. */
export interface ConnectionServices {
  readonly log: EventLog["Type"]
  readonly jobs: Jobs["Type"]
  readonly ids: IdGenerator["Type"]
  readonly options: Options
  readonly clock: Clock.Clock
  /** Milliseconds that only go forward. */
  readonly elapsed: () => number
  readonly turn: TurnService
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
  readonly dispatch: ReturnType<typeof Dispatch.make>
  /** The client has sent a frame on this transport. */
  readonly confirm: (held: AttachedSession) => Effect.Effect<void>
  /** The peer asks for nothing more, and reads what there still is to say. Does not wait until it is said. */
  readonly noMoreRequests: Effect.Effect<void>
}

/** Where a connection begins. */
export interface Start {
  readonly resumed: boolean
  /** Delivery continues after this `event_seq`. */
  readonly after: number
  /** Frames that came with the hello. */
  readonly frames: Chunk.Chunk<Inbound>
}

/** What the reader of one connection works with. */
interface Reading {
  readonly connection: Connection
  readonly attachment: Attachment
  readonly pulse: Pulse
  readonly submits: Dispatch.Submits
  /** See `room`. */
  readonly answersTaken: Effect.Effect<void>
}

/** Waits until the submits before this are decided. */
const decided = (submits: Dispatch.Submits): Effect.Effect<void> =>
  Effect.flatMap(Deferred.make<void>(), (done) =>
    Effect.zipRight(submits(Effect.asVoid(Deferred.succeed(done, undefined)), 0), Deferred.await(done))
  )

/** Which close code an error ends a connection with. */
export const closeCodeOf = (error: ArcpError): number => {
  switch (error._tag) {
    case "InternalError":
      return closeCode.tryLater
    case "InvalidRequest":
      return closeCode.protocolError
    default:
      return closeCode.policy
  }
}

/** Returns what serves one connection: its reader, its writer and its heartbeat. */
export const make = (services: ConnectionServices) => {
  const { log, jobs, options, elapsed, share, turn, dispatch } = services
  const interval = Duration.toMillis(options.heartbeatInterval)

  /** The page with an accept before the first event of each job whose accept this transport has not sent (§6.3). */
  const withAccepts = (session: Session, { accepts }: Attachment, { frames, starts }: Page) =>
    Effect.gen(function* () {
      const woven: Array<string> = []
      let next = 0
      for (const { index, jobId } of starts) {
        if (accepts.begins(jobId)) continue
        const accepted = yield* jobs.accepted(session, jobId)
        if (accepted === undefined) continue
        while (next < index) woven.push(frames[next++] as string)
        woven.push(session.frame(accepted))
      }
      return woven.length === 0 ? frames : [...woven, ...frames.slice(next)]
    })

  /**
   * The one writer: answers first, then events from where the transport is. The answers are taken after the events
   * were read, so that `job.accepted`, queued at the commit, precedes its job's events.
   */
  const write = (
    connection: Connection,
    { session }: AttachedSession,
    attachment: Attachment,
    after: number,
    pulse: Pulse
  ): Effect.Effect<void, ResumeWindowExpired | InternalError> =>
    Effect.gen(function* () {
      const { outbox } = attachment
      let cursor = after
      for (;;) {
        // Events of thousands of sessions are sent in shares of turns; answers, which are small, at once.
        if (outbox.idle) yield* share
        const page = yield* log.read(session.view, cursor)
        const events = page.starts.length === 0 ? page.frames : yield* withAccepts(session, attachment, page)
        const batches = outbox.take()
        cursor += page.frames.length
        const { farewell } = outbox
        if (batches.length > 0 || events.length > 0) pulse.sending()
        const last = batches.length - 1
        for (const [i, batch] of batches.entries()) {
          yield* connection.send(
            i === last && events.length > 0 ? [...batch.frames, ...events] : batch.frames
          )
          outbox.sent(batch)
        }
        if (batches.length === 0 && events.length > 0) yield* connection.send(events)
        if (farewell !== undefined && (events.length === 0 || !farewell.drained)) {
          if (farewell.frame !== undefined) yield* connection.send([farewell.frame])
          return yield* connection.close(farewell.code, farewell.reason)
        }
        if (batches.length === 0 && events.length === 0) yield* outbox.awaken
      }
    })

  /** Says why, and closes. The writer may be stuck on this very peer, so it is not asked. */
  const giveUp = (connection: Connection, session: Session, error: ArcpError, code: number) =>
    Effect.zipRight(
      Effect.raceFirst(
        connection.send([session.frame({ type: "session.error", payload: toPayload(error) })]),
        turn.next
      ),
      connection.close(code, error.code)
    )

  const beat = (connection: Connection, session: Session, { outbox }: Attachment, pulse: Pulse) =>
    Effect.zipRight(
      heartbeat(pulse, {
        interval,
        now: elapsed,
        turn,
        ping: () => {
          // What is being sent says as much, and pings must not pile up before a peer that does not read.
          if (!outbox.idle) return
          session.send({
            type: "session.ping",
            payload: {
              nonce: services.ids.unsafeNext(),
              sent_at: timestamp(services.clock.unsafeCurrentTimeMillis())
            }
          })
        }
      }),
      Effect.suspend(() =>
        giveUp(
          connection,
          session,
          new HeartbeatLost({ message: "nothing was received for two heartbeat intervals" }),
          closeCode.heartbeatLost
        )
      )
    )

  /** Waits until the peer has taken enough of its answers; gives it up when it takes none for long. */
  const room = (connection: Connection, session: Session, { outbox }: Attachment): Effect.Effect<void> =>
    Effect.gen(function* () {
      while (outbox.full) {
        const before = outbox.sentBytes
        yield* Effect.raceFirst(
          outbox.room,
          Effect.sleep(Duration.max(patience, Duration.millis(2 * interval)))
        )
        if (outbox.full && outbox.sentBytes === before) {
          const message = "answers were not read for a long time"
          return yield* giveUp(connection, session, new HeartbeatLost({ message }), closeCode.heartbeatLost)
        }
      }
    })

  /** Decides submits one after the other, in a fiber that is started with the first. */
  const submitQueue = (room: Effect.Effect<void>, scope: Scope.Scope): Dispatch.Submits => {
    const queue: Array<{ readonly decide: Effect.Effect<void>; readonly bytes: number }> = []
    let bytes = 0
    let started = false
    let onWork: (() => void) | undefined
    let onRoom: (() => void) | undefined
    const full = () => queue.length >= maxWaitingSubmits || bytes > maxWaitingBytes
    const work = Effect.async<void>((resume) => {
      if (queue.length > 0) return resume(Effect.void)
      onWork = () => resume(Effect.void)
    })
    const decideNext = Effect.gen(function* () {
      yield* work
      yield* room
      const next = queue.shift()
      if (next === undefined) return
      yield* share
      yield* next.decide
      bytes -= next.bytes
      if (!full()) {
        onRoom?.()
        onRoom = undefined
      }
    })
    const waitForRoom = Effect.async<void>((resume) => {
      onRoom = () => resume(Effect.void)
    })
    return (decide, size) =>
      Effect.suspend(() => {
        queue.push({ decide, bytes: size })
        bytes += size
        onWork?.()
        onWork = undefined
        const begin = started ? Effect.void : Effect.forkIn(Effect.forever(decideNext), scope)
        started = true
        return Effect.zipRight(begin, full() ? waitForRoom : Effect.void)
      })
  }

  /** Counts a malformed frame; returns whether there were too many within the window. */
  const malformedFrames = () => {
    const times: Array<number> = []
    const windowMs = Duration.toMillis(options.malformedWindow)
    return () => {
      const at = elapsed()
      times.push(at)
      while ((times[0] ?? at) < at - windowMs) times.shift()
      return times.length > options.maxMalformedFrames
    }
  }

  /** Reads and dispatches until the transport is to be closed; fails when it ends. */
  const read = (
    held: AttachedSession,
    { connection, attachment, pulse, submits, answersTaken }: Reading,
    start: Start
  ): Effect.Effect<void, Closed> =>
    Effect.gen(function* () {
      const { session } = held
      const { outbox } = attachment
      const tooMany = malformedFrames()
      let unconfirmed = start.resumed
      let { frames } = start
      for (;;) {
        pulse.received()
        for (const frame of frames) {
          if (outbox.full) yield* answersTaken
          if (unconfirmed) {
            unconfirmed = false
            yield* services.confirm(held)
          }
          const verdict = yield* dispatch(session, frame, submits)
          if (verdict._tag === "Close")
            return outbox.close({ code: verdict.code, reason: verdict.reason, drained: false })
          if (verdict._tag === "Malformed" && tooMany())
            return outbox.close({
              code: closeCode.policy,
              reason: "too many malformed frames",
              drained: false
            })
        }
        pulse.listen()
        frames = yield* connection.take
      }
    })

  /** Serves a session on one transport, to its end. */
  return (connection: Connection, held: AttachedSession, attachment: Attachment, start: Start) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { session } = held
        const pulse = new Pulse(elapsed)
        const answersTaken = room(connection, session, attachment)
        const submits = submitQueue(answersTaken, yield* Effect.scope)
        const writer = yield* sound(
          Effect.suspend(() => write(connection, held, attachment, start.after, pulse)),
          "the writer of a connection"
        ).pipe(
          Effect.catchAll((error) => giveUp(connection, session, error, closeCodeOf(error))),
          Effect.ensuring(Effect.sync(() => attachment.outbox.release())),
          Effect.forkScoped
        )
        const beating = session.has("heartbeat") ? beat(connection, session, attachment, pulse) : Effect.void
        const heart = yield* Effect.forkScoped(beating)
        yield* read(held, { connection, attachment, pulse, submits, answersTaken }, start).pipe(
          Effect.catchTag("Closed", (closed) =>
            closed.stillReads === true
              ? // Its silence is no loss any more, and what it has asked for is decided first.
                Fiber.interrupt(heart).pipe(
                  Effect.zipRight(decided(submits)),
                  Effect.zipRight(services.noMoreRequests)
                )
              : // What is ready to be sent may still reach it.
                Effect.sync(() =>
                  attachment.outbox.close({ code: closeCode.normal, reason: "", drained: false })
                )
          )
        )
        yield* Fiber.join(writer)
      })
    )
}
