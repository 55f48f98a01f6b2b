/** What sessions tell of themselves to whoever keeps metrics. */
import * as Effect from "effect/Effect"
import { families, other, type Source } from "../../services/runtime/Metrics.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import { type Connection, closeCode } from "../../services/transport/Transport.js"
import { failedTooOften } from "./FailedLogins.js"
import type { HelloRefusal } from "./Handshake.js"
import type { SessionTable } from "./SessionTable.js"

/** Returns why a login was refused: its code, or of the runtime's own faults and limits which. */
const reasonOf = (error: HelloRefusal["error"]): string => {
  if (error === failedTooOften) return "failed_logins"
  const { code, details } = error
  const more = details?.["limit"] ?? details?.["reason"]
  return code === "INTERNAL_ERROR" && typeof more === "string" && reasons.has(more)
    ? more
    : code.toLowerCase()
}

/** Those that the runtime itself gives; `Auth` may give any. */
const reasons = new Set(["authentication", "pending_hellos", "sessions_per_principal", "shutdown", "storage"])

/** Counts a login that was refused. */
export const refused = (error: HelloRefusal["error"]): void =>
  families.loginsRefused.update(1, reasonOf(error))

/** Counts what becomes of a hello that was accepted. */
export const counted = <A>(
  held: Effect.Effect<A, HelloRefusal>,
  isResume: boolean
): Effect.Effect<A, HelloRefusal> => {
  const resumed = (outcome: string) => families.resumes.update(1, outcome)
  return Effect.tapBoth(held, {
    onSuccess: () => Effect.sync(() => (isResume ? resumed("resumed") : families.sessionsOpened.update(1))),
    onFailure: ({ error }) =>
      Effect.sync(() => {
        if (!isResume) return
        if (error._tag === "ResumeWindowExpired") return resumed("expired")
        resumed(error._tag === "InternalError" ? "failed" : "refused")
      })
  })
}

/** Close codes that are counted apart, of whoever closes. */
const codes: ReadonlySet<number> = new Set([...Object.values(closeCode), 1005, 1007, 1011])

/** Counts how a connection has ended: what came over it last, and was not read, is let go of. */
export const closed = ({ kind, take }: Connection): Effect.Effect<void> =>
  Effect.catchAll(Effect.forever(take), ({ code }) =>
    Effect.sync(() => families.connectionsClosed.update(1, kind, codes.has(code) ? `${code}` : other))
  )

/** Returns what tells the gauges of the sessions in a table. */
export const gauges = (table: SessionTable, { version }: Pick<Options, "version">): Source =>
  Effect.sync(() => {
    const { Attached, Detached, Opening } = table.counts()
    return [
      [families.build, 1, version],
      [families.sessions, Attached, "attached"],
      [families.sessions, Detached, "detached"],
      [families.sessions, Opening, "opening"]
    ]
  })
