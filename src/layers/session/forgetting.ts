/**
 * Ending the sessions of a principal for good, since somebody wants that to be forgotten: those that are here with their
 * transports, and those of other nodes in what is stored. Of a session that is not stored any more nothing is, whoever still has
 * it: each commit of its node states it. The node is woken, and closes its transport (Taking.ts).
 */
import * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import * as Cluster from "../../services/cluster/Cluster.js"
import { mapSessions } from "../../services/store/paged.js"
import { type SessionRecord, toInternalError } from "../../services/store/Store.js"
import { closeCode } from "../../services/transport/Transport.js"
import type { ResumeServices } from "./Resume.js"
import type { SessionEntry, SessionTable } from "./SessionTable.js"

const unread = toInternalError("the sessions could not be read")

/** Ends one that is here, at once or with its transport. */
export const end = (table: SessionTable, entry: SessionEntry): Effect.Effect<void> =>
  Effect.flatMap(table.settled(entry), () => {
    entry.isLast = true
    const { state } = entry
    if (state._tag === "Detached") return table.drop(entry, state)
    return entry.attachment?.close(closeCode.policy, "the session was deleted") ?? Effect.void
  })

/** How often it is looked for what was resumed elsewhere while it was dropped. */
const looks = 3

/** Returns what ends all sessions of a principal, and says how many there were. */
export const make =
  ({ cluster, log, store, table }: ResumeServices) =>
  (principal: string): Effect.Effect<number, InternalError> =>
    Effect.gen(function* () {
      const ended = new Set<string>()
      const endHere = Effect.suspend(() => {
        const all = table.of([principal])
        for (const { record } of all) ended.add(record.sessionId)
        return Effect.forEach(all, (entry) => end(table, entry), { discard: true })
      })
      const notOf = cluster === undefined ? [] : [cluster.node]
      const elsewhere = Effect.map(
        Effect.mapError(
          mapSessions(store, { notOf }, (record) => (record.principal === principal ? [record] : [])),
          unread
        ),
        (all) => all.flat()
      )
      yield* endHere
      for (let look = 0; cluster !== undefined && look < looks; look++) {
        const found: ReadonlyArray<SessionRecord> = yield* elsewhere
        if (found.length === 0) break
        for (const record of found) {
          yield* log.dropView(record)
          ended.add(record.sessionId)
        }
        for (const node of new Set(found.map(({ node }) => node)))
          if (node !== undefined) cluster.wake.tell(Cluster.matter(node, "sessions"))
        // One may have come here meanwhile.
        yield* endHere
      }
      return ended.size
    })
