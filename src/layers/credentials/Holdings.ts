/** What the running jobs of this process hold, and what is still wanted of what is recorded. */
import * as Effect from "effect/Effect"
import type { CredentialRecord } from "../../services/credentials/CredentialStore.js"
import type { Credential, CredentialJob } from "../../services/credentials/Credentials.js"
import type { Revoker } from "./Revoker.js"

/** One credential that a running job holds, and the record it is revoked by. */
export interface HeldCredential {
  readonly profile: string
  readonly credential: Credential
  readonly record: CredentialRecord
}

/** A job that has not ended. */
export interface CredentialedJob {
  readonly job: CredentialJob
  /** By credential id. */
  readonly held: Map<string, HeldCredential>
  readonly rotating: Effect.Semaphore
  released: boolean
}

/** The jobs that have not ended, and the records that one of them waits for or holds. */
export class Holdings {
  private readonly jobs = new Map<string, CredentialedJob>()
  /** Ids of records that are being minted, or held by a running job. */
  private readonly wanted = new Set<string>()

  constructor(private readonly revoker: Revoker) {}

  of(jobId: string): CredentialedJob | undefined {
    return this.jobs.get(jobId)
  }

  open(job: CredentialJob): CredentialedJob {
    const opened = { job, held: new Map(), rotating: Effect.unsafeMakeSemaphore(1), released: false }
    this.jobs.set(job.jobId, opened)
    return opened
  }

  isWanted(record: CredentialRecord): boolean {
    return this.wanted.has(record.id)
  }

  want(record: CredentialRecord): void {
    this.wanted.add(record.id)
  }

  /** Nothing was recorded, or made upstream, under this id. */
  unwant(record: CredentialRecord): void {
    this.wanted.delete(record.id)
  }

  /** Has a record revoked in the background. */
  discard(record: CredentialRecord): void {
    this.unwant(record)
    this.revoker.pursue(record)
  }

  /** Has everything revoked that a job holds; what is minted for it from now on is discarded. */
  release(entry: CredentialedJob): void {
    if (entry.released) return
    entry.released = true
    this.jobs.delete(entry.job.jobId)
    for (const { record } of entry.held.values()) this.discard(record)
  }
}
