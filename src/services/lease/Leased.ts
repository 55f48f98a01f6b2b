/**
 * Authority is in the environment: a handler asks for `FileSystem` or `HttpClient` as any Effect program does,
 * and gets one that holds its job to its lease. Each such replacement is a `Leased`; the registry applies them
 * to what the handlers require, once per job.
 */
import type * as Context from "effect/Context"
import type { JobService } from "../jobs/Job.js"
import type { LeaseService } from "./Lease.js"

/** The job that a service is leased to. */
export interface Lessee {
  readonly lease: LeaseService
  readonly job: JobService
}

/** A service that a job gets in a form that holds every use to its lease. */
export interface Leased {
  /** The service it replaces. */
  readonly tag: Context.Tag<never, unknown>
  /** Makes of the open service, as the operator's layers gave it, the one of this job. Cheap: called per job. */
  readonly lease: (open: unknown, lessee: Lessee) => unknown
}

/**
 * Returns a service that is made when something of it is first used: most jobs use few of what they are leased, and a
 * file system is some forty functions.
 */
export const lazily = <S extends object>(make: () => S): S => {
  let made: S | undefined
  const service = () => {
    made ??= make()
    return made
  }
  return new Proxy({} as S, {
    get: (_, key) => Reflect.get(service(), key),
    has: (_, key) => Reflect.has(service(), key),
    ownKeys: () => Reflect.ownKeys(service()),
    getOwnPropertyDescriptor: (_, key) => {
      const found = Reflect.getOwnPropertyDescriptor(service(), key)
      return found === undefined ? undefined : { ...found, configurable: true }
    },
    // As what it stands for: nobody changes a service.
    set: () => false,
    defineProperty: () => false,
    deleteProperty: () => false
  })
}

/** Returns a leased service: `lease` makes the form that a job gets from the service as it is open. */
export const make = <I, S>(tag: Context.Tag<I, S>, lease: (open: S, lessee: Lessee) => S): Leased => ({
  tag: tag as unknown as Context.Tag<never, unknown>,
  lease: lease as (open: unknown, lessee: Lessee) => unknown
})
