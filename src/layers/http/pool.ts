/**
 * The sessions of those who ask over HTTP: one for each principal and what they may do, made when it is needed, and let go
 * when nobody has asked for a while.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as CanonicalJson from "../../protocol/CanonicalJson.js"
import { type ArcpError, InternalError } from "../../protocol/Errors.js"
import type { Identity } from "../../services/auth/Auth.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import type { Sessions } from "../../services/session/Sessions.js"
import { type Guest, type Line, open } from "./line.js"

/** Milliseconds before the end of a token from which on a session of it is not used any more, when there is a longer one. */
const margin = 30_000

/**
 * Sessions of one principal that are kept unused. Tokens that are each for something else are sessions of their own, and
 * whatever is kept of them counts against what the principal may have open.
 */
const maxIdle = 8

/** Bounds of a pool. */
export interface PoolOptions {
  /** Sessions that are open at the most. */
  readonly maxSessions: number
  /** How long one is kept that nobody uses. */
  readonly idle: Duration.Duration
}

interface Pooled {
  readonly key: string
  readonly principal: string
  readonly scope: Scope.CloseableScope
  readonly line: Deferred.Deferred<Line, ArcpError>
  readonly expiresAt: number
  opened: Line | undefined
  users: number
  /** When it was let go of, in milliseconds that only go forward. */
  releasedAt: number
  /** Whether there is a fiber that closes it when nobody has used it for long. */
  isWatched: boolean
}

/** Gives sessions to whoever asks, for a scope each. */
export interface Pool {
  readonly lineFor: (identity: Identity, guest: Guest) => Effect.Effect<Line, ArcpError, Scope.Scope>
  /** How many sessions are open. */
  readonly size: () => number
}

/**
 * What makes two who ask the same to the runtime, but for when their tokens end: their identities, and whether they may be answered
 * with secrets.
 */
const keyOf = ({ agents, leaseCeiling, principal, scopes }: Identity, { visitor }: Guest): string =>
  CanonicalJson.stringify([
    principal,
    agents ?? null,
    leaseCeiling ?? null,
    scopes ?? null,
    visitor.exposed === true
  ])

/** Sessions that nobody uses, by principal, the least recently used first. */
class Unused {
  private readonly of = new Map<string, Set<Pooled>>()

  remove(pooled: Pooled): void {
    const all = this.of.get(pooled.principal)
    if (all?.delete(pooled) === true && all.size === 0) this.of.delete(pooled.principal)
  }
  /** Returns one that is to be closed because its principal has too many. */
  add(pooled: Pooled): Pooled | undefined {
    const all = this.of.get(pooled.principal) ?? new Set()
    this.of.set(pooled.principal, all.add(pooled))
    return all.size > maxIdle ? all.values().next().value : undefined
  }
}

/** The sessions of a pool. */
class Pooling {
  /** Those that are given to whoever asks next. */
  private readonly byKey = new Map<string, Pooled>()
  /** All that are open, the least recently used first. */
  readonly everyone = new Set<Pooled>()
  private readonly unused = new Unused()

  constructor(
    private readonly parts: PoolOptions & {
      readonly sessions: Sessions["Type"]
      /** Of the pool. */
      readonly scope: Scope.Scope
      /** Epoch ms. */
      readonly now: () => number
      /** Milliseconds that only go forward. */
      readonly elapsed: () => number
    }
  ) {}

  close(pooled: Pooled): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.byKey.get(pooled.key) === pooled) this.byKey.delete(pooled.key)
      this.unused.remove(pooled)
      if (!this.everyone.delete(pooled)) return Effect.void
      return Scope.close(pooled.scope, Exit.void)
    })
  }

  /** Gives a session to whoever asks, who has it until it is released. */
  acquire(identity: Identity, guest: Guest): Effect.Effect<Pooled, InternalError> {
    return Effect.tap(this.take(identity, guest), (pooled) => {
      pooled.users++
      this.unused.remove(pooled)
    })
  }

  release(pooled: Pooled): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (--pooled.users > 0) return Effect.void
      if (this.byKey.get(pooled.key) !== pooled) return this.close(pooled)
      pooled.releasedAt = this.parts.elapsed()
      this.everyone.delete(pooled)
      this.everyone.add(pooled)
      const surplus = this.unused.add(pooled)
      const closing = surplus === undefined ? Effect.void : this.close(surplus)
      if (pooled.isWatched) return closing
      pooled.isWatched = true
      return Effect.zipRight(Effect.forkIn(this.watch(pooled), pooled.scope), closing)
    })
  }

  /** Closes one when nobody has used it for long. It is one fiber for however many who ask one after the other. */
  private watch(pooled: Pooled): Effect.Effect<void> {
    return Effect.suspend(() => {
      const left = pooled.releasedAt + Duration.toMillis(this.parts.idle) - this.parts.elapsed()
      if (left > 0)
        return Effect.zipRight(Effect.interruptible(Effect.sleep(Math.ceil(left))), this.watch(pooled))
      // Whoever has it now lets go of it some time, and has it watched again.
      pooled.isWatched = false
      return pooled.users === 0 ? this.close(pooled) : Effect.void
    })
  }

  private take(identity: Identity, guest: Guest): Effect.Effect<Pooled, InternalError> {
    const key = keyOf(identity, guest)
    return Effect.gen(this, function* () {
      const there = this.byKey.get(key)
      if (there !== undefined && this.isUsable(there, identity)) return there
      if (there !== undefined) {
        this.byKey.delete(key)
        if (there.users === 0) yield* this.close(there)
      }
      const { maxSessions } = this.parts
      if (this.everyone.size >= maxSessions && !(yield* this.makeRoom)) return yield* full(maxSessions)
      return this.byKey.get(key) ?? (yield* this.begin(key, identity, guest))
    })
  }

  private isUsable(pooled: Pooled, identity: Identity): boolean {
    if (pooled.opened?.isOver() === true) return false
    const lastsLonger = (identity.expiresAt ?? Number.POSITIVE_INFINITY) > pooled.expiresAt
    return !lastsLonger || pooled.expiresAt - margin > this.parts.now()
  }

  /** Closes the one that has been unused for longest; returns whether there was one. */
  private readonly makeRoom = Effect.suspend(() => {
    for (const pooled of this.everyone) if (pooled.users === 0) return Effect.as(this.close(pooled), true)
    return Effect.succeed(false)
  })

  private begin(key: string, identity: Identity, guest: Guest): Effect.Effect<Pooled> {
    const { scope, sessions } = this.parts
    return Effect.gen(this, function* () {
      const pooled: Pooled = {
        key,
        principal: identity.principal,
        scope: yield* Scope.make(),
        line: yield* Deferred.make<Line, ArcpError>(),
        expiresAt: identity.expiresAt ?? Number.POSITIVE_INFINITY,
        opened: undefined,
        users: 0,
        releasedAt: 0,
        isWatched: false
      }
      this.byKey.set(key, pooled)
      this.everyone.add(pooled)
      yield* open(sessions, guest).pipe(
        Scope.extend(pooled.scope),
        Effect.tap((line) => {
          pooled.opened = line
        }),
        // Interrupted is only what is still being opened when the server ends: nothing has been asked on it.
        Effect.onExit((exit) =>
          Deferred.done(pooled.line, Exit.isInterrupted(exit) ? Exit.fail(ending) : exit)
        ),
        Effect.tapErrorCause(() =>
          Effect.sync(() => this.byKey.get(key) === pooled && this.byKey.delete(key))
        ),
        Effect.ignore,
        // Whoever takes it cannot be interrupted while they do, and what is begun for others would inherit that.
        Effect.interruptible,
        Effect.forkIn(scope)
      )
      return pooled
    })
  }
}

/** Makes a pool whose sessions all end with the scope. */
export const make = (
  sessions: Sessions["Type"],
  { idle, maxSessions }: PoolOptions
): Effect.Effect<Pool, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const pooling = new Pooling({
      sessions,
      idle,
      maxSessions,
      scope: yield* Effect.scope,
      now: () => clock.unsafeCurrentTimeMillis(),
      elapsed: monotonic(clock)
    })
    yield* Effect.addFinalizer(() =>
      Effect.forEach([...pooling.everyone], (pooled) => pooling.close(pooled), { discard: true })
    )
    return {
      lineFor: (identity, guest) =>
        Effect.acquireRelease(pooling.acquire(identity, guest), (pooled) => pooling.release(pooled)).pipe(
          Effect.flatMap(({ line }) => Deferred.await(line))
        ),
      size: () => pooling.everyone.size
    }
  })

const ending = new InternalError({
  message: "the runtime is shutting down; try again later",
  details: { reason: "shutdown" }
})

const full = (max: number) =>
  new InternalError({
    message: `limit reached: at most ${max} sessions over HTTP; try again later`,
    details: { limit: "http_sessions" }
  })
