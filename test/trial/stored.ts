/** What is stored of the jobs of a cluster, and what must hold of it whatever became of its nodes. */
import { query } from "../testing/Postgres.js"

export interface StoredJob {
  readonly jobId: string
  /** Empty: no node's. */
  readonly node: string
  readonly agent: string
  readonly status: string
  readonly events: number
}

export const storedJobs = async (url: string): Promise<ReadonlyArray<StoredJob>> =>
  (
    await query(
      url,
      `SELECT j.job_id, j.node, j.agent, j.status, count(e.seq)::integer FROM arcp_jobs j
       LEFT JOIN arcp_events e ON e.job = j.id WHERE NOT j.rejected GROUP BY j.id ORDER BY j.id`
    )
  ).map(([jobId, node, agent, status, events]) => ({
    jobId: String(jobId),
    node: String(node),
    agent: String(agent),
    status: String(status),
    events: Number(events)
  }))

/** The node that has been there for longest, which does for all what one is to do. */
export const keeperOf = async (url: string): Promise<string> =>
  String(
    (
      await query(
        url,
        "SELECT name FROM arcp_nodes WHERE expires >= clock_timestamp() ORDER BY started, name LIMIT 1"
      )
    )[0]?.[0]
  )

/** How many jobs that have not ended each node has; those of none under an empty name. */
export const openJobsByNode = async (url: string): Promise<ReadonlyMap<string, number>> =>
  new Map(
    (
      await query(
        url,
        "SELECT node, count(*)::integer FROM arcp_jobs WHERE ended_at IS NULL AND NOT rejected GROUP BY node"
      )
    ).map(([node, count]) => [String(node), Number(count)])
  )

/** An event as those see it who observe its job. */
export interface StoredEvent {
  readonly type: string
  readonly payload: Record<string, unknown>
  /** For some only. */
  readonly isSelective: boolean
}

/** The log of each of these jobs. */
export const storedLogs = async (
  url: string,
  jobIds: ReadonlyArray<string>
): Promise<ReadonlyMap<string, ReadonlyArray<StoredEvent>>> => {
  const logs = new Map<string, Array<StoredEvent>>(jobIds.map((jobId) => [jobId, []]))
  const rows = await query(
    url,
    `SELECT j.job_id, e.type, e.payload, e.audience IS NOT NULL FROM arcp_jobs j JOIN arcp_events e ON e.job = j.id
     WHERE j.job_id = ANY($1) ORDER BY j.id, e.seq`,
    [jobIds]
  )
  for (const [jobId, type, payload, isSelective] of rows)
    logs
      .get(String(jobId))
      ?.push({ type: String(type), payload: JSON.parse(String(payload)), isSelective: isSelective === true })
  return logs
}

/** Every key under which there is more than one job, and whoever wrote the same step's end twice, and every log that is not whole. */
export const breaches = async (url: string): Promise<ReadonlyArray<string>> => {
  const logs = await query(
    url,
    `WITH logs AS (
       SELECT j.job_id, j.ended_at IS NOT NULL AS ended, min(e.seq) AS first, max(e.seq) AS last, count(*) AS count,
         count(*) FILTER (WHERE e.type <> 'job.event') AS ends,
         max(e.seq) FILTER (WHERE e.type <> 'job.event') AS end_at
       FROM arcp_jobs j JOIN arcp_events e ON e.job = j.id WHERE NOT j.rejected GROUP BY j.id)
     SELECT job_id, first::text, last::text, count::text, ends::text FROM logs
     WHERE first <> 1 OR last <> count OR ends <> ended::integer OR end_at <> last`
  )
  const steps = await query(
    url,
    `SELECT j.job_id, e.payload::json #>> '{body,key}', count(*)::text
     FROM arcp_jobs j JOIN arcp_events e ON e.job = j.id
     WHERE e.kind = 'x-vendor.effect-arcp.step' AND e.payload::json #>> '{body,state}' = 'ended'
     GROUP BY 1, 2 HAVING count(*) > 1`
  )
  return [
    ...logs.map((row) => `the log of ${row[0]} is not whole: first, last, count, ends: ${row.slice(1)}`),
    ...steps.map(([jobId, key, count]) => `step ${key} of ${jobId} has ended ${count} times`)
  ]
}
