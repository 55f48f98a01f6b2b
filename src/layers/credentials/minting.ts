/** Minting one credential: recorded before upstream is asked, and again before it is returned. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { InternalError } from "../../protocol/Errors.js"
import { type Minted, ProvisionError } from "../../services/credentials/CredentialProvisioner.js"
import type { CredentialRecord } from "../../services/credentials/CredentialStore.js"
import type { Credential, Options } from "../../services/credentials/Credentials.js"
import type { IdGenerator } from "../../services/runtime/IdGenerator.js"
import { epochOf, type Fenced, type StoreError } from "../../services/store/Store.js"
import { jobEnded } from "./failures.js"
import type { CredentialedJob, Holdings } from "./Holdings.js"
import * as Revoker from "./Revoker.js"
import { askedWithin, unsettledFrom, unsettledSince } from "./unsettled.js"

/** What a mint can fail with, before a client is told of it. */
export type MintError = ProvisionError | StoreError | Fenced | InternalError

/** What minting needs. */
export interface MintingDependencies extends Revoker.Dependencies {
  readonly ids: IdGenerator["Type"]
  readonly options: Options
  readonly holdings: Holdings
  /** The name of this node; absent when the runtime is alone. */
  readonly node: string | undefined
}

/** What is to be minted. With the id of a held credential it takes that one's place. */
export interface MintAttempt {
  readonly entry: CredentialedJob
  readonly credentialId?: string | undefined
  readonly profile: string
  readonly ask: (id: string) => Effect.Effect<Minted, ProvisionError>
}

const recordOf = (
  { clock, ids, node, options }: MintingDependencies,
  { credentialId, entry }: MintAttempt
): CredentialRecord => {
  const id = ids.unsafeMake("cred")
  const at = clock.unsafeCurrentTimeMillis()
  return {
    id,
    credentialId: credentialId ?? id,
    jobId: entry.job.jobId,
    principal: entry.job.principal,
    state: "minting",
    createdAt: at,
    updatedAt: at,
    unsettledUntil: unsettledFrom(at, options),
    attempts: 0,
    ...(node === undefined ? {} : { node, epoch: epochOf(entry.job) })
  }
}

/**
 * Not asked for when recording took so long that the record may be settled, for the next start or whoever has taken it meanwhile,
 * before this has taken effect: then it would be revoked too early.
 */
const tooLate = () =>
  new ProvisionError({ message: "recording it took too long", retryable: true, nothingMade: true })

/** What others have taken by its record, before it was made, they may have revoked before it was. */
const disown = (deps: MintingDependencies, made: CredentialRecord) =>
  Effect.suspend(() => {
    deps.holdings.unwant(made)
    return Effect.ignore(Revoker.call(deps, deps.provisioner.revoke(made)))
  })

const hold = (
  { holdings }: MintingDependencies,
  { entry, profile }: MintAttempt,
  record: CredentialRecord,
  minted: Minted
): Credential => {
  const credential: Credential = {
    id: record.credentialId,
    scheme: "bearer",
    value: minted.value,
    endpoint: minted.endpoint,
    profile,
    ...(minted.constraints === undefined ? {} : { constraints: minted.constraints })
  }
  const replaced = entry.held.get(credential.id)
  entry.held.set(credential.id, { profile, credential, record })
  if (replaced !== undefined) holdings.discard(replaced.record)
  return credential
}

/**
 * Tries once, under a fresh id. Interruptible only while the store or upstream is waited for, and then what may have been
 * made is revoked.
 */
const tryMint = (deps: MintingDependencies, request: MintAttempt): Effect.Effect<Credential, MintError> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const { clock, holdings, store } = deps
      const { ask, entry } = request
      // While it waited to try again.
      if (entry.released) return yield* jobEnded()
      let record = recordOf(deps, request)
      const discard = (made: CredentialRecord) => Effect.sync(() => holdings.discard(made))
      holdings.want(record)
      // Should it be there in spite of the failure, the next start finds it, and nothing upstream.
      yield* restore(store.insert(record)).pipe(
        Effect.tapError(() => Effect.sync(() => holdings.unwant(record))),
        Effect.onInterrupt(() => discard(record))
      )
      const minted = yield* restore(
        Revoker.call(
          deps,
          Effect.suspend(() => {
            const now = clock.unsafeCurrentTimeMillis()
            if (now - record.createdAt > askedWithin) return tooLate()
            record = { ...record, unsettledUntil: unsettledSince(now, deps.options) }
            return ask(record.id)
          })
        )
      ).pipe(
        Effect.onError((cause) => {
          const error = Option.getOrUndefined(Cause.failureOption(cause))
          if (error?.nothingMade !== true) return discard(record)
          holdings.unwant(record)
          return Effect.catchAll(store.remove(record.id, record.node), () => discard(record))
        })
      )
      const { unsettledUntil: _, ...settled } = record
      const active: CredentialRecord = {
        ...settled,
        state: "active",
        endpoint: minted.endpoint,
        reference: minted.reference,
        updatedAt: clock.unsafeCurrentTimeMillis()
      }
      yield* Effect.tapError(store.update(active), (error) =>
        Revoker.isTaken(error) ? disown(deps, active) : discard(active)
      )
      if (entry.released) {
        holdings.discard(active)
        return yield* jobEnded()
      }
      return hold(deps, request, active, minted)
    })
  )

/** Returns what mints a credential, trying again what may succeed later. */
export const makeMint = (deps: MintingDependencies) => {
  const again = Schedule.exponential(deps.options.mintRetry).pipe(
    Schedule.jittered,
    Schedule.intersect(Schedule.recurs(deps.options.mintAttempts - 1))
  )
  return (request: MintAttempt): Effect.Effect<Credential, MintError> =>
    Effect.retry(tryMint(deps, request), {
      schedule: again,
      while: (error) => error._tag === "ProvisionError" && error.retryable && error.budgetExhausted !== true
    })
}
