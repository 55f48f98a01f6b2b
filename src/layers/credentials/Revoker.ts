/** Revoking, until it is done or given up: every credential that is no longer wanted ends up here. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import { truncateMessage } from "../../protocol/Errors.js"
import {
  type CredentialProvisionerService,
  ProvisionError
} from "../../services/credentials/CredentialProvisioner.js"
import type { CredentialRecord, CredentialStoreService } from "../../services/credentials/CredentialStore.js"
import type { Options } from "../../services/credentials/Credentials.js"
import { families } from "../../services/runtime/Metrics.js"
import type { Fenced, StoreError } from "../../services/store/Store.js"
import { onlySpan } from "../lease/onlySpan.js"
import { unsettledFrom } from "./unsettled.js"

/** Longest pause before an unsettled mint is revoked once more, in milliseconds. */
const maxSettlePauseMs = 30_000

/** What a call of a provisioner works on. */
export interface Dependencies {
  readonly provisioner: CredentialProvisionerService
  readonly store: CredentialStoreService
  readonly clock: Clock.Clock
  readonly options: Pick<Options, "callTimeout">
}

/** Returns a message fit to be stored and logged: one line, and nothing in it that looks like a token, should a provisioner slip. */
export const cleanMessage = (message: string): string =>
  truncateMessage(
    message
      .replace(/[\p{Cc}\u2028\u2029]+/gu, " ")
      .replace(/\b(?:sk-|rt_|Bearer\s+)[\w.~+/=-]+/gi, "<redacted>")
  )

/**
 * Runs one call of a provisioner: it ends in time, whatever the provisioner is doing, and a defect tells its name only,
 * because nobody knows what it quotes.
 */
export const call = <A>(
  { provisioner, options }: Pick<Dependencies, "provisioner" | "options">,
  effect: Effect.Effect<A, ProvisionError>
): Effect.Effect<A, ProvisionError> =>
  effect.pipe(
    Effect.mapInputContext(onlySpan),
    Effect.sandbox,
    Effect.mapError((cause) =>
      Option.getOrElse(Cause.failureOption(cause), () => {
        const [defect] = Cause.defects(cause)
        const what = Cause.isInterruptedOnly(cause)
          ? "interrupted"
          : defect instanceof Error
            ? defect.name
            : typeof defect
        return new ProvisionError({
          message: `${provisioner.name} failed unexpectedly (${what})`,
          retryable: true
        })
      })
    ),
    Effect.disconnect,
    Effect.timeoutFail({
      duration: options.callTimeout,
      onTimeout: () =>
        new ProvisionError({
          message: `${provisioner.name} did not answer within ${Duration.toMillis(options.callTimeout)} ms`,
          retryable: true
        })
    })
  )

/**
 * Revokes once and records how that went. `unsettled`: upstream does not have it, and may yet get it from a mint that
 * is still under way; the record stays.
 */
export const attempt = (
  deps: Dependencies,
  record: CredentialRecord
): Effect.Effect<"revoked" | "unsettled", ProvisionError | StoreError> =>
  call(
    deps,
    Effect.suspend(() => deps.provisioner.revoke(record))
  ).pipe(
    Effect.tapErrorTag("ProvisionError", (error) =>
      Effect.ignore(
        deps.store.update({
          ...record,
          attempts: record.attempts + 1,
          lastError: cleanMessage(error.message),
          updatedAt: deps.clock.unsafeCurrentTimeMillis()
        })
      )
    ),
    Effect.flatMap(() =>
      (record.unsettledUntil ?? 0) > deps.clock.unsafeCurrentTimeMillis()
        ? Effect.succeed("unsettled" as const)
        : Effect.as(deps.store.remove(record.id, record.node), "revoked" as const)
    )
  )

/** Revokes what is no longer wanted. */
export interface Revoker {
  /** Begins to revoke in the background, until it is done or given up; does nothing when it has begun already. */
  readonly pursue: (record: CredentialRecord) => void
  /** Ends the pursuit of a credential that a tool or an operator has revoked. */
  readonly forget: (record: CredentialRecord) => Effect.Effect<void>
}

/** Others have taken this process for gone, and with that what it has recorded: they revoke it. */
export const isTaken = (error: ProvisionError | StoreError | Fenced): error is StoreError =>
  error._tag === "StoreError" && error.fenced === true

const worthRetrying = (error: ProvisionError | StoreError) =>
  error._tag === "StoreError" ? !isTaken(error) : error.retryable

/** What a pursuit works on. */
interface Pursuing extends Dependencies {
  readonly options: Options
  /** Bounds how many revocations are asked for at once. */
  readonly slots: Effect.Semaphore
  /** Ids of the records that are wanted revoked and are not. */
  readonly outstanding: Set<string>
}

const measure = ({ outstanding }: Pursuing) =>
  Effect.sync(() => families.credentialsOutstanding.update(outstanding.size))

const annotate = (record: CredentialRecord) =>
  Effect.annotateLogs({ credential: record.credentialId, record: record.id, job: record.jobId })

/** Says when a revocation that failed is tried again, and how often. */
const backoff = (options: Options) =>
  Schedule.exponential(options.revokeRetry).pipe(
    Schedule.union(Schedule.spaced(options.maxRevokeRetry)),
    Schedule.jittered,
    Schedule.intersect(Schedule.recurs(options.revokeAttempts - 1))
  )

const revoked = (pursuing: Pursuing, record: CredentialRecord) =>
  Effect.suspend(() => {
    pursuing.outstanding.delete(record.id)
    return measure(pursuing)
  }).pipe(Effect.zipRight(Effect.logDebug("credential revoked")), annotate(record))

const leave = (pursuing: Pursuing, record: CredentialRecord) =>
  Effect.suspend(() => {
    pursuing.outstanding.delete(record.id)
    return measure(pursuing)
  }).pipe(Effect.zipRight(Effect.logDebug("credential left to others to revoke")), annotate(record))

const giveUp = ({ clock, store }: Pursuing, record: CredentialRecord) =>
  Effect.ignore(
    store.update({ ...record, state: "failed", updatedAt: clock.unsafeCurrentTimeMillis() })
  ).pipe(
    Effect.zipRight(Effect.sync(() => families.credentialsFailed.update(1))),
    Effect.zipRight(
      Effect.logWarning(
        `a credential could not be revoked and may still be good: ${record.lastError}. It is tried again at ` +
          "the next start, and by: arcp credentials --revoke"
      )
    ),
    annotate(record)
  )

/** Returns the record of a credential that is to be revoked, as it is stored meanwhile. */
const revoking = (wanted: CredentialRecord, options: Options, now: number): CredentialRecord => ({
  ...wanted,
  state: "revoking",
  updatedAt: now,
  // No later than a mint of this moment, should the clock have been wrong.
  unsettledUntil: wanted.unsettledUntil && Math.min(wanted.unsettledUntil, unsettledFrom(now, options))
})

/** Revokes a credential, again and again, until it is revoked for good or has to be given up. */
const pursuit = (pursuing: Pursuing, wanted: CredentialRecord): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { clock, options, slots, store } = pursuing
    let record = revoking(wanted, options, clock.unsafeCurrentTimeMillis())
    const failed = (error: ProvisionError | StoreError) =>
      Effect.sync(() => {
        const attempts = record.attempts + (error._tag === "ProvisionError" ? 1 : 0)
        record = { ...record, attempts, lastError: cleanMessage(error.message) }
      })
    const once = Effect.suspend(() => slots.withPermits(1)(attempt(pursuing, record))).pipe(
      Effect.tapError(failed),
      Effect.retry({ schedule: backoff(options), while: worthRetrying })
    )
    const untilSettled = (pauseMs: number): Effect.Effect<void, ProvisionError | StoreError> =>
      Effect.flatMap(once, (outcome) => {
        if (outcome === "revoked") return Effect.void
        const leftMs = Math.max(1, (record.unsettledUntil ?? 0) - clock.unsafeCurrentTimeMillis())
        return Effect.zipRight(
          Effect.sleep(Math.min(pauseMs, maxSettlePauseMs, leftMs)),
          untilSettled(pauseMs * 2)
        )
      })
    return measure(pursuing).pipe(
      Effect.zipRight(
        Effect.catchAll(store.update(record), (error) => (isTaken(error) ? error : Effect.void))
      ),
      Effect.zipRight(untilSettled(1_000)),
      Effect.matchEffect({
        onSuccess: () => revoked(pursuing, record),
        onFailure: (error) => (isTaken(error) ? leave(pursuing, record) : giveUp(pursuing, record))
      })
    )
  })

/** Starts a revoker for the lifetime of the scope; what is under way when that closes gets the shutdown's grace. */
export const make = (
  deps: Dependencies & { readonly options: Options }
): Effect.Effect<Revoker, never, Scope> =>
  Effect.gen(function* () {
    const { options } = deps
    const fibers = yield* FiberMap.make<string, void, never>()
    const fork = yield* FiberMap.runtime(fibers)<never>()
    const slots = yield* Effect.makeSemaphore(options.revokeConcurrency)
    const pursuing: Pursuing = { ...deps, slots, outstanding: new Set() }

    yield* Effect.addFinalizer(() =>
      // As a finalizer this runs uninterruptibly, and a time-out could not end the wait.
      Effect.interruptible(FiberMap.awaitEmpty(fibers)).pipe(
        Effect.timeoutOption(options.shutdownGrace),
        // Also under a clock that stands still.
        Effect.withClock(Clock.make())
      )
    )

    return {
      pursue: (record) => {
        pursuing.outstanding.add(record.id)
        fork(record.id, Effect.interruptible(pursuit(pursuing, record)), { onlyIfMissing: true })
      },
      forget: (record) => Effect.zipRight(FiberMap.remove(fibers, record.id), revoked(pursuing, record))
    }
  })
