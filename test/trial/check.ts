/** Holds what all clients saw and were told against each other, and against what is stored. */
import { exact, text } from "../e2e/support/Decimal.js"
import { query } from "../testing/Postgres.js"
import type { Submitted, Told } from "./Load.js"
import { breaches, type StoredEvent, storedLogs } from "./stored.js"
import { type Observation, type TrialClient, textOf } from "./TrialClient.js"

type Logs = ReadonlyMap<string, ReadonlyArray<StoredEvent>>

/** What a session may be told of a job beyond what all are. */
const isOfOneSession = ({ isSelective, payload }: Pick<StoredEvent, "isSelective" | "payload">): boolean =>
  isSelective || (payload["body"] as { readonly phase?: string } | undefined)?.phase === "back_pressure"

const shared = (log: ReadonlyArray<StoredEvent>): ReadonlyArray<string> =>
  log.filter((event) => !isOfOneSession(event)).map(({ payload, type }) => textOf(type, payload))

/** What somebody saw of a job: all of its log, or, of one that came later, what follows some place in it, to the end. */
const observationBreach = (
  { isWhole, jobId, seen: all }: Observation,
  log: ReadonlyArray<string>,
  selective: ReadonlySet<string>
): string | undefined => {
  const seen = all.filter((text) => !selective.has(text))
  const from = isWhole ? 0 : log.length - seen.length
  const at = seen.findIndex((text, i) => text !== log[from + i])
  if (from >= 0 && at < 0 && seen.length === log.length - from) return undefined
  return `${jobId}: saw ${seen.length} of ${log.length}${isWhole ? "" : " (from the middle)"}; differs at ${at}: ${seen[at]?.slice(0, 300)} is stored as ${log[from + at]?.slice(0, 300)}`
}

const observationBreaches = (clients: ReadonlyArray<TrialClient>, logs: Logs): ReadonlyArray<string> =>
  clients.flatMap((client) =>
    client.observed.flatMap((observation) => {
      // Of one that it was not shown to the end (its session is over) it was shown the beginning.
      if (!observation.hasEnded || !observation.isAnnounced) return []
      const log = logs.get(observation.jobId) ?? []
      const selective = new Set(log.filter(isOfOneSession).map(({ payload, type }) => textOf(type, payload)))
      const breach = observationBreach(observation, shared(log), selective)
      return breach === undefined ? [] : [`${client.name}: ${breach}`]
    })
  )

const endOf = (log: ReadonlyArray<StoredEvent> | undefined): StoredEvent | undefined =>
  log?.find(({ type }) => type !== "job.event")

/** Each job has ended as one of its kind may. */
const endBreach = (
  { agent, jobId, result }: Submitted,
  log: ReadonlyArray<StoredEvent> | undefined,
  { asked, cancelled }: Told,
  skewMs: number
): string | undefined => {
  if (jobId === undefined) return undefined
  const end = endOf(log)
  if (end === undefined) return `${jobId} (${agent}) has no end`
  const { code, completed_at, details, final_status } = end.payload
  const reason = (details as { readonly reason?: string } | undefined)?.reason
  const cancelledAt = cancelled.get(jobId)
  if (cancelledAt !== undefined) {
    // What had ended before is answered as if it had been cancelled.
    const hadEnded = Date.parse(String(completed_at)) <= cancelledAt + skewMs
    if (final_status === "cancelled" || hadEnded) return undefined
    return `${jobId} (${agent}) was cancelled, and ended in ${final_status} ${code ?? ""}`
  }
  if (final_status === "success")
    return end.payload["result"] === result
      ? undefined
      : `${jobId} (${agent}) gave ${end.payload["result"]} and not ${result}`
  if (agent === "speak" && reason === "runtime_restart") return undefined
  // A cancel whose answer was lost.
  if (final_status === "cancelled" && asked.has(jobId)) return undefined
  return `${jobId} (${agent}) ended in ${code} ${reason ?? ""}: ${end.payload["message"]}`
}

/** Each key has one job, and all who gave it were told of that. */
const keyBreaches = async (url: string, { submitted }: Told): Promise<ReadonlyArray<string>> => {
  const found: Array<string> = []
  const jobOf = new Map<string, string>()
  for (const { jobId, key } of submitted) {
    if (jobId === undefined || key === undefined) continue
    const before = jobOf.get(key)
    if (before !== undefined && before !== jobId) found.push(`${key}: ${before} and ${jobId}`)
    jobOf.set(key, jobId)
  }
  const doubled = await query(
    url,
    `SELECT idempotency_key, count(*)::text FROM arcp_jobs WHERE idempotency_key IS NOT NULL AND NOT rejected
     GROUP BY 1 HAVING count(*) > 1`
  )
  return [...found, ...doubled.map(([key, count]) => `${key}: ${count} jobs`)]
}

const costOf = (log: ReadonlyArray<StoredEvent>): bigint =>
  log.reduce((sum, { payload }) => {
    const body = payload["body"] as { readonly name?: string; readonly value?: unknown } | undefined
    const isCost = payload["kind"] === "metric" && body?.name?.startsWith("cost.") === true
    return isCost && body?.name !== "cost.budget.remaining" ? sum + exact(body?.value) : sum
  }, 0n)

/** What each tree has left is what it was given less what its logs say was spent. */
const budgetBreaches = async (
  url: string,
  { submitted }: Told,
  budgets: ReadonlyMap<string, unknown>
): Promise<ReadonlyArray<string>> => {
  const found: Array<string> = []
  for (const { budget, jobId } of submitted) {
    if (budget === undefined || jobId === undefined) continue
    const family = await query(
      url,
      "SELECT job_id, status, record::json ->> 'budget' FROM arcp_jobs WHERE job_id = $1 OR parent_job_id = $1",
      [jobId]
    )
    const logs = await storedLogs(
      url,
      family.map(([id]) => String(id))
    )
    const spent = [...logs.values()].reduce((sum, log) => sum + costOf(log), 0n)
    const left = exact(budget.replace("USD:", "")) - spent
    const shown = (budgets.get(jobId) as Record<string, unknown> | undefined)?.["USD"]
    if (shown !== undefined && exact(shown) === left) continue
    const parts = family.map(
      ([id, , stored]) => `${id} ${text(costOf(logs.get(String(id)) ?? []))} spent, ${stored} stored`
    )
    found.push(
      `${jobId}: ${text(left)} of the budget is left by its logs, and ${shown} is told: ${parts.join("; ")}`
    )
  }
  return found
}

export interface Checked {
  readonly url: string
  readonly clients: ReadonlyArray<TrialClient>
  readonly told: Told
  /** What clocks of nodes were off by at most. */
  readonly skewMs: number
  /** What a subscription to each job says of its budget. */
  readonly budgets: ReadonlyMap<string, unknown>
}

/** Returns all that is wrong. Every job is to have ended. */
export const check = async ({
  budgets,
  clients,
  skewMs,
  told,
  url
}: Checked): Promise<ReadonlyArray<string>> => {
  const observed = clients.flatMap(({ observed }) => observed.map(({ jobId }) => jobId))
  const ids = new Set([...observed, ...told.submitted.flatMap(({ jobId }) => jobId ?? [])])
  const logs = await storedLogs(url, [...ids])
  return [
    ...clients.flatMap((client) => client.violations.splice(0).map((breach) => `${client.name}: ${breach}`)),
    ...observationBreaches(clients, logs),
    ...told.submitted.flatMap(
      (submitted) => endBreach(submitted, logs.get(submitted.jobId ?? ""), told, skewMs) ?? []
    ),
    ...(await keyBreaches(url, told)),
    ...(await budgetBreaches(url, told, budgets)),
    ...(await breaches(url))
  ]
}
