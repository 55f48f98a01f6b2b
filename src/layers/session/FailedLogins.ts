/**
 * Counts failed logins, each peer's by themselves (§4.1 of the protocol page). The first few refusals of an address are
 * answered at once, the others one per interval; an address that has more of them waiting than it may is crowded until some
 * have been answered. What that means for whom is in Logins.ts.
 */
import * as Duration from "effect/Duration"
import { InternalError } from "../../protocol/Errors.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"

/** How long the answer to a failed login may wait, in milliseconds. */
const longestWait = Duration.toMillis("5 seconds")

/** For how long an address is not looked at when it has failed however often at once, in milliseconds. */
const longestDebt = Duration.toMillis("1 minute")

/** Addresses that are remembered; of more, the one whose last failure is longest ago begins anew. */
const maxAddresses = 1_000

/** The error of a peer whose failed logins wait already. */
export const failedTooOften = new InternalError({
  message: "too many logins from this address have failed; try again later",
  details: { limit: "failed_logins" }
})

/** Counts the failed logins of each address, in a table that is bounded. */
export class FailedLogins {
  /** By address, the one that failed last at the end: when a failure would be answered at once if none were free. */
  private readonly clearAt = new Map<string, number>()
  private readonly interval: number
  private readonly free: number

  /** `elapsed`: milliseconds that only go forward. */
  constructor(
    options: Pick<Options, "failedLoginInterval" | "failedLoginsAtOnce">,
    private readonly elapsed: () => number
  ) {
    this.interval = Duration.toMillis(options.failedLoginInterval)
    this.free = this.interval * options.failedLoginsAtOnce
  }

  private waitOf(address: string): number {
    return Math.max(0, (this.clearAt.get(address) ?? 0) - this.elapsed() - this.free)
  }

  /** Returns whether an address has so many failures waiting that there are to be no more. */
  crowded(address: string): boolean {
    return this.waitOf(address) >= longestWait
  }

  /** Counts a failure; returns the milliseconds after which it is to be answered. */
  failed(address: string): number {
    const now = this.elapsed()
    const next = Math.max(now, this.clearAt.get(address) ?? 0) + this.interval
    const clearAt = Math.min(next, now + this.free + longestDebt)
    this.clearAt.delete(address)
    this.clearAt.set(address, clearAt)
    if (this.clearAt.size > maxAddresses)
      for (const oldest of this.clearAt.keys()) {
        this.clearAt.delete(oldest)
        break
      }
    return Math.min(longestWait, this.waitOf(address))
  }

  /** How many addresses are remembered. */
  get size(): number {
    return this.clearAt.size
  }
}
