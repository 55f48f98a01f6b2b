/**
 * What is known of provisioned credentials that may be alive upstream (§9). Never their values: those are in
 * memory only. A record is there before anything is minted and goes when the credential is known to be revoked,
 * so whatever a start finds is what the last process did not revoke. Every store passes
 * `test/layers/credentials/CredentialStore.suite.ts`.
 *
 * Where several nodes share a store each record is one node's, which alone revokes it, and changes it: the one that minted it, and
 * when that is gone the one that has taken it over.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { Fenced, StoreError } from "../store/Store.js"

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
  /** Where nodes share the store: the one whose it is. Absent where a runtime is alone. */
  readonly node?: string | undefined
  /** The epoch with which that node had the job when it was minted. Kept where nodes share the store. */
  readonly epoch?: number | undefined
}

/** What nodes that share a store do with what others have left. */
export interface SharedCredentials {
  /** The nodes whose records there are. */
  readonly nodes: Effect.Effect<ReadonlyArray<string>, StoreError>
  /**
   * Makes the records of a node that is gone (`from`) those of this one (`to`), and returns them as they are then; those that
   * another has taken first are not among them. Nothing when that node is there after all.
   */
  readonly take: (from: string, to: string) => Effect.Effect<ReadonlyArray<CredentialRecord>, StoreError>
}

/** Keeps the records of credentials that are not yet revoked. */
export interface CredentialStoreService {
  /** `memory` forgets on exit, and then nobody knows what to revoke. */
  readonly kind: "memory" | "durable"
  /**
   * Adds a record; it is durable when this returns. Fails when there is one with that id. `Fenced`: it is to be held, and its
   * job is another node's, or this one's with another epoch.
   */
  readonly insert: (record: CredentialRecord) => Effect.Effect<void, StoreError | Fenced>
  /**
   * Replaces the record with that id; does nothing when it is gone, or another node's by now. Durable when this returns. `Fenced`:
   * it is to be held, and its job is another node's, or this one's with another epoch.
   */
  readonly update: (record: CredentialRecord) => Effect.Effect<void, StoreError | Fenced>
  /** Removes the record with that id, if there is one, and it is this node's; of a runtime that is alone it is left out. */
  readonly remove: (id: string, node?: string) => Effect.Effect<void, StoreError>
  /** All records, oldest first by `(createdAt, id)`. */
  readonly list: Effect.Effect<ReadonlyArray<CredentialRecord>, StoreError>
  /** Of a store that several nodes may share; without it all that is in the store is the runtime's own. */
  readonly shared?: SharedCredentials | undefined
}

/** Where the records of credentials are kept. */
export class CredentialStore extends Context.Tag("arcp/services/CredentialStore")<
  CredentialStore,
  CredentialStoreService
>() {}
