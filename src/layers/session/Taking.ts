/**
 * Sessions between the nodes of a cluster: a hello may come to any node, and whoever sends the welcome has the session. It is
 * taken by one commit, which states the epoch that it was read with, so of two nodes that take it at once one does. Whoever had
 * it learns that by its next commit, or when it is woken and looks; what it still sent until then was committed before.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type InternalError, InvalidRequest, type ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Identity } from "../../services/auth/Auth.js"
import * as Cluster from "../../services/cluster/Cluster.js"
import { takenAway } from "../../services/log/taken.js"
import { Signal } from "../../services/runtime/Signal.js"
import { epochOf, type SessionRecord, type StoreError, toInternalError } from "../../services/store/Store.js"
import * as Forgetting from "./forgetting.js"
import type { Records } from "./Records.js"
import { letGoOf, type ResumeRequest, type ResumeServices, refused, restore } from "./Resume.js"
import { mayResume } from "./resumeTokens.js"
import { sinceOf, surviving } from "./surviving.js"

const unread = toInternalError("the session could not be read")

/** Returns the session as it is stored, when this guest may have it, and for how many milliseconds more. */
const admitted = (
  services: ResumeServices,
  cluster: Cluster.ClusterService,
  identity: Identity,
  request: ResumeRequest
): Effect.Effect<SessionRecord, ResumeWindowExpired | InvalidRequest | InternalError | StoreError> =>
  Effect.gen(function* () {
    const { now, options, secrets, store } = services
    const digest = yield* secrets.digest(Redacted.value(request.token))
    const { sessionId } = request
    // Each takes a round trip, and none needs what another finds.
    const [record, { first, last }, hasLost, lives] = yield* Effect.all(
      [store.session(sessionId), store.view(sessionId), store.hasLost(sessionId), store.lives],
      { concurrency: "unbounded" }
    )
    const holdsToken = mayResume(record, digest)
    // One of this node's own that is not here has ended.
    if (record === undefined || record.principal !== identity.principal || !holdsToken)
      return yield* refused()
    if (Cluster.isOurs(cluster, record)) return yield* refused()
    const at = now()
    if (surviving(record, sinceOf(lives, record, at, options)).left <= 0) return yield* refused()
    // Or whoever asks for what never was would take it from somebody.
    if (request.lastEventSeq > last) return yield* unassigned()
    if (request.lastEventSeq + 1 < first || hasLost) return yield* refused()
    return record
  })

/** What a client is told that says it has seen what was never sent. */
export const unassigned = () =>
  new InvalidRequest({
    message: "payload.resume.last_event_seq: greater than any event_seq of this session"
  })

/** What takes sessions here, each one hello at a time. */
export class Takes {
  private readonly underway = new Map<string, Deferred.Deferred<void>>()
  /** Sessions that are this node's by a commit of its own, and are not in its table until they have been read. */
  readonly unread = new Set<string>()

  /** Waits for whoever takes the session: between its commit and its place in the table it is nowhere to be found. */
  readonly alone = <A, E, R>(sessionId: string, take: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => {
      const before = this.underway.get(sessionId)
      if (before !== undefined) return Effect.zipRight(Deferred.await(before), this.alone(sessionId, take))
      const over = Deferred.unsafeMake<void>(FiberId.none)
      return Effect.acquireUseRelease(
        Effect.sync(() => this.underway.set(sessionId, over)),
        () => take,
        () =>
          Effect.sync(() => {
            this.underway.delete(sessionId)
            Deferred.unsafeDone(over, Effect.void)
          })
      )
    })
}

/** Between two tries to read what was taken: soon at first, then every 5 s. */
const readAgain = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("5 seconds"))

/** Puts a session that this node has taken in the table, as it is stored by now; nothing when another node has taken it since. */
const addTaken = (services: ResumeServices, { node }: Cluster.ClusterService, sessionId: string) =>
  Effect.gen(function* () {
    const { elapsed, options, store, table, takes } = services
    if (!takes.unread.has(sessionId)) return
    const taken = yield* store.session(sessionId)
    takes.unread.delete(sessionId)
    if (taken?.node !== node) return
    const stale = table.get(sessionId)
    if (stale !== undefined) letGoOf(services, stale)()
    yield* restore(services, taken, elapsed() + Duration.toMillis(options.resumeWindow))
  }).pipe(Effect.uninterruptible)

/** Does so beside whoever asked for it, who may not come back: nobody but this node would ever drop it. */
const addLater = (services: ResumeServices, cluster: Cluster.ClusterService, sessionId: string): void =>
  services.background(
    services.takes.alone(sessionId, addTaken(services, cluster, sessionId)).pipe(
      Effect.retry({ schedule: readAgain, while: ({ damaged }) => damaged === undefined }),
      Effect.catchAllCause((cause) =>
        Effect.logError(`session ${sessionId} was taken, and could not be read`, cause)
      )
    )
  )

/**
 * Takes a session that another node has, when the guest may have it: it is here from now on, detached, and can be resumed as any
 * other. Does nothing with one that is here and has not moved, and of a runtime that is alone.
 */
export const bring = (
  services: ResumeServices,
  identity: Identity,
  request: ResumeRequest
): Effect.Effect<void, ResumeWindowExpired | InvalidRequest | InternalError> =>
  Effect.suspend(() => {
    const { cluster, log, store, table, takes } = services
    if (cluster === undefined) return Effect.void
    const { sessionId } = request
    const take = Effect.gen(function* () {
      yield* addTaken(services, cluster, sessionId)
      const held = table.get(sessionId)
      if (held !== undefined) {
        const stored = yield* store.session(sessionId)
        if (stored === undefined || epochOf(stored) === epochOf(held.record)) return
        // It has moved, and this node has not found out: what is here knows nothing of its newest token.
        letGoOf(services, held)()
      }
      const record = yield* admitted(services, cluster, identity, request)
      yield* log.takeSession(record, cluster.node)
      takes.unread.add(sessionId)
      if (record.node !== undefined) cluster.wake.tell(Cluster.matter(record.node, "sessions"))
      yield* Effect.tapError(addTaken(services, cluster, sessionId), () =>
        Effect.sync(() => addLater(services, cluster, sessionId))
      )
      if (table.get(sessionId) === undefined) return yield* takenAway
    }).pipe(
      Effect.uninterruptible,
      Effect.catchTag("StoreError", (error) => unread(error))
    )
    return takes.alone(sessionId, take)
  })

/** Between two looks for sessions that others have taken, however often somebody says so. */
const pause = Duration.seconds(1)

/**
 * Looks, whenever another node has taken or deleted something, which of the sessions that are here it is: these are let go of, or
 * ended, whether anybody is attached to them or not.
 */
export const watch = (services: ResumeServices, records: Records): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { cluster, store, table } = services
    if (cluster === undefined) return
    const told = new Signal()
    yield* cluster.wake.listen(Cluster.matter(cluster.node, "sessions"), (isTold) => {
      if (isTold) told.give()
    })
    const look = Effect.gen(function* () {
      const entries = [...table.of("everyone")]
      // One that is being resumed may have been taken since that was stored.
      for (const entry of entries) yield* table.settled(entry)
      const known = entries.filter((entry) => entry.state._tag !== "Opening" && table.holds(entry))
      if (known.length === 0) return
      const places = yield* store.sessionPlaces(known.map(({ record }) => record.sessionId))
      for (const entry of known) {
        const place = places.get(entry.record.sessionId)
        if (place?.epoch === epochOf(entry.record) || !table.holds(entry)) continue
        if (place === undefined) {
          // It was stored before it was here: another node has dropped it for good.
          services.background(Forgetting.end(table, entry))
          continue
        }
        // Whoever stores it finds out, and lets go of it.
        table.touch(entry)
        records.ring()
      }
    })
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.zipRight(
          Effect.zipRight(
            told.wait,
            Effect.catchAllCause(look, (cause) =>
              Effect.logWarning("sessions that others may have taken could not be looked for", cause)
            )
          ),
          Effect.sleep(pause)
        )
      )
    )
  })
