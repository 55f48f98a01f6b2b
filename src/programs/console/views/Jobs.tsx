/** The jobs that the runtime has, and what one may do with each. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import { type JobStatus, jobStatuses } from "../../../protocol/JobStatus.js"
import { Tidings } from "../model/announcements.js"
import { type Entry, isOver, letsThrough, principalOf, tookMs } from "../model/JobTable.js"
import { budgets } from "../model/lease.js"
import type { Filters } from "../model/route.js"
import { count, duration, line, moment, money } from "../model/text.js"
import { announce, announceSeldom, announceThen } from "../state/announcing.js"
import { cancel, cancelling, notCancelled } from "../state/cancelling.js"
import { loading, problem, table, version } from "../state/jobs.js"
import { go } from "../state/navigation.js"
import { left, wanted } from "../state/spend.js"
import { useOutcome } from "./Outcomes.js"
import { Badge, Failed, Go, Problem, statusName, useNow } from "./parts.js"
import { useStill } from "./still.js"

/** Rows of a page of the list. */
const page = 50

const apply = (filters: Filters) => go({ view: "jobs", filters })

const toggled = (of: ReadonlyArray<JobStatus>, status: JobStatus) =>
  of.includes(status) ? of.filter((held) => held !== status) : [...of, status]

const Choice = ({
  chosen,
  label,
  names,
  onChange
}: {
  readonly label: string
  readonly names: ReadonlyArray<string>
  readonly chosen: string
  readonly onChange: (name: string) => void
}) => (
  <label>
    {label}
    <select value={chosen} onChange={(event) => onChange(event.currentTarget.value)}>
      <option value="">all</option>
      {[...new Set([...names, ...(chosen === "" ? [] : [chosen])])].map((name) => (
        <option key={name} value={name}>
          {line(name, 60)}
        </option>
      ))}
    </select>
  </label>
)

const FilterBar = ({
  asking,
  counts,
  filters
}: {
  readonly filters: Filters
  readonly counts: ReadonlyMap<JobStatus, number>
  readonly asking: number
}) => {
  const agents = namesOf(({ agent }) => agent.split("@")[0])
  const principals = namesOf(principalOf)
  return (
    <form class="filters" role="search" aria-label="jobs" onSubmit={(event) => event.preventDefault()}>
      <fieldset class="chips">
        <legend class="offscreen">Status</legend>
        {jobStatuses.map((status) => (
          <button
            key={status}
            type="button"
            class="chip"
            data-status={status}
            aria-pressed={filters.status.includes(status)}
            onClick={() => apply({ ...filters, status: toggled(filters.status, status) })}
          >
            {statusName(status)} <span class="count">{count(counts.get(status) ?? 0)}</span>
          </button>
        ))}
        <button
          type="button"
          class="chip"
          aria-pressed={filters.waiting}
          onClick={() => apply({ ...filters, waiting: !filters.waiting })}
        >
          asks for something <span class="count">{count(asking)}</span>
        </button>
      </fieldset>
      <Choice
        label="Agent"
        names={agents}
        chosen={filters.agent}
        onChange={(agent) => apply({ ...filters, agent })}
      />
      {principals.length < 2 && filters.principal === "" ? null : (
        <Choice
          label="Principal"
          names={principals}
          chosen={filters.principal}
          onChange={(principal) => apply({ ...filters, principal })}
        />
      )}
      <label>
        Submitted
        <select
          value={filters.since}
          onChange={(event) => apply({ ...filters, since: event.currentTarget.value })}
        >
          <option value="">any time</option>
          <option value="1h">in the last hour</option>
          <option value="24h">in the last day</option>
          <option value="7d">in the last week</option>
        </select>
      </label>
    </form>
  )
}

/** What there is among the jobs that are known. */
const namesOf = (of: (entry: Entry) => string | undefined): ReadonlyArray<string> => {
  void version.value
  const names = new Set<string>()
  for (const entry of table.entries) {
    const name = of(entry)
    if (name !== undefined) names.add(name)
  }
  return [...names].sort()
}

const Spend = ({ entry }: { readonly entry: Entry }) => {
  const given = budgets(entry.lease)
  if (given.size === 0) return <span class="quiet">–</span>
  const of = left.value.get(entry.job_id)
  return (
    <>
      {[...given].map(([currency, amount]) => {
        const rest = of?.get(currency)
        return (
          <div key={currency} class="spend">
            {rest === undefined ? "…" : money(amount - rest)} of {money(amount)} {line(currency, 12)}
            {rest === undefined ? null : (
              <meter
                min={0}
                max={amount}
                value={Math.max(0, amount - rest)}
                // Little is good, much is not, and all of it or more is bad.
                optimum={0}
                low={amount * 0.8}
                high={amount * 0.999}
                aria-label={`spent of ${currency}`}
              />
            )}
          </div>
        )
      })}
    </>
  )
}

const Row = ({
  entry,
  isGone,
  now,
  onError,
  whose
}: {
  readonly entry: Entry
  /** Whether it is in the list only because that holds still. */
  readonly isGone: boolean
  /** Whether it is said whose job it is. */
  readonly whose: boolean
  readonly now: number
  readonly onError: (jobId: string, error: unknown) => void
}) => {
  const over = isOver(entry.status)
  const asks = entry.waiting_for?.length ?? 0
  const isCancelling = cancelling.value.has(entry.job_id)
  return (
    <tr>
      <td data-label="Status">
        {isGone ? <span class="badge">gone</span> : <Badge status={entry.status} />}
        {asks > 0 ? (
          <Go to={{ view: "job", jobId: entry.job_id, tab: "", event: undefined }} class="asks">
            asks {asks === 1 ? "something" : `${asks} things`}
          </Go>
        ) : null}
      </td>
      <th scope="row" data-label="Job">
        <Go to={{ view: "job", jobId: entry.job_id, tab: "", event: undefined }}>
          <bdi>{line(entry.agent, 80)}</bdi>
          <span class="id">{line(entry.job_id, 40)}</span>
        </Go>
        {entry.parent_job_id === null ? null : <span class="quiet whose">delegated</span>}
        {whose ? (
          <span class="quiet whose">
            of <bdi>{line(principalOf(entry) ?? "somebody", 60)}</bdi>
          </span>
        ) : null}
      </th>
      <td data-label="Submitted">{moment(Date.parse(entry.created_at), now)}</td>
      <td data-label="Took" class="number">
        {duration(tookMs(entry, now))}
      </td>
      <td data-label="Spent">
        <Spend entry={entry} />
      </td>
      <td class="actions">
        {isGone ? null : over ? (
          <Go to={{ view: "submit", agent: entry.agent, again: entry.job_id }} class="button small">
            Submit again
          </Go>
        ) : (
          <button
            type="button"
            class="small"
            data-settles
            disabled={isCancelling}
            onClick={() => cancel(entry.job_id).catch((error) => onError(entry.job_id, error))}
          >
            {isCancelling ? "cancelling …" : "Cancel"}
          </button>
        )}
      </td>
    </tr>
  )
}

/** Milliseconds in which what becomes of the jobs is told once, to those who do not see it. */
const tellEvery = 3_000

/** Tells those who do not see it what becomes of the jobs that the filters let through, and how many these are. */
const useTold = (filters: Filters, shown: number) => {
  const found = useRef(shown)
  found.current = shown
  const isFirst = useRef(true)
  useEffect(() => {
    if (!isFirst.current) announce(`${count(found.current)} ${found.current === 1 ? "job" : "jobs"}`, "found")
    isFirst.current = false
    const tidings = new Tidings()
    // Of a job that ends its status is not the one any more by which it was shown.
    const away = table.watch((entry, before) => {
      if (!loading.value && letsThrough(filters, Date.now(), { ofAnyStatus: true })(entry))
        tidings.take(before?.status, entry.status)
    })
    const timer = setInterval(() => {
      // What comes until it is said is said with it.
      announceThen(() => tidings.told(), "jobs")
    }, tellEvery)
    return () => {
      away()
      clearInterval(timer)
    }
  }, [filters])
}

export const Jobs = ({ filters }: { readonly filters: Filters }) => {
  const [rows, setRows] = useState(page)
  const [error, setError] = useState<unknown>(undefined)
  const come = useOutcome()
  const known = version.value
  const now = useNow(true)
  const minute = Math.floor(now / 60_000)
  const shown = useMemo(() => table.shown(filters, now), [known, filters, minute])
  const counts = useMemo(() => table.counts(filters, now), [known, filters, minute])
  const asking = useMemo(() => table.asking(filters, now), [known, filters, minute])
  const still = useStill(filters, shown)
  const visible = still.rows.slice(0, rows)
  const whose = useMemo(() => namesOf(principalOf).length > 1, [known])
  useEffect(() => wanted(visible), [visible])
  useTold(filters, shown.length)
  const isBehind = problem.value !== ""
  useEffect(() => {
    if (isBehind) announceSeldom(`the list is not up to date: ${problem.peek()}`, "list")
  }, [isBehind])
  return (
    <>
      <div class="title">
        <h1>Jobs</h1>
        <p class="quiet">
          {count(shown.length)} {shown.length === table.size ? "" : `of ${count(table.size)}`}{" "}
          {table.size === 1 ? "job" : "jobs"}{" "}
          {loading.value ? "so far" : table.isCut ? "(the newest of more)" : ""}
        </p>
      </div>
      <FilterBar filters={filters} counts={counts} asking={asking} />
      {problem.value === "" ? null : (
        <Problem isSaid code="" message={`The list is not up to date: ${problem.value}`} />
      )}
      <Failed error={error} doing="cancel" />
      {still.rows.length === 0 ? (
        <p class="empty">
          {loading.value ? "Reading the jobs …" : table.size === 0 ? "No jobs yet." : "No job is like that."}{" "}
          {loading.value ? null : <Go to={{ view: "submit", agent: "", again: "" }}>Submit one</Go>}
        </p>
      ) : (
        <div class="still" {...still.area}>
          {still.news === "" ? null : (
            <div class="news">
              <button type="button" class="small primary" onClick={still.refresh}>
                {still.news}
              </button>
            </div>
          )}
          <table class="jobs" aria-label="jobs">
            <thead>
              <tr>
                {["Status", "Job", "Submitted", "Took", "Spent"].map((name) => (
                  <th key={name} scope="col">
                    {name}
                  </th>
                ))}
                <th scope="col">
                  <span class="offscreen">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {visible.map((entry) => (
                <Row
                  key={entry.job_id}
                  entry={entry}
                  isGone={table.get(entry.job_id) === undefined}
                  now={now}
                  onError={(jobId, failure) => come(() => setError(failure), notCancelled(jobId, failure))}
                  whose={whose}
                />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {still.rows.length > rows ? (
        <button type="button" onClick={() => setRows(rows + page * 2)}>
          Show {count(Math.min(page * 2, still.rows.length - rows))} more
        </button>
      ) : null}
    </>
  )
}
