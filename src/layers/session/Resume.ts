/** Who may continue which session, and until when (§6.3): opens and resumes sessions. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { Version } from "../../protocol/Codec.js"
import { InternalError, type InvalidRequest, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import type * as Message from "../../protocol/Message.js"
import type { Identity } from "../../services/auth/Auth.js"
import type { ClusterService } from "../../services/cluster/Cluster.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { EventLog, View } from "../../services/log/EventLog.js"
import { isTaken, takenAway } from "../../services/log/taken.js"
import type { IdGenerator } from "../../services/runtime/IdGenerator.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { Secrets } from "../../services/runtime/Secrets.js"
import { Op, type SessionRecord, type StoreService } from "../../services/store/Store.js"
import { closeCode } from "../../services/transport/Transport.js"
import { freshToken, issuing, mayResume } from "./resumeTokens.js"
import { type Attachment, Session } from "./Session.js"
import { type SessionEntry, type SessionOpening, type SessionTable, unsettled } from "./SessionTable.js"
import * as Taking from "./Taking.js"

/** Who says hello, and what was agreed on. */
export interface Guest {
  readonly identity: Identity
  readonly version: Version
  readonly features: ReadonlyArray<Feature>
  /** See `Connection.exposed`. */
  readonly exposed: boolean
  readonly attachment: Attachment
  readonly welcome: (sessionId: string, token: Redacted.Redacted) => Message.Welcome
}

/** A session that is attached to the transport which said hello. */
export interface AttachedSession {
  readonly entry: SessionEntry
  readonly session: Session
  /** The epoch of this transport: no other of the session has had the same. */
  readonly epoch: number
}

/** A hello that asks for a session that exists (§6.3). */
export interface ResumeRequest {
  readonly sessionId: string
  readonly token: Redacted.Redacted
  readonly lastEventSeq: number
}

/** What opening and resuming sessions works on. */
export interface ResumeServices {
  readonly table: SessionTable
  readonly log: EventLog["Type"]
  readonly store: StoreService
  readonly jobs: Jobs["Type"]
  readonly ids: IdGenerator["Type"]
  readonly secrets: Secrets["Type"]
  /** The cluster of which this runtime is a node, where it is one. */
  readonly cluster: ClusterService | undefined
  readonly takes: Taking.Takes
  readonly options: Options
  /** Epoch ms, for records. */
  readonly now: () => number
  /** Milliseconds that only go forward, for the window. */
  readonly elapsed: () => number
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
  /** Starts an effect that goes on when the connection has ended. */
  readonly background: (effect: Effect.Effect<void>) => void
}

const ended = ({ record: { principal, sessionId } }: SessionEntry): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logInfo("session ended"), { session: sessionId, principal })

/** When a drop that failed is tried again: soon at first, then every 30 s. */
const dropAgain = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("30 seconds"))

/** What everybody is told who may not have a session, whatever the reason. */
export const refused = () =>
  new ResumeWindowExpired({ message: "this session cannot be resumed; open a new one with session.hello" })

/** Returns what reads the attachment. Made out here: a closure where the transport is in scope would hold that. */
const attachmentOf = (entry: SessionEntry) => () => entry.attachment

/** Makes room for one more session of a principal: the one that is gone longest and has no live job goes. */
const makeRoom = ({ jobs, options, table }: ResumeServices, principal: string) =>
  Effect.gen(function* () {
    const max = options.maxSessionsPerPrincipal
    if (table.countOf(principal) < max) return
    const owners = yield* jobs.liveOwners(principal)
    const gone = table.longestGone(principal, (sessionId) => !owners.has(sessionId))
    if (gone !== undefined) yield* table.drop(...gone)
    if (table.countOf(principal) >= max)
      return yield* new InternalError({
        message: `limit reached: at most ${max} sessions per principal; wait for the resume window of one to pass`,
        details: { limit: "sessions_per_principal" }
      })
  })

/** Drops the view of a session with its scope. Nobody waits for that, and it is tried until it is done. */
const onDrop = ({ background, jobs, log }: ResumeServices, entry: SessionEntry) =>
  Scope.addFinalizer(
    entry.scope,
    Effect.sync(() => {
      // What another process has taken is its own to drop.
      if (entry.isTaken) return
      jobs.dropped(entry.record.sessionId)
      background(
        log.dropView(entry.record).pipe(
          Effect.zipRight(ended(entry)),
          Effect.tapErrorCause((cause) =>
            Effect.logWarning("a session that is over could not be dropped; will try again", cause)
          ),
          Effect.retry({ schedule: dropAgain }),
          Effect.catchAllCause((cause) => Effect.logError("a session that is over stays stored", cause))
        )
      )
    })
  )

/**
 * Returns what lets go of a session that another process has taken: whoever is attached here is told so, and nothing of it is
 * stored. Made out here, as what reads the attachment.
 */
export const letGoOf =
  ({ background, jobs, table }: Pick<ResumeServices, "background" | "jobs" | "table">, entry: SessionEntry) =>
  () => {
    if (!table.holds(entry)) return
    const attachment = table.supersede(entry)
    jobs.dropped(entry.record.sessionId)
    const closed = attachment?.close(closeCode.superseded, "resumed on another transport") ?? Effect.void
    background(Effect.zipRight(closed, Scope.close(entry.scope, Exit.void)))
  }

/** Adds a session of the last process, which is detached until it is resumed, and stored as that. */
export const restore = (services: ResumeServices, record: SessionRecord, until: number) =>
  Effect.gen(function* () {
    const { table } = services
    const detached = { ...record, attached: false }
    const entry = yield* table.add(detached, { _tag: "Detached", until })
    // Or its window would begin again with the end of this process.
    if (record.attached) table.touch(entry)
    yield* onDrop(services, entry)
  })

/**
 * Attaches a session once its commit is done: it is the transport's, synchronously, and the welcome goes out before
 * anything else. Whoever was attached is so no more.
 */
const attach = (
  services: ResumeServices,
  entry: SessionEntry,
  opening: SessionOpening,
  { identity, features, exposed, attachment, version, welcome }: Guest,
  view: View,
  token: Redacted.Redacted
) =>
  Effect.gen(function* () {
    const { ids, jobs, log, options, table } = services
    const { sessionId } = entry.record
    yield* log.attach(view, { features, wake: attachment.outbox.wake })
    const session =
      entry.session ??
      new Session(sessionId, version, view, identity, features, exposed, {
        nextId: ids.unsafeNext,
        maxFrameBytes: options.maxOutboundFrameBytes,
        attachment: attachmentOf(entry)
      })
    const first = session.frame({ type: "session.welcome", payload: welcome(sessionId, token) })
    session.identity = identity
    session.features = features
    session.exposed = exposed
    if (entry.session === undefined) {
      jobs.attached(session)
      view.whenTaken(letGoOf(services, entry))
    }
    entry.session = session
    const { epoch, superseded } = table.attach(entry, opening, attachment)
    attachment.outbox.push(first)
    if (superseded !== undefined)
      yield* Effect.forkDaemon(superseded.close(closeCode.superseded, "resumed on another transport"))
    return { entry, session, epoch } satisfies AttachedSession as AttachedSession
  })

/** Opens a session. Fails with `InternalError` and `details.limit` when the principal has too many. */
const open = (services: ResumeServices, guest: Guest): Effect.Effect<AttachedSession, InternalError> =>
  Effect.uninterruptible(
    Effect.gen(function* () {
      const { cluster, ids, log, now, secrets, share, table } = services
      const { identity, version, features } = guest
      const { token, digest } = yield* freshToken(secrets)
      yield* makeRoom(services, identity.principal)
      const at = now()
      const opening = unsettled()
      const entry = yield* table.add(
        {
          sessionId: ids.unsafeMake("sess"),
          principal: identity.principal,
          version,
          features,
          createdAt: at,
          lastSeenAt: at,
          attached: true,
          tokenDigest: digest,
          acked: 0,
          node: cluster?.node
        },
        opening
      )
      return yield* Effect.interruptible(log.openView(entry.record)).pipe(
        Effect.onInterrupt(() => onDrop(services, entry)),
        Effect.tap(() => onDrop(services, entry)),
        Effect.zipLeft(share),
        Effect.flatMap((view) => attach(services, entry, opening, guest, view, token)),
        Effect.onError(() => table.drop(entry, opening))
      )
    })
  )

/** Claims the session that a resume may have; fails in the same way for everything that it may not. */
const admit = ({ elapsed, secrets, table }: ResumeServices, identity: Identity, request: ResumeRequest) =>
  Effect.gen(function* () {
    const digest = yield* secrets.digest(Redacted.value(request.token))
    const entry = table.get(request.sessionId)
    // Another resume may have claimed it before this fiber goes on: from the last look on nothing waits.
    while (entry?.state._tag === "Opening" && table.holds(entry))
      yield* Effect.interruptible(table.settled(entry))
    if (entry?.isTaken === true) return yield* takenAway
    const holdsToken = mayResume(entry?.record, digest)
    if (
      entry === undefined ||
      entry.record.principal !== identity.principal ||
      !holdsToken ||
      !table.holds(entry) ||
      entry.isLast ||
      entry.state._tag === "Opening" ||
      (entry.state._tag === "Detached" && entry.state.until <= elapsed())
    )
      return yield* refused()
    return { entry, digest, opening: table.claim(entry, entry.state) }
  })

/** Continues a session that is here, and rotates its token. Fails when another process has taken it (`isTaken`). */
const resumeHere = (
  services: ResumeServices,
  guest: Guest,
  request: ResumeRequest
): Effect.Effect<AttachedSession, ResumeWindowExpired | InvalidRequest | InternalError> =>
  Effect.uninterruptible(
    Effect.gen(function* () {
      const { log, now, secrets, share, table } = services
      const fresh = yield* freshToken(secrets)
      const { entry, digest, opening } = yield* admit(services, guest.identity, request)
      const { record } = entry
      return yield* Effect.gen(function* () {
        const view =
          entry.session?.view ??
          (yield* Effect.interruptible(log.holdView({ ...record, features: guest.features })))
        if (request.lastEventSeq > view.last) return yield* Taking.unassigned()
        if (view.lost || request.lastEventSeq + 1 < view.first) return yield* refused()
        const next: SessionRecord = {
          ...record,
          features: guest.features,
          attached: true,
          lastSeenAt: now(),
          ...issuing(record, digest, fresh.digest),
          acked: view.acked
        }
        yield* Effect.interruptible(log.commit([Op.PutSession({ session: next })])).pipe(
          // It may be stored all the same, so what holds is stored again.
          Effect.onInterrupt(() => Effect.sync(() => table.touch(entry))),
          Effect.tapError((error) => Effect.sync(isTaken(error) ? letGoOf(services, entry) : () => {}))
        )
        entry.record = next
        // Of a thousand that were committed together each has its share of a turn.
        yield* share
        if (!table.holds(entry)) return yield* takenAway
        return yield* attach(
          services,
          entry,
          opening,
          { ...guest, version: record.version },
          view,
          fresh.token
        )
      }).pipe(Effect.onError(() => Effect.sync(() => table.release(entry, opening))))
    })
  )

/** How often a session is taken anew that others take at the same time. */
const takesAtMost = 3

/**
 * Continues a session and rotates its token. Wrong principal, session or token, a window that has passed,
 * and events no longer retained all give the same `ResumeWindowExpired`; a `lastEventSeq` never
 * assigned gives `InvalidRequest`.
 */
const resume = (
  services: ResumeServices,
  guest: Guest,
  request: ResumeRequest,
  takes = takesAtMost
): Effect.Effect<AttachedSession, ResumeWindowExpired | InvalidRequest | InternalError> =>
  Taking.bring(services, guest.identity, request).pipe(
    Effect.zipRight(resumeHere(services, guest, request)),
    Effect.catchIf(
      (error) => error._tag === "InternalError" && isTaken(error),
      (error) => {
        if (services.cluster === undefined) return refused()
        // It is somewhere: whoever asks may ask again.
        return takes <= 1 ? error : resume(services, guest, request, takes - 1)
      }
    )
  )

/**
 * Ends all tokens but the one that was issued last, once the client has sent a frame on the transport of `epoch`, which
 * has that one. Stored when it returns, so that whoever got an answer has a token that holds.
 */
const confirm = ({ log, table }: ResumeServices, { entry, epoch }: AttachedSession): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { state } = entry
    if (state._tag !== "Attached" || state.epoch !== epoch) return Effect.void
    const received = entry.record.issuedTokenDigests?.at(-1)
    if (received === undefined) return Effect.void
    entry.record = { ...entry.record, tokenDigest: received, issuedTokenDigests: undefined }
    return log.commit([Op.PutSession({ session: entry.record })]).pipe(
      Effect.catchAll((error) => {
        table.touch(entry)
        return Effect.logWarning("a resume token that is over could not be stored", error.message)
      })
    )
  })

/** Opens sessions and resumes them (§6.3). */
export interface Resume {
  /** Adds a session of the last process, which may be resumed until a point in time of `elapsed`. */
  readonly restore: (record: SessionRecord, until: number) => Effect.Effect<void>
  readonly open: (guest: Guest) => Effect.Effect<AttachedSession, InternalError>
  readonly resume: (
    guest: Guest,
    request: ResumeRequest
  ) => Effect.Effect<AttachedSession, ResumeWindowExpired | InvalidRequest | InternalError>
  /** Tells that the client has sent a frame on this transport, so that it has the token issued with it. */
  readonly confirm: (held: AttachedSession) => Effect.Effect<void>
}

/** Returns what opens sessions and resumes them (§6.3). */
export const make = (services: ResumeServices): Resume => ({
  restore: (record, until) => restore(services, record, until),
  open: (guest) => open(services, guest),
  resume: (guest, request) => resume(services, guest, request),
  confirm: (held) => confirm(services, held)
})
