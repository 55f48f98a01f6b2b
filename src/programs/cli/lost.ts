/** What a command says and does while its runtime is not there. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ArcpClientService, Status } from "../../services/client/ArcpClient.js"
import { TransportError } from "../../services/transport/Transport.js"
import type { ClientFlags } from "./client-flags.js"
import { safe } from "./text.js"
import { durationMs } from "./time.js"
import { UsageError } from "./UsageError.js"

/** `--give-up-after` in milliseconds. */
export const giveUpAfter = (flags: Pick<ClientFlags, "giveUpAfter">): Effect.Effect<number, UsageError> => {
  const ms = durationMs(flags.giveUpAfter)
  return ms === undefined || ms === 0
    ? Effect.fail(
        new UsageError({
          message: `--give-up-after takes 30s, 10m, 2h or 1d, not ${JSON.stringify(flags.giveUpAfter)}`
        })
      )
    : Effect.succeed(ms)
}

/** Returns the line about a change of the connection, if there is anything to say. */
export const notice = (status: Status): string | undefined =>
  status._tag === "Reconnecting"
    ? `… ${status.reason}; reconnecting, last event ${status.lastEventSeq}`
    : status._tag === "Connected" && status.resumedAt !== undefined
      ? `✓ resumed after event ${status.resumedAt}`
      : undefined

/**
 * Tells of the changes of the connection, each once however often the same is tried. A session that was resumed when the
 * command began has changed nothing: only one that was lost before its eyes has come back.
 */
export const notices = (
  client: Pick<ArcpClientService, "status">,
  print: (status: Status) => void
): Effect.Effect<void> =>
  Effect.suspend(() => {
    let told: string | undefined
    return Stream.runForEach(client.status.changes, (status) =>
      Effect.sync(() => {
        const text = notice(status)
        if (text === undefined || text === told || (status._tag === "Connected" && told === undefined)) return
        print(status)
        told = text
      })
    )
  })

const without = (status: Status) => status._tag === "Connecting" || status._tag === "Reconnecting"

/** As `Effect.raceFirst`; the other can be ended also where this is what follows an interruption. */
const first = <A, E, R, E2, R2>(self: Effect.Effect<A, E, R>, that: Effect.Effect<never, E2, R2>) =>
  Effect.raceFirst(Effect.interruptible(self), Effect.interruptible(that))

/** Fails once there has been no connection for so many milliseconds. */
const awayFor = (
  client: ArcpClientService,
  ms: number,
  message: string
): Effect.Effect<never, TransportError> =>
  client.status.changes.pipe(
    Stream.map(without),
    Stream.changes,
    Stream.flatMap(
      (away) =>
        away
          ? Stream.fromEffect(Effect.zipRight(Effect.sleep(ms), new TransportError({ message })))
          : Stream.empty,
      { switch: true }
    ),
    Stream.runDrain,
    Effect.zipRight(Effect.never)
  )

/** Runs what needs the runtime, and fails once that has been away for as long as the command waits. */
export const whileThere =
  (client: ArcpClientService, flags: Pick<ClientFlags, "giveUpAfter">) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | TransportError | UsageError, R> =>
    Effect.flatMap(giveUpAfter(flags), (ms) =>
      first(self, awayFor(client, ms, `no runtime for ${flags.giveUpAfter}, gave up (--give-up-after)`))
    )

/** Runs what somebody who wants to leave still waits for: fails as soon as there is no connection. */
export const whileConnected =
  (client: ArcpClientService) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | TransportError, R> =>
    first(self, awayFor(client, 0, "the runtime is away"))

/** The same, with its notices on stderr: for what shows nothing else meanwhile. */
export const attended =
  (client: ArcpClientService, flags: Pick<ClientFlags, "giveUpAfter">) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | TransportError | UsageError, R> =>
    whileThere(
      client,
      flags
    )(
      first(
        self,
        Effect.zipRight(
          notices(client, (status) => process.stderr.write(`${safe(notice(status) ?? "")}\n`)),
          Effect.never
        )
      )
    )
