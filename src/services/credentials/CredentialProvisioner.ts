/**
 * Who makes and unmakes credentials upstream: an API gateway, a vault, a cloud. Narrow on purpose: when to mint
 * and revoke, what to record, time-outs and retries are the business of `Credentials`.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { CredentialRecord } from "./CredentialStore.js"
import type { CredentialConstraints, CredentialJob } from "./Credentials.js"

/** The upstream did not mint or revoke a credential. Its message is for the operator. */
export class ProvisionError extends Schema.TaggedError<ProvisionError>()("ProvisionError", {
  /** For operators and submitters, at most 512 characters. Names no secret, and quotes nothing upstream said. */
  message: Schema.String,
  /** May the same succeed later without anybody doing something about it? */
  retryable: Schema.Boolean,
  /**
   * Of a mint: upstream made nothing, for certain. Without it the credential may exist, now or in a moment, and
   * is revoked.
   */
  nothingMade: Schema.optional(Schema.Boolean),
  /** Upstream refuses because a spend cap is reached. */
  budgetExhausted: Schema.optional(Schema.Boolean)
}) {}

/** What is asked of the upstream: one credential for one job. */
export interface MintRequest {
  /** Fresh. Upstream must know the credential by it, so that it can be revoked when no answer arrives. */
  readonly id: string
  /** Which one of `profiles`. */
  readonly profile: string
  readonly job: CredentialJob
}

/** A credential as the upstream made it. */
export interface Minted {
  readonly value: Redacted.Redacted
  /** URL at which it is good. */
  readonly endpoint: string
  /** What upstream holds it to. */
  readonly constraints?: CredentialConstraints | undefined
  /** What upstream calls it, when that is not secret; stored. */
  readonly reference?: string | undefined
}

/** Mints credentials upstream and revokes them. */
export interface CredentialProvisionerService {
  /** What error messages call it. */
  readonly name: string
  /**
   * Returns the profiles of the credentials this job needs, one each; empty when none. A profile tells a client what it
   * is for.
   */
  readonly profiles: (job: CredentialJob) => ReadonlyArray<string>
  /** Makes a credential, once at most for an `id`. May be interrupted. Grants no more than the job's lease does. */
  readonly mint: (request: MintRequest) => Effect.Effect<Minted, ProvisionError>
  /**
   * Mints what replaces `previous` of the same job and profile, with what is left of its limits. Leaves `previous`
   * alone: it is revoked when the new one is recorded.
   */
  readonly rotate: (
    request: MintRequest & { readonly previous: CredentialRecord }
  ) => Effect.Effect<Minted, ProvisionError>
  /** Succeeds when upstream no longer has it, or never had. May be called any number of times. */
  readonly revoke: (record: CredentialRecord) => Effect.Effect<void, ProvisionError>
}

/** The upstream that credentials of jobs come from (§9.8). */
export class CredentialProvisioner extends Context.Tag("arcp/services/CredentialProvisioner")<
  CredentialProvisioner,
  CredentialProvisionerService
>() {}
