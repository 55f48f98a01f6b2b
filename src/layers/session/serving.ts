/** One connection, from its first frame to its end: who comes in is attached to a session, who does not is told why. */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import { toPayload } from "../../protocol/Errors.js"
import * as Features from "../../protocol/Features.js"
import { type Closed, type Connection, closeCode } from "../../services/transport/Transport.js"
import { frameOf } from "../jobs/fitting.js"
import { sound } from "./boundary.js"
import type * as Connections from "./Connection.js"
import { failedTooOften } from "./FailedLogins.js"
import * as Handshake from "./Handshake.js"
import type { HelloRoom } from "./HelloRoom.js"
import { reasonOf } from "./identifying.js"
import * as Measuring from "./measuring.js"
import { Outbox } from "./Outbox.js"
import type { Records } from "./Records.js"
import type * as Resume from "./Resume.js"
import { closeCodeOf, frameTooBig, type Served } from "./Served.js"
import { Accepts, type Attachment } from "./Session.js"
import type { Connected } from "./Shutdown.js"
import { traced } from "./traced.js"

/** A line of the log on what becomes of a session. */
const said = (what: string, { session }: Resume.AttachedSession): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logInfo(what), {
    session: session.sessionId,
    principal: session.identity.principal
  })

/** The log has who was refused and why: nothing of it was in the token. Of a flood it has no line each. */
const refusedLogin = ({ kind, remote }: Connection, refusal: Handshake.HelloRefusal): Effect.Effect<void> =>
  Effect.annotateLogs(
    (refusal.error === failedTooOften ? Effect.logDebug : Effect.logWarning)(
      `a login was refused: ${refusal.error.message}`
    ),
    {
      code: refusal.error.code,
      peer: kind === remote ? kind : `${kind} ${remote}`,
      ...(refusal.scheme === undefined ? {} : { scheme: refusal.scheme }),
      ...reasonOf(refusal.error)
    }
  )

/** Tells a connection that has no session why, after a while when that is due, and closes it. */
export const refuse = (
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

/**
 * A first frame that was larger than it may be is a hello that is refused. Where the transport's close has said so it is only
 * logged: nothing reaches the peer any more.
 */
const tooLarge = ({ code }: Closed, bytes: number): Handshake.HelloRefusal | undefined =>
  code === closeCode.tooBig
    ? new Handshake.HelloRefusal(frameTooBig(`the hello is larger than ${bytes} bytes`), "1.1")
    : undefined

/** A connection whose session is attached, and the span of that. */
interface Entered {
  readonly served: Served
  /** Where somebody traces. */
  readonly span: Tracer.Span | undefined
}

/** What serving connections takes. */
interface ServingServices {
  readonly resuming: Resume.ResumeServices
  readonly resume: Resume.Resume
  readonly records: Records
  readonly room: HelloRoom
  readonly connections: Connections.Connections
  readonly connected: Connected
  /** Returns when a shutdown has begun. */
  readonly halted: Effect.Effect<void>
  readonly clock: Clock.Clock
  /** Somebody keeps metrics. */
  readonly isMeasured: boolean
}

/** Lets go of a session when its transport has ended, unless another has taken its place. */
const detach = (
  { records, resuming: { elapsed, log, now, options, table } }: ServingServices,
  { entry, epoch, session }: Resume.AttachedSession
) =>
  Effect.suspend(() => {
    const until = elapsed() + Duration.toMillis(options.resumeWindow)
    if (!table.detach(entry, epoch, until, now())) return Effect.void
    const { state } = entry
    // Nobody comes back to it.
    if ((entry.isLast || session.has(Features.transient)) && state._tag === "Detached")
      return Effect.zipRight(log.detach(session.view), table.drop(entry, state))
    records.ring()
    return log.detach(session.view)
  })

/** Attaches whoever was greeted to a session: a new one, or the one that was asked for. */
const hold = (
  { isMeasured, resume }: ServingServices,
  greeted: Handshake.Greeted,
  attachment: Attachment
) => {
  const guest = { ...greeted, attachment }
  const held = sound(
    Effect.suspend(() =>
      greeted.resume === undefined ? resume.open(guest) : resume.resume(guest, greeted.resume)
    ),
    "session.hello"
  ).pipe(Effect.mapError(greeted.refuse))
  return isMeasured ? Measuring.counted(held, greeted.resume !== undefined) : held
}

/** From the first frame to a session that is attached. Only waiting for the peer can be interrupted. */
const enter = (
  services: ServingServices,
  connection: Connection,
  interruptible: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
): Effect.Effect<Entered, Handshake.HelloRefusal | Closed> =>
  Effect.gen(function* () {
    const { connections, resuming, room } = services
    const { greeted, rest } = yield* interruptible(room.greet(connection))
    yield* connection.greeted ?? Effect.void
    const attachment: Attachment = {
      outbox: new Outbox(resuming.options.maxUnsentBytes),
      accepts: new Accepts(),
      cursor: greeted.resume?.lastEventSeq ?? 0,
      close: connection.close
    }
    const held = yield* hold(services, greeted, attachment)
    const resumed = greeted.resume !== undefined
    yield* said(`session ${resumed ? "resumed" : "opened"} over ${connection.kind}`, held)
    return {
      served: connections.prepare(connection, held, attachment, {
        resumed,
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
    : Effect.zipRight(Effect.logError("a connection failed", cause), connection.close(1011, "internal error"))

/** Refuses a hello, a failed login when its turn has come: until then it takes nobody's place. */
const refuseSlowly = (
  { halted, resuming }: ServingServices,
  connection: Connection,
  refusal: Handshake.HelloRefusal
): Effect.Effect<void> => {
  const { wait } = refusal
  if (wait === 0) return refuse(resuming, connection, refusal)
  const pause = Effect.raceFirst(Effect.sleep(wait), halted)
  return refuse(resuming, connection, refusal, Effect.zipRight(connection.greeted ?? Effect.void, pause))
}

const turnAway = (
  services: ServingServices,
  connection: Connection,
  cause: Cause.Cause<Handshake.HelloRefusal | Closed>
) =>
  Either.match(Cause.failureOrCause(cause), {
    onLeft: (ended) => {
      const { isMeasured, resuming } = services
      const error = ended._tag === "Closed" ? tooLarge(ended, resuming.options.maxHelloFrameBytes) : ended
      if (error === undefined) return Effect.void
      if (isMeasured) Measuring.refused(error.error)
      return refuseSlowly(services, connection, error)
    },
    onRight: (defect) => failed(connection, defect)
  })

/** What follows the last frame of a connection: the session is let go of, whatever ended it. */
const leave = (
  services: ServingServices,
  { served, span }: Entered,
  exit: Exit.Exit<void>
): Effect.Effect<void> =>
  Effect.zipRight(
    services.connections.end(served),
    Effect.suspend(() => {
      span?.end(services.clock.unsafeCurrentTimeNanos(), exit)
      const told = Exit.isFailure(exit) ? failed(served.connection, exit.cause) : Effect.void
      return detach(services, served.held).pipe(
        Effect.zipRight(told),
        Effect.zipRight(said("session disconnected", served.held))
      )
    })
  )

/**
 * Makes what serves a connection to its end. It has few parts on purpose: whatever is around the part that serves is held by
 * every connection for as long as it lives.
 */
export const make =
  (services: ServingServices) =>
  (connection: Connection): Effect.Effect<void> =>
    Effect.uninterruptibleMask((restore) => {
      const { connected, connections, isMeasured } = services
      const end = Effect.suspend(() => {
        connected.end()
        const close = connection.close(closeCode.normal, "")
        return isMeasured ? Effect.zipRight(close, Measuring.closed(connection)) : close
      })
      connected.begin()
      return Effect.matchCauseEffect(enter(services, connection, restore), {
        onFailure: (cause) =>
          Effect.zipRight(Effect.exit(restore(turnAway(services, connection, cause))), end),
        onSuccess: (entered) =>
          Effect.matchCauseEffect(restore(connections.run(entered.served)), {
            onFailure: (cause) => Effect.zipRight(leave(services, entered, Exit.failCause(cause)), end),
            onSuccess: () => Effect.zipRight(leave(services, entered, Exit.void), end)
          })
      })
    })
