/** Session records over the log's store. All of them are in memory; the views behind them load when resumed. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { InternalError, InvalidRequest, ResumeWindowExpired } from "../../protocol/Errors.js"
import { EventLog, type View } from "../../services/log/EventLog.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { constantTimeEqual, Secrets } from "../../services/runtime/Secrets.js"
import { Resume } from "../../services/session/Resume.js"
import { Op, type SessionRecord, Store } from "../../services/store/Store.js"

interface Entry {
  record: SessionRecord
  view: View | undefined
  /** The client closed it; still resumable, but the first to go when its principal has too many. */
  closed: boolean
}

export const make = Effect.gen(function* () {
  const store = yield* Store
  const log = yield* EventLog
  const ids = yield* IdGenerator
  const secrets = yield* Secrets
  const options = yield* RuntimeOptions
  const clock = yield* Effect.clock
  const now = () => clock.unsafeCurrentTimeMillis()
  const windowMs = Duration.toMillis(options.resumeWindow)
  // Two transports may resume one session at the same time: one after the other.
  const turn = yield* Effect.makeSemaphore(1)

  const entries = new Map<string, Entry>()
  const perPrincipal = new Map<string, Set<string>>()

  const add = (entry: Entry) => {
    const { sessionId, principal } = entry.record
    entries.set(sessionId, entry)
    const own = perPrincipal.get(principal)
    if (own === undefined) perPrincipal.set(principal, new Set([sessionId]))
    else own.add(sessionId)
  }
  const remove = (record: SessionRecord) => {
    entries.delete(record.sessionId)
    const own = perPrincipal.get(record.principal)
    own?.delete(record.sessionId)
    if (own?.size === 0) perPrincipal.delete(record.principal)
  }

  const put = (entry: Entry, change: Partial<SessionRecord>) =>
    Effect.suspend(() => {
      entry.record = { ...entry.record, ...change, acked: entry.view?.acked ?? entry.record.acked }
      return log.commit([Op.PutSession({ session: entry.record })])
    })

  const drop = (entry: Entry) =>
    Effect.gen(function* () {
      remove(entry.record)
      yield* log.dropView(entry.view ?? (yield* log.loadView(entry.record)))
    })

  // What the last process left. A session that was attached was alive as long as that process was.
  const aliveAt = yield* store.aliveAt
  for (const record of yield* store.sessions)
    add({
      record: record.attached
        ? { ...record, attached: false, lastSeenAt: Math.max(record.lastSeenAt, aliveAt) }
        : record,
      view: undefined,
      closed: false
    })

  const refused = () =>
    new ResumeWindowExpired({ message: "this session cannot be resumed; open a new one with session.hello" })

  const makeRoom = (principal: string) =>
    Effect.gen(function* () {
      const own = perPrincipal.get(principal)
      if (own === undefined || own.size < options.maxSessionsPerPrincipal) return
      for (const sessionId of own) {
        const entry = entries.get(sessionId)
        if (entry?.closed === true && !entry.record.attached && (entry.view?.observedCount ?? 0) === 0)
          return yield* drop(entry)
      }
      return yield* new InternalError({
        message: `limit reached: at most ${options.maxSessionsPerPrincipal} sessions per principal; close one, or wait for its resume window to pass`,
        details: { limit: "sessions_per_principal" }
      })
    })

  return Resume.of({
    open: (identity, version, features) =>
      turn
        .withPermits(1)(
          Effect.gen(function* () {
            yield* makeRoom(identity.principal)
            const token = yield* secrets.resumeToken
            const at = now()
            const record: SessionRecord = {
              sessionId: ids.unsafeMake("sess"),
              principal: identity.principal,
              version,
              features,
              createdAt: at,
              lastSeenAt: at,
              attached: true,
              tokenDigest: yield* secrets.digest(Redacted.value(token)),
              acked: 0
            }
            const entry: Entry = { record, view: undefined, closed: false }
            add(entry)
            return { entry, token }
          })
        )
        .pipe(
          Effect.flatMap(({ entry, token }) =>
            log.openView(entry.record).pipe(
              Effect.tap((view) =>
                Effect.sync(() => {
                  entry.view = view
                })
              ),
              Effect.map((view) => ({ sessionId: view.sessionId, view, token })),
              Effect.onError(() => Effect.sync(() => remove(entry.record)))
            )
          ),
          Effect.uninterruptible
        ),

    resume: (identity, features, { sessionId, token, lastEventSeq }) =>
      turn.withPermits(1)(
        Effect.gen(function* () {
          const digest = yield* secrets.digest(Redacted.value(token))
          const entry = entries.get(sessionId)
          const record = entry?.record
          // Compared even when there is nothing to compare with, so that all refusals take as long.
          const current = constantTimeEqual(digest, record?.tokenDigest ?? "-".repeat(digest.length))
          const previous = constantTimeEqual(digest, record?.previousTokenDigest ?? "-".repeat(digest.length))
          if (
            entry === undefined ||
            record === undefined ||
            record.principal !== identity.principal ||
            !(current || previous) ||
            (!record.attached && record.lastSeenAt + windowMs <= now())
          )
            return yield* refused()
          const view = entry.view ?? (yield* log.loadView(record))
          entry.view = view
          if (lastEventSeq > view.last)
            return yield* new InvalidRequest({
              message: "payload.resume.last_event_seq: greater than any event_seq of this session"
            })
          if (lastEventSeq + 1 < view.first) return yield* refused()
          const fresh = yield* secrets.resumeToken
          entry.closed = false
          yield* put(entry, {
            features,
            attached: true,
            lastSeenAt: now(),
            tokenDigest: yield* secrets.digest(Redacted.value(fresh)),
            previousTokenDigest: digest
          })
          return { sessionId, view, token: fresh, version: record.version }
        }).pipe(Effect.uninterruptible)
      ),

    confirm: (sessionId) =>
      Effect.suspend(() => {
        const entry = entries.get(sessionId)
        return entry?.record.previousTokenDigest === undefined
          ? Effect.void
          : put(entry, { previousTokenDigest: undefined })
      }).pipe(Effect.ignoreLogged),

    detach: (sessionId, closed) =>
      Effect.suspend(() => {
        const entry = entries.get(sessionId)
        if (entry === undefined) return Effect.void
        entry.closed = closed
        return put(entry, { attached: false, lastSeenAt: now() })
      }).pipe(Effect.ignoreLogged),

    sweep: Effect.gen(function* () {
      const at = now()
      const over = [...entries.values()].filter(
        ({ record }) => !record.attached && record.lastSeenAt + windowMs <= at
      )
      for (const entry of over) yield* drop(entry)
      yield* log.commit([Op.Alive({ at })])
      return over.map(({ record }) => record.sessionId)
    }).pipe(turn.withPermits(1))
  })
})

export const layer = Layer.effect(Resume, make)

export * from "../../services/session/Resume.js"
