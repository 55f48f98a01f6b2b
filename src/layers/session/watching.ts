/**
 * What a transport is looked at for while it waits: its heartbeat, the end of its token, and whether its peer takes the last that
 * is said. It has no fiber for any of them.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { type ArcpError, HeartbeatLost } from "../../protocol/Errors.js"
import { timestamp } from "../../protocol/EventText.js"
import type { IdGenerator } from "../../services/runtime/IdGenerator.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import { closeCode } from "../../services/transport/Transport.js"
import { isSilent } from "../transport/heartbeat.js"
import type * as Expiry from "./Expiry.js"
import { type Keeper, Kept } from "./Keeper.js"
import { cutOff, giveUp, patience, type Served } from "./Served.js"

/** Milliseconds between two looks at whether a peer takes the last that is said. */
const progressLook = 60_000

/** What looking at transports works on. */
export interface WatchServices {
  readonly ids: IdGenerator["Type"]
  readonly clock: Clock.Clock
  readonly turn: TurnService
  readonly options: Pick<Options, "resumeWindow">
  /** The heartbeat interval, in milliseconds. */
  readonly interval: number
  /** What becomes of a session whose token ends. */
  readonly expiry: ReturnType<typeof Expiry.make>
  /** Looks at the heartbeats and tokens of all connections. */
  readonly keeper: Keeper
  /** Runs in the lifetime of the runtime. */
  readonly run: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
}

/** Runs what has become due, beside the reader. */
const runBeside = (services: WatchServices, served: Served, effect: Effect.Effect<void>) => {
  served.runs(services.run(effect))
}

/** Has the keeper look, now and whenever it is due, for as long as this serves. */
const keep = (services: WatchServices, served: Served, look: () => number): Kept => {
  const kept = new Kept(look)
  served.kept.push(kept)
  services.keeper.keep(kept, look())
  return kept
}

const ping = (services: WatchServices, served: Served) => () => {
  // What is being sent says as much, and pings must not pile up before a peer that does not read.
  if (!served.attachment.outbox.idle) return
  const nonce = services.ids.unsafeNext()
  const sent_at = timestamp(services.clock.unsafeCurrentTimeMillis())
  served.session.send({ type: "session.ping", payload: { nonce, sent_at } })
}

/** Begins the heartbeat. */
export const beat = (services: WatchServices, served: Served): void => {
  const { pulse } = served
  const { interval, turn } = services
  const message = "nothing was received for two heartbeat intervals"
  const judge = Effect.flatMap(isSilent(pulse, turn), (silent) =>
    silent
      ? giveUp(turn, served, new HeartbeatLost({ message }), closeCode.heartbeatLost)
      : Effect.sync(() => services.keeper.keep(kept, 0))
  )
  pulse.begin()
  const kept = keep(services, served, () => {
    const left = pulse.look(interval, ping(services, served))
    if (left > 0) return left
    runBeside(services, served, judge)
    return Infinity
  })
}

/** Has what becomes of the session when its token ends done then. */
export const expire = (services: WatchServices, served: Served, expiresAt: number): void => {
  const { attachment, session } = served
  const { expiry, turn } = services
  const closing = (error: ArcpError) => giveUp(turn, served, error, closeCode.tokenEnded)
  keep(services, served, () => {
    const left = expiry.left(expiresAt)
    if (left <= 0) runBeside(services, served, expiry.ended(session, attachment, closing))
    return left > 0 ? left : Infinity
  })
}

/**
 * Sees to it that a connection that is to close does. The writer says farewell when it comes to that, and may be stuck on this very
 * peer; by then nobody reads what the peer says, so its silence tells nothing. Whoever reads, however slowly, takes something now
 * and then, of a single large frame, too; and while it is the store that the last events are waited for from, the peer is not
 * judged. One that cannot come back for the rest has as long for it as others have for that.
 */
export const part = (services: WatchServices, served: Served): void => {
  const { interval, options, turn } = services
  const { outbox } = served.attachment
  outbox.onFarewell = () => {
    let before: string | undefined = "not looked at yet"
    let stoodMs = 0
    keep(services, served, () => {
      const { farewell } = outbox
      const { inputEnded, progress } = served
      // Without the last events the farewell does not need the store: there the writer is stuck on what is not waited for.
      const stands = progress === before && (progress !== undefined || farewell?.drained === false)
      stoodMs = stands ? stoodMs + progressLook : 0
      before = progress
      const longest = inputEnded ? Duration.toMillis(options.resumeWindow) : patience(interval)
      if (farewell === undefined || stoodMs < longest) return progressLook
      runBeside(services, served, cutOff(turn, served, farewell))
      return Infinity
    })
  }
  if (outbox.farewell !== undefined) outbox.onFarewell()
}
