/** What is left of the budgets of the jobs that are on the screen. */
import { signal } from "@preact/signals"
import * as Effect from "effect/Effect"
import { remaining, spent } from "../model/at.js"
import type { Entry } from "../model/JobTable.js"
import { budgets } from "../model/lease.js"
import { isRecord } from "../model/values.js"
import { client } from "./connection.js"
import { type Followed, known } from "./follow.js"
import { inTurn } from "./turns.js"

/** What is left, by job and currency. */
export const left = signal<ReadonlyMap<string, ReadonlyMap<string, number>>>(new Map())

/** When a job was asked for last, and the event up to which its amounts are true; `undefined`: it is not known. */
const asked = new Map<string, { readonly at: number; readonly seq: number | undefined }>()
/** Jobs whose budgets are kept; milliseconds before a job is asked for again. */
const most = 500
const every = 10_000

/** Jobs that wait to be asked for, once each; of more those that have waited longest are left out, until they are wanted again. */
const waiting = new Map<string, Entry>()
const mostWaiting = 200
let isLooking = false

/** Lets go of what came first. */
const trim = (map: Map<string, unknown>, to: number): void => {
  for (const key of map.keys()) {
    if (map.size <= to) return
    map.delete(key)
  }
}

/** Counters as they go over the wire: by currency, as text or number. */
const counters = (budget: unknown): ReadonlyMap<string, number> =>
  new Map(
    Object.entries(isRecord(budget) ? budget : {})
      .map(([currency, amount]) => [currency, Number(amount)] as const)
      .filter(([, amount]) => Number.isFinite(amount))
  )

/** What is left of a job that is followed: by its counters when that began, and by its events, as far as they have come. */
const rest = ({ model, subscribed }: Followed, { lease }: Entry): ReadonlyMap<string, number> => {
  const counted = counters(subscribed.peek()?.budget)
  const told = remaining(model, model.events.length)
  const cost = spent(model, model.events.length)
  return new Map(
    [...budgets(lease)].map(([currency, amount]) => [
      currency,
      Math.min(
        counted.get(currency) ?? amount,
        told.get(currency) ?? amount,
        amount - (cost.get(currency) ?? 0)
      )
    ])
  )
}

const look = async (entry: Entry): Promise<void> => {
  const { job_id: jobId, last_event_seq: seq } = entry
  const made = client.peek()
  if (made === undefined) return
  const job = known(jobId)
  if (job !== undefined) {
    // How far its events have come is not told before its end: they have other numbers than in the list.
    if (job.subscribed.peek() !== undefined)
      keep(jobId, rest(job, entry), job.model.end === undefined ? undefined : seq)
    return
  }
  const found = await Effect.runPromise(
    Effect.map(made.subscribe(jobId), ({ subscribed }) => subscribed.budget).pipe(
      Effect.option,
      Effect.scoped,
      (look) => inTurn(jobId, look)
    )
  )
  if (found._tag === "Some") keep(jobId, counters(found.value), seq)
}

const keep = (jobId: string, amounts: ReadonlyMap<string, number>, seq: number | undefined): void => {
  const next = new Map(left.peek())
  next.set(jobId, amounts)
  trim(next, most)
  left.value = next
  asked.set(jobId, { at: Date.now(), seq })
}

/** Asks for one after the other. */
const lookAtAll = async (): Promise<void> => {
  if (isLooking) return
  isLooking = true
  for (const [jobId, entry] of waiting) {
    waiting.delete(jobId)
    await look(entry).catch(() => {})
  }
  isLooking = false
}

/** Asks for the budgets of these jobs where there are any and something has happened. */
export const wanted = (entries: ReadonlyArray<Entry>): void => {
  const now = Date.now()
  for (const entry of entries) {
    const { job_id, last_event_seq, lease } = entry
    const before = asked.get(job_id)
    if (budgets(lease).size === 0) continue
    if (waiting.has(job_id)) waiting.set(job_id, entry)
    else if (before?.seq !== last_event_seq && now - (before?.at ?? 0) >= every) {
      asked.delete(job_id)
      asked.set(job_id, { at: now, seq: before?.seq })
      trim(asked, most)
      waiting.set(job_id, entry)
      trim(waiting, mostWaiting)
    }
  }
  void lookAtAll()
}
