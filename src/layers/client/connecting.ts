/**
 * The connection of a session: one fiber connects, says hello or resumes, and serves that connection until it is
 * gone; then again, for as long as there is something to come back to.
 *
 * A resume is also how what was left unread is fetched: it is asked for from where the slowest reader is, and every
 * lane passes over what it has had (Lane.ts).
 */
import * as Effect from "effect/Effect"
import type * as ScheduleInterval from "effect/ScheduleInterval"
import { encode } from "../../protocol/Envelope.js"
import { fromPayload, ResumeWindowExpired } from "../../protocol/Errors.js"
import { decodeRuntime } from "../../protocol/RuntimeFrame.js"
import { exceeds } from "../../protocol/Utf8.js"
import type { ClientError } from "../../services/client/ArcpClient.js"
import { called } from "../../services/runtime/called.js"
import { type Connection, closeCode, TransportError } from "../../services/transport/Transport.js"
import { askedToWait, backoff } from "./backoff.js"
import { type ClientSession, type SessionOptions, tooBig } from "./ClientSession.js"
import { first, never } from "./first.js"
import { lost, missing, receive } from "./receiving.js"
import { ask, isAsked, renewed } from "./token.js"
import { violation } from "./violation.js"

/**
 * Milliseconds that a runtime may take to answer a hello. Less than the ten seconds for which runtimes wait for one: of a hello that did
 * not get through in that time they say that it is invalid, which would be no reason to try again.
 */
const welcomeTimeout = 9_500

/** What makes a hello large. */
const helloParts = "the token"

/** Bytes that a hello may have (§4). */
const helloBytes = 65_536

/** Milliseconds after which a connection has lasted, whatever it has brought. */
const lasting = 10_000

/** The connection is given up to read again from further back. */
interface Rewind {
  readonly _tag: "Rewind"
}
const rewind = Effect.fail<Rewind>({ _tag: "Rewind" })

/** The delays of a schedule. Written out, since Effect's driver of schedules would be 400 bytes more in a browser. */
const delaysOf = ({ now, reconnect }: SessionOptions) => {
  let state: unknown
  let attempt = 0
  return {
    reset: () => {
      attempt = 0
    },
    /** Waits for the next one, and `asked` milliseconds more; returns whether there was one. */
    next: (asked: number) =>
      Effect.suspend(() => {
        if (!reconnect) return backoff(attempt++)
        if (attempt++ === 0) state = reconnect.initial
        const at = now()
        return Effect.map(reconnect.step(at, undefined, state), ([following, , decision]) => {
          state = following
          if (decision._tag === "Done") return undefined
          const [{ startMillis }] = [...decision.intervals.intervals] as [ScheduleInterval.Interval]
          return startMillis - at
        })
      }).pipe(
        Effect.flatMap((ms) =>
          ms === undefined ? Effect.succeed(false) : Effect.as(Effect.sleep(asked + ms), true)
        )
      )
  }
}

/** Reconnects for as long as there is something to come back to. Ends only when the session is over. */
export const keepConnected = (session: ClientSession, ready: Effect.Effect<unknown>): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { elapsed } = session.options
    const delays = delaysOf(session.options)
    let connected = false
    let lostAt = elapsed()
    let since = Infinity
    const welcomed = Effect.suspend(() => {
      connected = true
      lostAt = Infinity
      since = elapsed()
      return ready
    })
    for (;;) {
      const error = yield* Effect.catchAll(attempt(session, welcomed), Effect.succeed)
      session.requests.ended(error._tag === "Rewind", session.said?.error)
      session.said = undefined
      // A runtime that welcomes and closes, for ever, is not to be dialled at once each time.
      if (session.delivered || elapsed() - since >= lasting) delays.reset()
      since = Infinity
      session.delivered = false
      if (error._tag === "Rewind" || goesOn(session, error, connected)) continue
      lostAt = Math.min(lostAt, elapsed())
      const tooLate = elapsed() - lostAt > session.resumeWindow
      if (!connected || !error.retryable || (tooLate && error._tag === "TokenUnavailable"))
        return session.finish(error)
      if (session.sessionId && (!session.token || tooLate))
        session.forget(new ResumeWindowExpired({ message: "not resumable" }))
      session.status.set({
        _tag: "Reconnecting",
        lastEventSeq: session.numbers.last,
        reason: error.message
      })
      if (!(yield* delays.next(askedToWait(error)))) return session.finish(error)
    }
  })

/** Whether a refusal is followed by another hello at once: with another token, from the newest event, or for another session. */
const goesOn = (session: ClientSession, error: ClientError, connected: boolean): boolean => {
  const { options, superseded } = session
  if (error._tag === "Unauthenticated" && isAsked(options.token) && !session.refused) {
    session.refused = true
    return true
  }
  if (error._tag !== "ResumeWindowExpired" || !session.sessionId || (superseded && !options.kept))
    return false
  const { numbers } = session
  if (!superseded && numbers.from < numbers.last) {
    // Perhaps only what was left unread is gone, and not the session: another has the history, whose readers go on there.
    session.evicted = true
    numbers.seen = numbers.last
    return true
  }
  const another = connected || options.mayBeGone
  if (another) session.forget(error)
  return another
}

/** Connects once and serves that connection to its end. `ready` is run with the welcome. */
const attempt = (
  session: ClientSession,
  ready: Effect.Effect<unknown>
): Effect.Effect<never, ClientError | Rewind> =>
  Effect.gen(function* () {
    const { connection, frames, resumedAt, token } = yield* greet(session)
    // The token before this one holds until the runtime has heard from us again.
    yield* session.options.save
    session.begin(connection)
    session.status.set({ _tag: "Connected", sessionId: session.sessionId ?? "", resumedAt })
    yield* ready
    const { doubts, orphaned } = session
    session.doubts = session.orphaned = undefined
    if (orphaned || doubts) yield* session.options.reattach(orphaned)
    return yield* serve(session, connection, frames, token)
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        // A `cut` that is left over does nothing: what it would end has ended.
        session.connection = undefined
      })
    ),
    Effect.scoped
  )

/** Dials, says hello with `token`, and takes the answer to it; `frames` came with that, `resumedAt` is where it goes on. */
const greet = (session: ClientSession) =>
  Effect.gen(function* () {
    const token = session.fresh ?? (yield* ask(session.options))
    session.fresh = undefined
    if (session.sessionId && session.told !== token) session.doubts = true
    session.told = token
    const connection = yield* session.dialer.connect
    const { seen } = session.numbers
    session.numbers.from = session.evicted ? seen : session.handles.rewindTo(seen)
    const frame = hello(session, token)
    if (exceeds(frame, helloBytes)) return yield* tooBig(helloParts, `more than ${helloBytes} bytes`)
    session.unanswered++
    const [answer, ...frames] = yield* first(
      // A peer that does not read may keep the hello from going out, too.
      Effect.zipRight(
        connection.send([frame]),
        Effect.mapError(connection.take, (closed) =>
          closed.code === closeCode.tooBig ? tooBig(helloParts, closed.reason) : lost(closed)
        )
      ),
      Effect.zipRight(Effect.sleep(welcomeTimeout), new TransportError({ message: "no answer in time" }))
    )
    session.unanswered--
    const resumedAt = yield* welcomed(session, answer)
    session.refused = false
    return { connection, frames, resumedAt, token }
  })

/** Reads, writes, pings and acknowledges until one of them fails, and with it the connection. */
const serve = (
  session: ClientSession,
  connection: Connection,
  frames: Iterable<unknown>,
  token: string | undefined
): Effect.Effect<never, ClientError | Rewind> =>
  first<never, ClientError | Rewind>(
    receive(session, connection, frames),
    session.line.write(connection),
    session.line.beat(connection, session.heartbeatSec, () => session.post("session.ping", session.ping)),
    keepAcknowledging(session),
    expire(session),
    replayed(session),
    rewound(session),
    Effect.zipRight(renewed(session, token), rewind)
  )

/**
 * Fails when events that there are do not come for as long as an answer may take, of which a stall of our own is one half, and the
 * runtime answers meanwhile: a network that fails says nothing of what there is.
 */
const replayed = (session: ClientSession): Effect.Effect<never, ClientError> =>
  Effect.gen(function* () {
    const { numbers, options } = session
    let silent = 0
    while (numbers.owed) {
      const { seen } = numbers
      yield* Effect.sleep(options.requestTimeout / 2)
      if (numbers.seen === seen && ++silent > 1)
        yield* Effect.mapError(
          session.request("session.ping", "session.pong", session.ping, { repeatable: false }),
          () => new TransportError({ message: "no answer in time" })
        )
      if (numbers.seen !== seen) silent = 0
      else if (silent > 1) return yield* missing(numbers, `event ${seen + 1} does not come`)
    }
    return yield* never
  })

/** Fails when a reader waits for what this connection has already passed. */
const rewound = (session: ClientSession): Effect.Effect<never, Rewind> =>
  Effect.zipRight(
    called((back) => {
      session.cut = back
      if (session.handles.rewindTo(session.numbers.last) < session.numbers.last) back()
    }),
    rewind
  )

/** A while after something has come or was read: an idle client, or one that nobody reads, has no reason to wake. */
const keepAcknowledging = (session: ClientSession): Effect.Effect<never> =>
  Effect.gen(function* () {
    for (;;) {
      session.stirred = false
      session.acknowledge(1)
      yield* session.options.save
      yield* called((back) => {
        session.wake = back
        if (session.stirred) back()
      })
      yield* Effect.sleep(session.options.ackInterval)
    }
  })

/** Fails the requests that this connection does not answer in time. */
const expire = ({ guesses, requests }: ClientSession): Effect.Effect<never> =>
  Effect.gen(function* () {
    for (;;) {
      const left = requests.expire(guesses)
      yield* left === undefined
        ? called((back) => {
            requests.onAdd = back
          })
        : Effect.sleep(left)
    }
  })

const hello = (session: ClientSession, token: string | undefined): string => {
  const { name, version, features } = session.options
  return encode({
    id: session.options.nextId(),
    type: "session.hello",
    payload: {
      client: { name, version },
      auth: token === undefined ? undefined : { scheme: "bearer", token },
      capabilities: { encodings: ["json"], features },
      resume: session.token && {
        session_id: session.sessionId,
        resume_token: session.token,
        last_event_seq: session.numbers.from
      }
    }
  })
}

/** Takes the answer to the hello. Returns after which event the session was resumed, if it was. */
const welcomed = (session: ClientSession, frame: unknown): Effect.Effect<number | undefined, ClientError> => {
  const message = decodeRuntime(String(frame))
  if (message.problem === undefined) {
    if (message.type === "session.error") return fromPayload(message.payload)
    if (message.type === "session.welcome") {
      const sessionId = message.payload.session_id || message.session_id
      const resumed = session.sessionId !== undefined
      if (sessionId && (!resumed || session.sessionId === sessionId)) {
        session.open(sessionId, message.payload)
        return Effect.succeed(resumed ? session.numbers.from : undefined)
      }
    }
  }
  return violation(`session.hello: ${message.problem ?? message.type}`)
}
