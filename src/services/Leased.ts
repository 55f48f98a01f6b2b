/**
 * Authority is in the environment: a handler asks for `FileSystem` or `HttpClient` as any Effect program does,
 * and gets one that holds its job to its lease. Each such replacement is a `Leased`; the registry applies them
 * to what the handlers require, once per job.
 */
import type * as Context from "effect/Context"
import type { JobService } from "./Job.js"
import type { LeaseService } from "./Lease.js"

/** The job that a service is leased to. */
export interface Lessee {
  readonly lease: LeaseService
  readonly job: JobService
}

export interface Leased {
  /** The service it replaces. */
  readonly tag: Context.Tag<never, unknown>
  /** From the open service, as the operator's layers gave it, to the one of this job. Cheap: called per job. */
  readonly lease: (open: unknown, lessee: Lessee) => unknown
}

export const make = <I, S>(tag: Context.Tag<I, S>, lease: (open: S, lessee: Lessee) => S): Leased => ({
  tag: tag as unknown as Context.Tag<never, unknown>,
  lease: lease as (open: unknown, lessee: Lessee) => unknown
})
