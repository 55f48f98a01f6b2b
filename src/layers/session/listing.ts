/** Which sessions there are, for those who may know it. */
import * as Effect from "effect/Effect"
import type { Policy } from "../../services/auth/Policy.js"
import type { ListedSession, Sessions } from "../../services/session/Sessions.js"
import type { SessionEntry, SessionTable } from "./SessionTable.js"

const shown = ({ attachment, record, session }: SessionEntry): ListedSession => ({
  sessionId: record.sessionId,
  principal: record.principal,
  isConnected: attachment !== undefined,
  createdAt: record.createdAt,
  lastSeenAt: record.lastSeenAt,
  lag: session?.has("ack") === true ? Math.max(0, session.view.last - session.view.acked) : undefined
})

/** Makes what lists sessions. */
export const make =
  (table: SessionTable, policy: Policy["Type"]): Sessions["Type"]["list"] =>
  (identity) =>
    Effect.map(policy.listable(identity), (who) => table.of(who).map(shown))
