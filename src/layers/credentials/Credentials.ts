/**
 * Credentials over a provisioner and a store. What makes a `kill -9` harmless at any point:
 *
 * 1. a record is durable before upstream is asked, and upstream knows the credential by the record's id;
 * 2. it is marked as minted before the credential is returned, so before anybody is shown it;
 * 3. it goes only after upstream has confirmed the revocation, by that id;
 * 4. jobs do not outlive the process, so whatever a start finds recorded is revoked.
 *
 * A mint whose answer is lost may take effect later, also after a revocation that found nothing. Such an id is
 * never minted again: the next try has a fresh one, and this one is revoked again and again until it has settled.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { ParseError } from "effect/ParseResult"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { BudgetExhausted, InternalError, InvalidRequest } from "../../protocol/Errors.js"
import {
  CredentialProvisioner,
  type Minted,
  type ProvisionError
} from "../../services/credentials/CredentialProvisioner.js"
import {
  type CredentialRecord,
  CredentialStore,
  type CredentialStoreService
} from "../../services/credentials/CredentialStore.js"
import {
  type Credential,
  type CredentialJob,
  Credentials,
  type Input,
  OptionsSchema
} from "../../services/credentials/Credentials.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import { StoreError, toInternalError } from "../../services/store/Store.js"
import * as Revoker from "./Revoker.js"

/** One credential that a running job holds, and the record it is revoked by. */
interface HeldCredential {
  readonly profile: string
  readonly credential: Credential
  readonly record: CredentialRecord
}

type MintError = ProvisionError | StoreError | InternalError

/** A job that has not ended. */
interface CredentialedJob {
  readonly job: CredentialJob
  /** By credential id. */
  readonly held: Map<string, HeldCredential>
  readonly rotating: Effect.Semaphore
  released: boolean
}

const none: Credentials["Type"] = {
  enabled: false,
  mint: () => Effect.succeed([]),
  held: () => [],
  rotate: () => Effect.fail(notHeld()),
  release: () => Effect.void,
  outstanding: Effect.succeed([]),
  revoke: (credentialId) => Effect.fail(notOutstanding(credentialId))
}

const notHeld = () =>
  new InvalidRequest({
    message: "no running job holds that credential; job.accepted and job.subscribed list those of a job"
  })

const notOutstanding = (credentialId: string) =>
  new InternalError({
    message: `${credentialId.slice(0, 64)} is not outstanding: it is revoked, or a running job holds it`,
    details: { reason: "credentials" }
  })

const ended = () =>
  new InternalError({
    message: "the job ended while its credentials were provisioned",
    details: { reason: "credentials" }
  })

const storage = toInternalError("the credential store failed")

/** The operator's log says what the client is not told. */
const logged = (error: StoreError) => Effect.logWarning(Revoker.cleanMessage(error.message))

const unprovisioned = (error: ProvisionError) =>
  new InternalError({
    message: Revoker.cleanMessage(`the job's credentials could not be provisioned: ${error.message}`),
    details: { reason: "credentials" }
  })

const exhausted = (error: ProvisionError) =>
  new BudgetExhausted({
    message: Revoker.cleanMessage(`no credential can be provisioned: ${error.message}`),
    details: { reason: "credentials" }
  })

/** The same store, whose defects are failures like its others: there is something to revoke also after one. */
const steady = (store: CredentialStoreService): CredentialStoreService => {
  const typed = <A>(effect: Effect.Effect<A, StoreError>): Effect.Effect<A, StoreError> =>
    Effect.catchAllDefect(effect, (defect) =>
      Effect.fail(
        new StoreError({
          message: `it failed unexpectedly (${defect instanceof Error ? defect.name : typeof defect})`
        })
      )
    )
  return {
    kind: store.kind,
    insert: (record) => typed(Effect.suspend(() => store.insert(record))),
    update: (record) => typed(Effect.suspend(() => store.update(record))),
    remove: (id) => typed(Effect.suspend(() => store.remove(id))),
    list: typed(store.list)
  }
}

export const make = (input: Input = {}) =>
  Effect.gen(function* () {
    const options = yield* Schema.decode(OptionsSchema)(input)
    const provisioner = yield* CredentialProvisioner
    const store = steady(yield* CredentialStore)
    const ids = yield* IdGenerator
    const clock = yield* Effect.clock
    if (store.kind !== "durable" && !options.allowVolatile) {
      yield* Effect.logWarning(
        "no credentials are provisioned: that needs a durable store, so that none is forgotten in a crash"
      )
      return none
    }
    const now = () => clock.unsafeCurrentTimeMillis()
    const deps = { provisioner, store, clock, options }
    const revoker = yield* Revoker.make(deps)
    const entries = new Map<string, CredentialedJob>()
    /** Ids of records that are being minted, or held by a running job. */
    const wanted = new Set<string>()

    const discard = (record: CredentialRecord) => {
      wanted.delete(record.id)
      revoker.pursue(record)
    }

    const release = (entry: CredentialedJob) => {
      if (entry.released) return
      entry.released = true
      entries.delete(entry.job.jobId)
      for (const { record } of entry.held.values()) discard(record)
    }

    /**
     * One try, under a fresh id. Interruptible only while upstream is waited for, and then what it may have made is
     * revoked. With the id of a held credential it takes that one's place.
     */
    const tryMint = (
      entry: CredentialedJob,
      credentialId: string | undefined,
      profile: string,
      ask: (id: string) => Effect.Effect<Minted, ProvisionError>
    ): Effect.Effect<Credential, MintError> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          // While it waited to try again.
          if (entry.released) return yield* ended()
          const id = ids.unsafeMake("cred")
          const at = now()
          const record: CredentialRecord = {
            id,
            credentialId: credentialId ?? id,
            jobId: entry.job.jobId,
            principal: entry.job.principal,
            state: "minting",
            createdAt: at,
            updatedAt: at,
            unsettledUntil: at + Duration.toMillis(options.callTimeout) + Duration.toMillis(options.settle),
            attempts: 0
          }
          wanted.add(id)
          // Should it be there in spite of the failure, the next start finds it, and nothing upstream.
          yield* restore(store.insert(record)).pipe(
            Effect.tapError(() => Effect.sync(() => wanted.delete(id))),
            Effect.onInterrupt(() => Effect.sync(() => discard(record)))
          )
          const minted = yield* restore(
            Revoker.call(
              deps,
              Effect.suspend(() => ask(id))
            )
          ).pipe(
            Effect.onError((cause) => {
              const error = Option.getOrUndefined(Cause.failureOption(cause))
              if (error?.nothingMade !== true) return Effect.sync(() => discard(record))
              wanted.delete(id)
              return Effect.catchAll(store.remove(id), () => Effect.sync(() => discard(record)))
            })
          )
          const { unsettledUntil: _, ...settled } = record
          const active: CredentialRecord = {
            ...settled,
            state: "active",
            endpoint: minted.endpoint,
            reference: minted.reference,
            updatedAt: now()
          }
          yield* Effect.tapError(store.update(active), () => Effect.sync(() => discard(active)))
          if (entry.released) {
            discard(active)
            return yield* ended()
          }
          const credential: Credential = {
            id: record.credentialId,
            scheme: "bearer",
            value: minted.value,
            endpoint: minted.endpoint,
            profile,
            ...(minted.constraints === undefined ? {} : { constraints: minted.constraints })
          }
          const replaced = entry.held.get(credential.id)
          entry.held.set(credential.id, { profile, credential, record: active })
          if (replaced !== undefined) discard(replaced.record)
          return credential
        })
      )

    const again = Schedule.exponential(options.mintRetry).pipe(
      Schedule.jittered,
      Schedule.intersect(Schedule.recurs(options.mintAttempts - 1))
    )
    const persist = <A>(effect: Effect.Effect<A, MintError>): Effect.Effect<A, MintError> =>
      Effect.retry(effect, {
        schedule: again,
        while: (error) => error._tag === "ProvisionError" && error.retryable && error.budgetExhausted !== true
      })

    const mint = (
      job: CredentialJob
    ): Effect.Effect<ReadonlyArray<Credential>, InternalError | BudgetExhausted> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend(() => {
          const profiles = provisioner.profiles(job)
          if (profiles.length === 0) return Effect.succeed([])
          if (entries.has(job.jobId)) return Effect.dieMessage(`${job.jobId} has its credentials already`)
          const entry: CredentialedJob = {
            job,
            held: new Map(),
            rotating: Effect.unsafeMakeSemaphore(1),
            released: false
          }
          entries.set(job.jobId, entry)
          return restore(
            Effect.forEach(profiles, (profile) =>
              persist(tryMint(entry, undefined, profile, (id) => provisioner.mint({ id, profile, job })))
            )
          ).pipe(
            Effect.catchTags({
              ProvisionError: (error) =>
                Effect.fail(error.budgetExhausted === true ? exhausted(error) : unprovisioned(error)),
              StoreError: (error) => Effect.zipRight(logged(error), storage(error))
            }),
            Effect.onError(() => Effect.sync(() => release(entry)))
          )
        })
      ).pipe(
        Effect.tapErrorTag("InternalError", (error) => Effect.logWarning(error.message)),
        Effect.annotateLogs({ job: job.jobId }),
        Effect.withSpan("arcp.credentials.mint", { attributes: { "arcp.job_id": job.jobId } })
      )

    const rotate = (
      jobId: string,
      credentialId: string
    ): Effect.Effect<Credential, InternalError | InvalidRequest> =>
      Effect.suspend((): Effect.Effect<Credential, MintError | InvalidRequest> => {
        const entry = entries.get(jobId)
        if (entry === undefined) return Effect.fail(notHeld())
        return Effect.suspend((): Effect.Effect<Credential, MintError | InvalidRequest> => {
          const old = entry.held.get(credentialId)
          if (old === undefined || entry.released) return Effect.fail(notHeld())
          const { profile, record: previous } = old
          const { job } = entry
          return persist(
            tryMint(entry, credentialId, profile, (id) => provisioner.rotate({ id, profile, job, previous }))
          )
        }).pipe(entry.rotating.withPermits(1))
      }).pipe(
        Effect.catchTags({
          ProvisionError: (error) => Effect.fail(unprovisioned(error)),
          StoreError: (error) => Effect.zipRight(logged(error), storage(error))
        }),
        Effect.withSpan("arcp.credentials.rotate", { attributes: { "arcp.job_id": jobId } })
      )

    const outstanding = store.list.pipe(
      Effect.map((records) => records.filter(({ id }) => !wanted.has(id))),
      Effect.mapError(storage)
    )

    const revoke = (credentialId: string) =>
      Effect.gen(function* () {
        const records = (yield* outstanding).filter(
          (record) => record.id === credentialId || record.credentialId === credentialId
        )
        if (records.length === 0) return yield* notOutstanding(credentialId)
        for (const record of records) {
          const outcome = yield* Effect.mapError(Revoker.attempt(deps, record), (error) =>
            error._tag === "StoreError"
              ? storage(error)
              : new InternalError({
                  message: Revoker.cleanMessage(`${record.id} could not be revoked: ${error.message}`),
                  details: { reason: "credentials" }
                })
          )
          if (outcome === "revoked") yield* revoker.forget(record)
          else revoker.pursue(record)
        }
      })

    // Nobody waits for this: what a job needs is minted under ids of its own.
    for (const record of yield* store.list) revoker.pursue(record)

    return Credentials.of({
      enabled: true,
      mint,
      held: (jobId) => Array.from(entries.get(jobId)?.held.values() ?? [], ({ credential }) => credential),
      rotate,
      release: (jobId) =>
        Effect.sync(() => {
          const entry = entries.get(jobId)
          if (entry !== undefined) release(entry)
        }),
      outstanding,
      revoke
    })
  })

/**
 * Credentials from the provisioner in context, recorded in the store in context. What the last process did not revoke is
 * revoked in the background from the moment the layer is built. Fails when the store cannot be read, or when an option
 * is out of range.
 */
export const layer = (
  options?: Input
): Layer.Layer<Credentials, StoreError | ParseError, CredentialProvisioner | CredentialStore | IdGenerator> =>
  Layer.scoped(Credentials, make(options))

/** No job gets any; the feature is not advertised. */
export const layerNone: Layer.Layer<Credentials> = Layer.succeed(Credentials, none)

export * from "../../services/credentials/Credentials.js"
