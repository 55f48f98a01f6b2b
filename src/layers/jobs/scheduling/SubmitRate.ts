/** How often each principal submits, by the options of the runtime: also over the end of the process, by what is stored. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InternalError } from "../../../protocol/Errors.js"
import type { Admission } from "../../../services/jobs/Admission.js"
import { monotonic } from "../../../services/runtime/monotonic.js"
import type { Options } from "../../../services/runtime/RuntimeOptions.js"
import type { JobFilter, StoreService } from "../../../services/store/Store.js"
import { Buckets, tooMany } from "../Admission.js"
import * as Faults from "../Faults.js"

/** Principals that are remembered, at the most. */
const maxPrincipals = 10_000

/** Jobs that are read at once, and pages of them at the most, of what a principal had submitted before a restart. */
const page = 500
const maxPages = 20

/** Returns when a principal has submitted jobs since a time, oldest first (epoch ms). */
const submitted = (
  store: Pick<StoreService, "jobs">,
  principal: string,
  since: number
): Effect.Effect<ReadonlyArray<number>, InternalError> =>
  Effect.gen(function* () {
    const times: Array<number> = []
    let after: JobFilter["after"]
    for (let pages = 0; pages < maxPages; pages++) {
      const found = yield* Faults.storage(
        store.jobs({ principals: [principal], createdAfter: since, after, limit: page })
      )
      for (const { createdAt, parentJobId } of found) if (parentJobId === undefined) times.push(createdAt)
      after = found.at(-1)
      if (found.length < page) break
    }
    return times
  })

/** Returns an admission that asks the given one, and refuses what a principal submits beyond the limit, if there is one. */
export const limiting = (
  admission: Admission["Type"],
  { submitWindow, submitsPerPrincipal }: Pick<Options, "submitWindow" | "submitsPerPrincipal">,
  store: Pick<StoreService, "jobs">,
  clock: Clock.Clock
): Admission["Type"] => {
  if (submitsPerPrincipal === 0) return admission
  const window = Duration.toMillis(submitWindow)
  const buckets = new Buckets(window / submitsPerPrincipal, window, maxPrincipals)
  const now = monotonic(clock)
  const startedAt = now()
  /** Of a principal that this process has not seen: what it has submitted to the one before. */
  const remember = (principal: string): Effect.Effect<void, InternalError> => {
    const at = now()
    if (buckets.knows(principal) || at - startedAt > window) return Effect.void
    const wall = clock.unsafeCurrentTimeMillis()
    return Effect.map(submitted(store, principal, wall - window), (times) => {
      if (!buckets.knows(principal))
        buckets.restore(
          principal,
          times.map((time) => at - (wall - time))
        )
    })
  }
  return {
    check: (identity, submit) =>
      Effect.gen(function* () {
        yield* admission.check(identity, submit)
        if (submit.parentJobId !== undefined) return
        yield* remember(identity.principal)
        const wait = buckets.take(identity.principal, now())
        if (wait > 0) yield* tooMany(wait)
      })
  }
}
