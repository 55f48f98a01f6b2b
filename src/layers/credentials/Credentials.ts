/**
 * Credentials over a provisioner and a store. What makes a `kill -9` harmless at any point:
 *
 * 1. a record is durable before upstream is asked, and upstream knows the credential by the record's id;
 * 2. it is marked as minted before the credential is returned, so before anybody is shown it;
 * 3. it goes only after upstream has confirmed the revocation, by that id;
 * 4. no value outlives the process: what a start finds recorded is revoked, and a job that goes on is minted new ones.
 *
 * A mint whose answer is lost may take effect later, also after a revocation that found nothing. Such an id is
 * never minted again: the next try has a fresh one, and this one is revoked again and again until it has settled.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ParseError } from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { type BudgetExhausted, InternalError, type InvalidRequest } from "../../protocol/Errors.js"
import * as Cluster from "../../services/cluster/Cluster.js"
import {
  CredentialProvisioner,
  type ProvisionError
} from "../../services/credentials/CredentialProvisioner.js"
import { CredentialStore, type CredentialStoreService } from "../../services/credentials/CredentialStore.js"
import {
  type Credential,
  type CredentialJob,
  Credentials,
  type Input,
  OptionsSchema
} from "../../services/credentials/Credentials.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import { type Fenced, StoreError } from "../../services/store/Store.js"
import {
  exhausted,
  failed,
  jobMoved,
  notHeld,
  notOutstanding,
  storage,
  unprovisioned,
  warned
} from "./failures.js"
import { Holdings } from "./Holdings.js"
import * as Left from "./left.js"
import { type MintError, type MintingDependencies, makeMint } from "./minting.js"
import * as Revoker from "./Revoker.js"

const none: Credentials["Type"] = {
  enabled: false,
  mint: () => Effect.succeed([]),
  held: () => [],
  rotate: () => Effect.fail(notHeld()),
  release: () => Effect.void,
  outstanding: Effect.succeed([]),
  revoke: (credentialId) => Effect.fail(notOutstanding(credentialId))
}

/** The same store, whose defects are failures like its others: there is something to revoke also after one. */
const steady = (store: CredentialStoreService): CredentialStoreService => {
  const typed = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | StoreError> =>
    Effect.catchAllDefect(effect, (defect) =>
      Effect.fail(
        new StoreError({
          message: `it failed unexpectedly (${defect instanceof Error ? defect.name : typeof defect})`,
          // A store that throws does not say that it is away, and who waited for it might do so for ever.
          misuse: true
        })
      )
    )
  return {
    kind: store.kind,
    insert: (record) => typed(Effect.suspend(() => store.insert(record))),
    update: (record) => typed(Effect.suspend(() => store.update(record))),
    remove: (id, node) => typed(Effect.suspend(() => store.remove(id, node))),
    list: typed(store.list),
    shared: store.shared
  }
}

/** What a client is told when there is no new value. */
const told = {
  ProvisionError: (error: ProvisionError) =>
    Effect.fail(error.budgetExhausted === true ? exhausted(error) : unprovisioned(error)),
  StoreError: failed,
  Fenced: (_: Fenced) => jobMoved()
}

type MintOne = ReturnType<typeof makeMint>

const minting =
  ({ holdings, provisioner }: MintingDependencies, mintOne: MintOne) =>
  (job: CredentialJob): Effect.Effect<ReadonlyArray<Credential>, InternalError | BudgetExhausted> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const profiles = provisioner.profiles(job)
        if (profiles.length === 0) return Effect.succeed([])
        if (holdings.of(job.jobId) !== undefined)
          return Effect.dieMessage(`${job.jobId} has its credentials already`)
        const entry = holdings.open(job)
        return restore(
          Effect.forEach(profiles, (profile) =>
            mintOne({ entry, profile, ask: (id) => provisioner.mint({ id, profile, job }) })
          )
        ).pipe(
          Effect.catchTags(told),
          Effect.onError(() => Effect.sync(() => holdings.release(entry)))
        )
      })
    ).pipe(
      Effect.tapErrorTag("InternalError", (error) => warned(error)),
      Effect.annotateLogs({ job: job.jobId }),
      Effect.withSpan("arcp.credentials.mint", { attributes: { "arcp.job_id": job.jobId } })
    )

const rotating =
  ({ holdings, provisioner }: MintingDependencies, mintOne: MintOne) =>
  (
    jobId: string,
    credentialId: string,
    budget?: CredentialJob["budget"]
  ): Effect.Effect<Credential, InternalError | InvalidRequest | BudgetExhausted> =>
    Effect.suspend((): Effect.Effect<Credential, MintError | InvalidRequest> => {
      const entry = holdings.of(jobId)
      if (entry === undefined) return Effect.fail(notHeld())
      return Effect.suspend((): Effect.Effect<Credential, MintError | InvalidRequest> => {
        const old = entry.held.get(credentialId)
        if (old === undefined || entry.released) return Effect.fail(notHeld())
        const { profile, record: previous } = old
        const job = budget === undefined ? entry.job : { ...entry.job, budget }
        const ask = (id: string) => provisioner.rotate({ id, profile, job, previous })
        return mintOne({ entry, credentialId, profile, ask })
      }).pipe(entry.rotating.withPermits(1))
    }).pipe(
      Effect.catchTags(told),
      Effect.withSpan("arcp.credentials.rotate", { attributes: { "arcp.job_id": jobId } })
    )

const revoking =
  (deps: MintingDependencies, revoker: Revoker.Revoker, outstanding: Credentials["Type"]["outstanding"]) =>
  (credentialId: string): Effect.Effect<void, InternalError> =>
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

/**
 * Makes the service over the provisioner and the store in context. Without a durable store it provisions nothing, unless
 * `allowVolatile` is set.
 */
export const make = (input: Input = {}) =>
  Effect.gen(function* () {
    const options = yield* Schema.decode(OptionsSchema)(input)
    const provisioner = yield* CredentialProvisioner
    const store = steady(yield* CredentialStore)
    const ids = yield* IdGenerator
    const clock = yield* Effect.clock
    const cluster = yield* Cluster.here
    if (store.kind !== "durable" && !options.allowVolatile) {
      yield* Effect.logWarning(
        "no credentials are provisioned: that needs a durable store, so that none is forgotten in a crash"
      )
      return none
    }
    const revoker = yield* Revoker.make({ provisioner, store, clock, options })
    const holdings = new Holdings(revoker)
    const node = cluster?.node
    const deps: MintingDependencies = { provisioner, store, ids, clock, options, holdings, node }
    const mintOne = makeMint(deps)
    const left = Left.ours(deps)

    // Nobody waits for this: what a job needs is minted under ids of its own.
    for (const record of yield* left) revoker.pursue(record)
    if (cluster !== undefined) yield* Left.inherit(deps, cluster, revoker)

    const outstanding = Effect.mapError(left, storage)

    return Credentials.of({
      enabled: true,
      mint: minting(deps, mintOne),
      held: (jobId) => Array.from(holdings.of(jobId)?.held.values() ?? [], ({ credential }) => credential),
      rotate: rotating(deps, mintOne),
      release: (jobId) =>
        Effect.sync(() => {
          const entry = holdings.of(jobId)
          if (entry !== undefined) holdings.release(entry)
        }),
      outstanding,
      revoke: revoking(deps, revoker, outstanding)
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
