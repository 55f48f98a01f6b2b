/**
 * What is known of provisioned credentials that may be alive upstream (§9). Never their values: those are in
 * memory only. A record is there before anything is minted and goes when the credential is known to be revoked,
 * so whatever a start finds is what the last process did not revoke. Every store passes
 * `test/layers/credentials/CredentialStore.suite.ts`.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { StoreError } from "../store/Store.js"

/**
 * - `minting`: asked for, no answer yet; it may or may not exist upstream
 * - `active`: exists, and its job runs
 * - `revoking`: no longer wanted; revocation is under way
 * - `failed`: revocation was given up, until the next start or until an operator tries again
 */
export type CredentialState = "minting" | "active" | "revoking" | "failed"

/** What is kept of a credential, so that it can be revoked whatever happens to the process. Never its value. */
export interface CredentialRecord {
  /** `cred_<ulid>`, minted upstream under this name, once; what revocation goes by. */
  readonly id: string
  /** The credential as its job knows it: of a rotated one, the `id` it had first. */
  readonly credentialId: string
  readonly jobId: string
  readonly principal: string
  readonly state: CredentialState
  /** Where it is used; known once it is minted. */
  readonly endpoint?: string | undefined
  /** What upstream calls it. Never something that lets anybody in. */
  readonly reference?: string | undefined
  /** Epoch ms. */
  readonly createdAt: number
  /** Epoch ms of the last change of this record. */
  readonly updatedAt: number
  /**
   * Epoch ms until which a mint whose answer was not seen may still take effect upstream. Until then, having
   * revoked it says nothing. Absent once the answer was seen.
   */
  readonly unsettledUntil?: number | undefined
  /** Failed revocations. */
  readonly attempts: number
  /** Of the last failed revocation; names no secret. */
  readonly lastError?: string | undefined
}

/** Keeps the records of credentials that are not yet revoked. */
export interface CredentialStoreService {
  /** `memory` forgets on exit, and then nobody knows what to revoke. */
  readonly kind: "memory" | "durable"
  /** Adds a record; it is durable when this returns. Fails when there is one with that id. */
  readonly insert: (record: CredentialRecord) => Effect.Effect<void, StoreError>
  /** Replaces the record with that id; does nothing when it is gone. Durable when this returns. */
  readonly update: (record: CredentialRecord) => Effect.Effect<void, StoreError>
  /** Removes a record, if there is one. */
  readonly remove: (id: string) => Effect.Effect<void, StoreError>
  /** All records, oldest first by `(createdAt, id)`. */
  readonly list: Effect.Effect<ReadonlyArray<CredentialRecord>, StoreError>
}

/** Where the records of credentials are kept. */
export class CredentialStore extends Context.Tag("arcp/services/CredentialStore")<
  CredentialStore,
  CredentialStoreService
>() {}
