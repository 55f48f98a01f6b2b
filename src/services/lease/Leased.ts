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
export const lazily = <S extends object>(make: () => S): S => new Proxy({} as S, new Lazy(make))

/** A class, so that one of each job's has its function and nothing more. */
class Lazy<S extends object> implements ProxyHandler<S> {
  private made: S | undefined

  constructor(private readonly make: () => S) {}

  private get service(): S {
    this.made ??= this.make()
    return this.made
  }
  get(_: S, key: PropertyKey): unknown {
    return Reflect.get(this.service, key)
  }
  has(_: S, key: PropertyKey): boolean {
    return Reflect.has(this.service, key)
  }
  ownKeys(): Array<string | symbol> {
    return Reflect.ownKeys(this.service)
  }
  getOwnPropertyDescriptor(_: S, key: PropertyKey): PropertyDescriptor | undefined {
    const found = Reflect.getOwnPropertyDescriptor(this.service, key)
    return found === undefined ? undefined : { ...found, configurable: true }
  }
  // As what it stands for: nobody changes a service.
  set(): boolean {
    return false
  }
  defineProperty(): boolean {
    return false
  }
  deleteProperty(): boolean {
    return false
  }
}

/** Returns a leased service: `lease` makes the form that a job gets from the service as it is open. */
export const make = <I, S>(tag: Context.Tag<I, S>, lease: (open: S, lessee: Lessee) => S): Leased => ({
  tag: tag as unknown as Context.Tag<never, unknown>,
  lease: lease as (open: unknown, lessee: Lessee) => unknown
})
