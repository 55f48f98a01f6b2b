/**
 * Provisioned credentials (§9): minted for one job before it is accepted, shown to its submitter only, and revoked
 * however it ends. See `CredentialProvisioner` for who makes them and `CredentialStore` for what is remembered.
 */
import type * as BigDecimal from "effect/BigDecimal"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { BudgetExhausted, InternalError, InvalidRequest } from "../../protocol/Errors.js"
import type { Lease, LeaseConstraints } from "../../protocol/Lease.js"
import { count, duration, positiveDuration, withDefault } from "../runtime/optionSchemas.js"
import type { CredentialRecord } from "./CredentialStore.js"

/** What upstream holds a credential to, in the wire's own shape. */
export interface CredentialConstraints {
  readonly "cost.budget"?: ReadonlyArray<string> | undefined
  readonly "model.use"?: ReadonlyArray<string> | undefined
  /** RFC 3339. */
  readonly expires_at?: string | undefined
}

/** A credential as its job holds it. */
export interface Credential {
  /** `cred_<ulid>`; the same after a rotation. */
  readonly id: string
  readonly scheme: "bearer"
  readonly value: Redacted.Redacted
  /** URL at which it is good. */
  readonly endpoint: string
  /** What it is for, such as `openai`: an API that speaks like theirs. */
  readonly profile?: string | undefined
  readonly constraints?: CredentialConstraints | undefined
}

/** Returns the credential on the wire, value and all: for its submitter's eyes only. */
export const toWire = (credential: Credential) => ({
  id: credential.id,
  scheme: credential.scheme,
  value: Redacted.value(credential.value),
  endpoint: credential.endpoint,
  ...(credential.profile === undefined ? {} : { profile: credential.profile }),
  ...(credential.constraints === undefined ? {} : { constraints: credential.constraints })
})

/** The job that credentials are minted for. */
export interface CredentialJob {
  readonly jobId: string
  readonly principal: string
  /** `name@version` */
  readonly agent: string
  /** The effective lease. */
  readonly lease: Lease
  readonly leaseConstraints: LeaseConstraints
  /** What the job may spend, per currency. */
  readonly budget: ReadonlyMap<string, BigDecimal.BigDecimal>
  /** The epoch with which the runtime has the job; 1 when it is left out. */
  readonly epoch?: number | undefined
}

/** Checks the options of credentials and fills in what is left out. */
export const OptionsSchema = Schema.Struct({
  /** What upstream gets to answer one request. */
  callTimeout: withDefault(positiveDuration, Duration.seconds(15)),
  /** How often a mint is tried in all, each time under a fresh id, and the pause before the second time. */
  mintAttempts: withDefault(count, 3),
  mintRetry: withDefault(positiveDuration, Duration.millis(200)),
  /**
   * Time after its time-out for which a mint without an answer may still take effect upstream. It is
   * revoked again and again until then.
   */
  settle: withDefault(duration, Duration.minutes(2)),
  /** How often a revocation is tried in all before it is given up. */
  revokeAttempts: withDefault(count, 12),
  /** Pause before the second try; doubles, up to the maximum, with jitter. */
  revokeRetry: withDefault(positiveDuration, Duration.millis(500)),
  maxRevokeRetry: withDefault(positiveDuration, Duration.minutes(1)),
  /** Revocations at a time. */
  revokeConcurrency: withDefault(count, 8),
  /** What revocations under way get when the runtime shuts down; the rest is done at the next start. */
  shutdownGrace: withDefault(duration, Duration.seconds(5)),
  /** Mint also with a store that forgets. For tests: a crash then leaves credentials that nobody knows of. */
  allowVolatile: withDefault(Schema.Boolean, false)
})

/** All options with their defaults filled in. */
export type Options = Schema.Schema.Type<typeof OptionsSchema>
/** What a caller gives: any subset. */
export type Input = Schema.Schema.Encoded<typeof OptionsSchema>

/** Mints the credentials of jobs, replaces them, and revokes them when their job ends (§9.8). */
export class Credentials extends Context.Tag("arcp/services/Credentials")<
  Credentials,
  {
    /** Is the feature on: is there a provisioner, and a durable store? */
    readonly enabled: boolean
    /**
     * Mints what the job needs; empty when that is nothing. Each one is recorded durably before it is minted and
     * again before it is returned. All or nothing: on failure or interruption what was minted is revoked. Once for
     * a job.
     */
    readonly mint: (
      job: CredentialJob
    ) => Effect.Effect<ReadonlyArray<Credential>, InternalError | BudgetExhausted>
    /** Returns what a running job holds now; empty when nothing, or when it has ended. */
    readonly held: (jobId: string) => ReadonlyArray<Credential>
    /**
     * Makes a new value for one of a running job's credentials. The old one is revoked in the background as soon as this
     * returns. `budget` is what the job may spend by now; left out, as of its mint. `InvalidRequest`: the job holds no such credential, or has ended. `BudgetExhausted`: the budget upstream
     * allows no other.
     */
    readonly rotate: (
      jobId: string,
      credentialId: string,
      budget?: CredentialJob["budget"] | undefined
    ) => Effect.Effect<Credential, InternalError | InvalidRequest | BudgetExhausted>
    /**
     * Gives up the credentials of a job that has ended, however it did: they are revoked in the background, with
     * retries, and surfaced when that does not help. Returns at once; what it starts outlives the caller.
     */
    readonly release: (jobId: string) => Effect.Effect<void>
    /** Those that no running job holds and that are not known to be revoked, oldest first. For operators. */
    readonly outstanding: Effect.Effect<ReadonlyArray<CredentialRecord>, InternalError>
    /**
     * Tries once, now, to revoke one of `outstanding`, by its `id` or `credentialId`. When it was minted moments ago
     * without an answer it stays outstanding until that has settled.
     */
    readonly revoke: (credentialId: string) => Effect.Effect<void, InternalError>
  }
>() {}
