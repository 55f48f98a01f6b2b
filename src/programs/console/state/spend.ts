/** What is left of the budgets of the jobs that are on the screen. */
import { signal } from "@preact/signals"
import * as Effect from "effect/Effect"
import type { Lease } from "../../../protocol/Lease.js"
import { remaining, spent } from "../model/at.js"
import type { JobModel } from "../model/JobModel.js"
import type { Entry } from "../model/JobTable.js"
import { budgets } from "../model/lease.js"
import { isRecord } from "../model/values.js"
import { client } from "./connection.js"
import { known } from "./follow.js"

/** What is left, by job and currency. */
export const left = signal<ReadonlyMap<string, ReadonlyMap<string, number>>>(new Map())

const asked = new Map<string, { readonly at: number; readonly seq: number }>()
/** Jobs whose budgets are kept; milliseconds before a job is asked for again. */
const most = 500
const every = 10_000
let queue = Promise.resolve()

/** Counters as they go over the wire: by currency, as text or number. */
const counters = (budget: unknown): ReadonlyMap<string, number> =>
  new Map(
    Object.entries(isRecord(budget) ? budget : {})
      .map(([currency, amount]) => [currency, Number(amount)] as const)
      .filter(([, amount]) => Number.isFinite(amount))
  )

/** What is left by the events of a job. */
const rest = (model: JobModel, lease: Lease): ReadonlyMap<string, number> => {
  const told = remaining(model, model.events.length)
  const cost = spent(model, model.events.length)
  return new Map(
    [...budgets(lease)].map(([currency, amount]) => [
      currency,
      Math.min(told.get(currency) ?? amount, amount - (cost.get(currency) ?? 0))
    ])
  )
}

const look = async ({ job_id: jobId, lease }: Entry): Promise<void> => {
  const made = client.peek()
  if (made === undefined) return
  const model = known(jobId)
  if (model !== undefined) return keep(jobId, rest(model, lease))
  const found = await Effect.runPromise(
    Effect.scoped(Effect.option(Effect.map(made.subscribe(jobId), ({ subscribed }) => subscribed.budget)))
  )
  if (found._tag === "Some") keep(jobId, counters(found.value))
}

const keep = (jobId: string, amounts: ReadonlyMap<string, number>): void => {
  const next = new Map(left.peek())
  next.set(jobId, amounts)
  for (const key of next.keys()) {
    if (next.size <= most) break
    next.delete(key)
    asked.delete(key)
  }
  left.value = next
}

/** Asks for the budgets of these jobs, one after the other, where there are any and something has happened. */
export const wanted = (entries: ReadonlyArray<Entry>): void => {
  const now = Date.now()
  for (const entry of entries) {
    const { job_id, last_event_seq, lease } = entry
    const before = asked.get(job_id)
    if (budgets(lease).size === 0 || before?.seq === last_event_seq || now - (before?.at ?? 0) < every)
      continue
    asked.set(job_id, { at: now, seq: last_event_seq })
    queue = queue.then(() => look(entry))
  }
}
