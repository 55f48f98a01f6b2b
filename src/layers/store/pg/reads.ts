/** What a store in Postgres is asked: the reads of every store over SQL, with names as Postgres can hold them. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { noted } from "../noted.js"
import { type Reads, readsOver } from "../sqlReads.js"
import { toStoreError } from "./failures.js"
import { queries } from "./query.js"
import type { LendPg, PgFailure } from "./statement.js"
import { fromStored } from "./text.js"
import { patiently } from "./writer.js"

const named = Effect.map(
  (counts: ReadonlyMap<string, number>): ReadonlyMap<string, number> =>
    new Map(Array.from(counts, ([principal, count]) => [fromStored(principal), count] as const))
)

/**
 * Returns the reads over connections. `lendPreparing`: those on which what a node asks for each time that it is woken is prepared, since
 * to plan that takes Postgres several times as long as to do it.
 */
export const readsOf = (
  lend: LendPg,
  lendPreparing: LendPg,
  name: string,
  patience: Duration.Duration,
  node?: string | undefined
): Effect.Effect<Reads> => {
  const reading = noted("reading from the store")
  const mapError = Effect.mapError(toStoreError(name))
  const over = (lend: LendPg) =>
    readsOver<PgFailure>(
      name,
      (work) => reading(mapError(patiently(Effect.uninterruptible(lend(work)), patience))),
      queries,
      fromStored
    )
  return Effect.zipWith(over(lend), over(lendPreparing), (reads, { news }) => ({
    ...reads,
    ...(node === undefined ? {} : { aliveAt: Effect.map(reads.lives, (lives) => lives.get(node) ?? 0) }),
    news,
    endedCounts: named(reads.endedCounts),
    waitingCounts: (node) => named(reads.waitingCounts(node)),
    jobNodes: Effect.map(reads.jobNodes, (names) => names.map(fromStored))
  }))
}
