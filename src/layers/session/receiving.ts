/**
 * The reader of a transport: dispatches what comes over it, and puts submits into a queue, which keeps them in order. Reads
 * nothing while the peer does not take its answers, and does not end before what was asked for is decided.
 */
import type * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { HeartbeatLost, toPayload } from "../../protocol/Errors.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import { type Closed, closeCode, type Inbound } from "../../services/transport/Transport.js"
import type * as Dispatch from "./Dispatch.js"
import type { AttachedSession } from "./Resume.js"
import { frameTooBig, giveUp, patience, type Served } from "./Served.js"
import { SubmitQueue } from "./SubmitQueue.js"

/** What receiving works on. */
export interface ReceiptServices {
  readonly options: Pick<Options, "malformedWindow" | "maxMalformedFrames">
  /** The heartbeat interval, in milliseconds. */
  readonly interval: number
  /** Milliseconds that only go forward. */
  readonly elapsed: () => number
  readonly turn: TurnService
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
  readonly dispatch: ReturnType<typeof Dispatch.make>
  /** Notes that the client has sent a frame on this transport. */
  readonly confirm: (held: AttachedSession) => Effect.Effect<void>
  /** The peer asks for nothing more, and reads what there still is to say. Does not wait until it is said. */
  readonly noMoreRequests: Effect.Effect<void>
}

const nothing = () => {}

/** Waits until the peer has taken enough of its answers; gives it up when it takes none for long. */
const answersTaken = (services: ReceiptServices, served: Served): Effect.Effect<void> => {
  const { outbox } = served.attachment
  const untilTaken = Effect.gen(function* () {
    while (outbox.full && !served.over) {
      const before = served.progress
      yield* Effect.raceFirst(outbox.room, Effect.sleep(patience(services.interval)))
      if (outbox.full && before !== undefined && served.progress === before) {
        const message = "answers were not read for a long time"
        return yield* giveUp(services.turn, served, new HeartbeatLost({ message }), closeCode.heartbeatLost)
      }
    }
  })
  return Effect.suspend(() => (outbox.full && !served.over ? untilTaken : Effect.void))
}

/** Hands a submit to the queue, which begins with the first. */
const submit = (
  services: ReceiptServices,
  served: Served,
  decide: Effect.Effect<void>,
  bytes: number
): Effect.Effect<void> => {
  if (served.submits !== undefined) return served.submits.add(decide, bytes)
  const { share } = services
  const queue = new SubmitQueue(
    Effect.suspend(() =>
      served.attachment.outbox.full ? Effect.zipRight(answersTaken(services, served), share) : share
    )
  )
  served.submits = queue
  const taken = queue.add(decide, bytes)
  return Effect.flatMap(queue.run, (fiber) => {
    served.runs(fiber)
    return taken
  })
}

/** Counts a malformed frame of a peer; returns whether there were too many within the window. */
const tooManyMalformed = ({ elapsed, options }: ReceiptServices, served: Served): boolean => {
  if (served.connection.isShared === true) return false
  const at = elapsed()
  const malformedWindow = Duration.toMillis(options.malformedWindow)
  served.malformed = [...served.malformed.filter((time) => time >= at - malformedWindow), at]
  return served.malformed.length > options.maxMalformedFrames
}

/** Waits until what was asked for is decided: whoever asked may find what became of it after a resume. */
const decided = (services: ReceiptServices, served: Served): Effect.Effect<void> =>
  Effect.suspend(() =>
    served.submits === undefined
      ? Effect.void
      : Effect.flatMap(Deferred.make<void>(), (all) =>
          Effect.zipRight(
            submit(services, served, Effect.asVoid(Deferred.succeed(all, undefined)), 0),
            Deferred.await(all)
          )
        )
  )

/** Dispatches what was received. */
const handle = (
  services: ReceiptServices,
  served: Served,
  frames: Chunk.Chunk<Inbound>
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { attachment, pulse, session } = served
    const { outbox } = attachment
    const close = (code: number, reason: string) => {
      served.over = true
      return Effect.map(decided(services, served), () => outbox.close({ code, reason, drained: false }))
    }
    pulse.heard(false)
    for (const frame of frames) {
      if (outbox.full) yield* answersTaken(services, served)
      if (served.unconfirmed) {
        served.unconfirmed = false
        yield* services.confirm(served.held)
      }
      const verdict = yield* services.dispatch(session, frame, (decide, bytes) =>
        submit(services, served, decide, bytes)
      )
      if (verdict._tag === "Close") return yield* close(verdict.code, verdict.reason)
      if (verdict._tag === "Malformed" && tooManyMalformed(services, served))
        return yield* close(closeCode.policy, "too many malformed frames")
    }
    pulse.heard(true)
  })

/** There is no more to come, and the peer reads, also why; its silence is no loss from here on. */
const inputEnded = (
  services: ReceiptServices,
  served: Served,
  { code, reason }: Closed
): Effect.Effect<void> =>
  Effect.suspend(() => {
    served.pulse.heard(false)
    served.inputEnded = true
    if (code === closeCode.tooBig)
      served.session.send({ type: "session.error", payload: toPayload(frameTooBig(reason)) })
    return Effect.zipRight(decided(services, served), services.noMoreRequests)
  })

/** The connection is gone: what came over it is decided, and what is ready to be sent may still go out. */
const gone = (services: ReceiptServices, served: Served): Effect.Effect<void> =>
  Effect.suspend(() => {
    served.over = true
    return Effect.map(decided(services, served), () =>
      served.attachment.outbox.close({ code: closeCode.normal, reason: "", drained: false })
    )
  })

/** Reads and dispatches until the transport ends or is to be closed. */
export const read = (services: ReceiptServices, served: Served): Effect.Effect<void> => {
  const next = Effect.flatMap(served.connection.take, (frames) => handle(services, served, frames))
  return Effect.whileLoop({
    while: () => !served.over,
    body: () => {
      const { first } = served
      if (first === undefined) return next
      served.first = undefined
      return handle(services, served, first)
    },
    step: nothing
  }).pipe(
    Effect.catchAll((closed) =>
      closed.stillReads === true ? inputEnded(services, served, closed) : gone(services, served)
    )
  )
}
