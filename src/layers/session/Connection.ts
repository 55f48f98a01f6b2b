/**
 * One transport of an open session: a reader (the fiber that serves it), a writer, and once it submits a queue that keeps
 * submits in order; its heartbeat and the end of its token are looked at by the keeper. All end with it; the session does not.
 *
 * Most connections are idle, and there are thousands: what one holds while it waits is what its fibers have on their
 * stacks. So the loops are `whileLoop`s over rounds that return before anybody waits, not generators that wait inside.
 */
import type * as Cause from "effect/Cause"
import type * as Chunk from "effect/Chunk"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
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
import { type Connection, closeCode, type Inbound } from "../../services/transport/Transport.js"
import { isSilent, Pulse } from "../transport/heartbeat.js"
import { sound } from "./boundary.js"
import type * as Dispatch from "./Dispatch.js"
import type * as Expiry from "./Expiry.js"
import { type Keeper, Kept } from "./Keeper.js"
import type { AttachedSession } from "./Resume.js"
import type { Attachment, Session } from "./Session.js"
import { SubmitQueue } from "./SubmitQueue.js"

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
  /** What becomes of a session whose token ends. */
  readonly expiry: ReturnType<typeof Expiry.make>
  /** Looks at the heartbeats and tokens of all connections. */
  readonly keeper: Keeper
  /** Runs in the lifetime of the runtime. */
  readonly run: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
  /** Notes that the client has sent a frame on this transport. */
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

/** Returns the close code with which an error ends a connection. */
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

/** One transport while it serves a session: what its fibers share. */
export class Served {
  readonly pulse: Pulse
  /** Events up to this `event_seq` have been handed to the transport. */
  cursor: number
  /** Resumed, and nothing was received yet: the token before this one still holds. */
  unconfirmed: boolean
  /** The transport is to be read no more. */
  over = false
  /** Frames that came with the hello, until they are handled. */
  first: Chunk.Chunk<Inbound> | undefined
  submits: SubmitQueue | undefined
  /** When frames came that were malformed, within the window. */
  malformed: ReadonlyArray<number> = []
  /** What runs beside the reader, and ends with it. */
  readonly beside: Array<Fiber.RuntimeFiber<void>> = []
  /** What the keeper looks at, as long as it serves. */
  readonly kept: Array<Kept> = []

  constructor(
    readonly connection: Connection,
    readonly held: AttachedSession,
    readonly attachment: Attachment,
    start: Start,
    elapsed: () => number
  ) {
    this.first = start.frames
    this.pulse = new Pulse(elapsed)
    this.cursor = start.after
    this.unconfirmed = start.resumed
  }

  get session(): Session {
    return this.held.session
  }
}

/** What a writer does after a round. */
type Next = "again" | "wait" | "end"

const nothing = () => {}

/** Returns what serves one connection. */
export const make = (services: ConnectionServices) => {
  const { log, jobs, options, elapsed, share, turn, dispatch } = services
  const interval = Duration.toMillis(options.heartbeatInterval)
  const malformedWindow = Duration.toMillis(options.malformedWindow)

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
   * One round of the one writer: answers first, then events from where the transport is. The answers are taken after
   * the events were read, so that `job.accepted`, queued at the commit, precedes its job's events.
   */
  const round = (served: Served): Effect.Effect<Next, ResumeWindowExpired | InternalError> =>
    Effect.gen(function* () {
      const { attachment, connection, session } = served
      const { outbox } = attachment
      // Events of thousands of sessions are sent in shares of turns; answers, which are small, at once.
      if (outbox.idle) yield* share
      const page = yield* log.read(session.view, served.cursor)
      const events = page.starts.length === 0 ? page.frames : yield* withAccepts(session, attachment, page)
      const batches = outbox.take()
      served.cursor += page.frames.length
      const { farewell } = outbox
      if (batches.length > 0 || events.length > 0) served.pulse.sending()
      const last = batches.length - 1
      for (const [i, batch] of batches.entries()) {
        yield* connection.send(i === last && events.length > 0 ? [...batch.frames, ...events] : batch.frames)
        outbox.sent(batch)
      }
      if (batches.length === 0 && events.length > 0) yield* connection.send(events)
      if (farewell !== undefined && (events.length === 0 || !farewell.drained)) {
        if (farewell.frame !== undefined) yield* connection.send([farewell.frame])
        yield* connection.close(farewell.code, farewell.reason)
        return "end"
      }
      return batches.length === 0 && events.length === 0 ? "wait" : "again"
    })

  /** Says why, and closes. The writer may be stuck on this very peer, so it is not asked. */
  const giveUp = ({ connection, session }: Served, error: ArcpError, code: number) =>
    Effect.zipRight(
      Effect.raceFirst(
        connection.send([session.frame({ type: "session.error", payload: toPayload(error) })]),
        turn.next
      ),
      connection.close(code, error.code)
    )

  const write = (served: Served): Effect.Effect<void> => {
    const { outbox } = served.attachment
    let next: Next = "again"
    const rounds = Effect.whileLoop({
      while: () => next !== "end",
      body: (): Effect.Effect<Next | void, ResumeWindowExpired | InternalError> =>
        next === "wait" ? outbox.awaken : round(served),
      step: (after) => {
        next = after ?? "again"
      }
    })
    const failed = (cause: Cause.Cause<ResumeWindowExpired | InternalError>) =>
      sound(Effect.failCause(cause), "the writer of a connection").pipe(
        Effect.catchAll((error) => giveUp(served, error, closeCodeOf(error)))
      )
    const release = Effect.sync(() => outbox.release())
    return Effect.matchCauseEffect(rounds, {
      onFailure: (cause) => Effect.zipRight(failed(cause), release),
      onSuccess: () => release
    })
  }

  /** Runs what has become due, beside the reader. */
  const runBeside = (served: Served, effect: Effect.Effect<void>) => {
    const { beside } = served
    const fiber = services.run(effect)
    beside.push(fiber)
    fiber.addObserver(() => beside.splice(beside.indexOf(fiber), 1))
  }

  /** Has the keeper look, now and whenever it is due, for as long as this serves. */
  const keep = (served: Served, look: () => number): Kept => {
    const kept = new Kept(look)
    served.kept.push(kept)
    services.keeper.keep(kept, look())
    return kept
  }

  const ping = (served: Served) => () => {
    // What is being sent says as much, and pings must not pile up before a peer that does not read.
    if (!served.attachment.outbox.idle) return
    const nonce = services.ids.unsafeNext()
    const sent_at = timestamp(services.clock.unsafeCurrentTimeMillis())
    served.session.send({ type: "session.ping", payload: { nonce, sent_at } })
  }

  /** Begins the heartbeat. */
  const beat = (served: Served) => {
    const { pulse } = served
    const message = "nothing was received for two heartbeat intervals"
    const judge = Effect.flatMap(isSilent(pulse, turn), (silent) =>
      silent
        ? giveUp(served, new HeartbeatLost({ message }), closeCode.heartbeatLost)
        : Effect.sync(() => services.keeper.keep(kept, 0))
    )
    pulse.begin()
    const kept = keep(served, () => {
      const left = pulse.look(interval, ping(served))
      if (left > 0) return left
      runBeside(served, judge)
      return Infinity
    })
  }

  /** Has what becomes of the session when its token ends done then. */
  const expire = (served: Served, expiresAt: number) => {
    const { attachment, session } = served
    keep(served, () => {
      const left = services.expiry.left(expiresAt)
      if (left <= 0) runBeside(served, services.expiry.ended(session, attachment))
      return left > 0 ? left : Infinity
    })
  }

  /** Waits until the peer has taken enough of its answers; gives it up when it takes none for long. */
  const answersTaken = (served: Served): Effect.Effect<void> => {
    const { outbox } = served.attachment
    const untilTaken = Effect.gen(function* () {
      while (outbox.full && !served.over) {
        const before = outbox.sentBytes
        yield* Effect.raceFirst(
          outbox.room,
          Effect.sleep(Duration.max(patience, Duration.millis(2 * interval)))
        )
        if (outbox.full && outbox.sentBytes === before) {
          const message = "answers were not read for a long time"
          return yield* giveUp(served, new HeartbeatLost({ message }), closeCode.heartbeatLost)
        }
      }
    })
    return Effect.suspend(() => (outbox.full && !served.over ? untilTaken : Effect.void))
  }

  /** Hands a submit to the queue, which begins with the first. */
  const submit = (served: Served, decide: Effect.Effect<void>, bytes: number): Effect.Effect<void> => {
    if (served.submits !== undefined) return served.submits.add(decide, bytes)
    const queue = new SubmitQueue(
      Effect.suspend(() =>
        served.attachment.outbox.full ? Effect.zipRight(answersTaken(served), share) : share
      )
    )
    served.submits = queue
    const taken = queue.add(decide, bytes)
    return Effect.flatMap(queue.run, (fiber) => {
      served.beside.push(fiber)
      return taken
    })
  }

  /** Counts a malformed frame; returns whether there were too many within the window. */
  const tooManyMalformed = (served: Served): boolean => {
    const at = elapsed()
    served.malformed = [...served.malformed.filter((time) => time >= at - malformedWindow), at]
    return served.malformed.length > options.maxMalformedFrames
  }

  /** Waits until what was asked for is decided: whoever asked may find what became of it after a resume. */
  const decided = (served: Served): Effect.Effect<void> =>
    Effect.suspend(() =>
      served.submits === undefined
        ? Effect.void
        : Effect.flatMap(Deferred.make<void>(), (all) =>
            Effect.zipRight(
              submit(served, Effect.asVoid(Deferred.succeed(all, undefined)), 0),
              Deferred.await(all)
            )
          )
    )

  /** Dispatches what was received. */
  const handle = (served: Served, frames: Chunk.Chunk<Inbound>): Effect.Effect<void> =>
    Effect.gen(function* () {
      const { attachment, pulse, session } = served
      const { outbox } = attachment
      const close = (code: number, reason: string) => {
        served.over = true
        return Effect.map(decided(served), () => outbox.close({ code, reason, drained: false }))
      }
      pulse.heard(false)
      for (const frame of frames) {
        if (outbox.full) yield* answersTaken(served)
        if (served.unconfirmed) {
          served.unconfirmed = false
          yield* services.confirm(served.held)
        }
        const verdict = yield* dispatch(session, frame, (decide, bytes) => submit(served, decide, bytes))
        if (verdict._tag === "Close") return yield* close(verdict.code, verdict.reason)
        if (verdict._tag === "Malformed" && tooManyMalformed(served))
          return yield* close(closeCode.policy, "too many malformed frames")
      }
      pulse.heard(true)
    })

  /** There is no more to come, and the peer reads; its silence is no loss from here on. */
  const inputEnded = (served: Served): Effect.Effect<void> =>
    Effect.suspend(() => {
      served.pulse.heard(false)
      return Effect.zipRight(decided(served), services.noMoreRequests)
    })

  /** The connection is gone: what came over it is decided, and what is ready to be sent may still go out. */
  const gone = (served: Served): Effect.Effect<void> =>
    Effect.suspend(() => {
      served.over = true
      return Effect.map(decided(served), () =>
        served.attachment.outbox.close({ code: closeCode.normal, reason: "", drained: false })
      )
    })

  /** Reads and dispatches until the transport ends or is to be closed. */
  const read = (served: Served): Effect.Effect<void> => {
    const next = Effect.flatMap(served.connection.take, (frames) => handle(served, frames))
    return Effect.whileLoop({
      while: () => !served.over,
      body: () => {
        const { first } = served
        if (first === undefined) return next
        served.first = undefined
        return handle(served, first)
      },
      step: nothing
    }).pipe(Effect.catchAll((closed) => (closed.stillReads === true ? inputEnded(served) : gone(served))))
  }

  const fork = (served: Served, effect: Effect.Effect<void>) =>
    Effect.map(Effect.fork(effect), (fiber) => {
      served.beside.push(fiber)
      return fiber
    })

  return {
    /** Puts together what serves a session on one transport. */
    prepare: (connection: Connection, held: AttachedSession, attachment: Attachment, start: Start): Served =>
      new Served(connection, held, attachment, start, elapsed),

    /** Serves a session on one transport, until the reader and the writer are done. */
    run: (served: Served): Effect.Effect<void> =>
      Effect.flatMap(fork(served, write(served)), (writer) => {
        const { expiresAt } = served.session.identity
        if (expiresAt !== undefined) expire(served, expiresAt)
        const reading = Effect.zipRight(read(served), Fiber.join(writer))
        if (!served.session.has("heartbeat")) return reading
        const { mayFallSilent } = served.connection
        const begin = Effect.sync(() => beat(served))
        return mayFallSilent === undefined
          ? Effect.zipRight(begin, reading)
          : Effect.zipRight(fork(served, Effect.zipRight(mayFallSilent, begin)), reading)
      }),

    /** Ends what still runs, whatever `run` ended with. */
    end: (served: Served): Effect.Effect<void> =>
      Effect.suspend(() => {
        served.attachment.outbox.release()
        for (const kept of served.kept) services.keeper.drop(kept)
        return Fiber.interruptAll([...served.beside])
      })
  }
}
