/** The runtime: who is connected and how it does, as far as it says so. */
import * as Effect from "effect/Effect"
import { useEffect, useState } from "preact/hooks"
import { quantile, total } from "../model/prometheus.js"
import { bytes, count, counted, duration, line, moment } from "../model/text.js"
import { client, lag } from "../state/connection.js"
import { loading, table, version } from "../state/jobs.js"
import { asksForToken, missing, type Reading, readings, readWith, watch } from "../state/metrics.js"
import * as Nodes from "../state/nodes.js"
import { url } from "../state/places.js"
import { losses, phase } from "../state/presence.js"
import * as Sessions from "../state/sessions.js"
import { useNow } from "./parts.js"
import { Sparkline } from "./Sparkline.js"

/** What is drawn: a value of each reading, or how much of it came in a second. */
interface Drawn {
  readonly label: string
  readonly unit?: string
  readonly show?: (value: number) => string
  readonly of: (now: Reading, before: Reading | undefined) => number | undefined
}

const value =
  (...names: ReadonlyArray<string>): Drawn["of"] =>
  ({ samples }) =>
    names.map((name) => total(samples, name)).find((found) => found !== undefined) ??
    // What has not happened yet has no sample; what this process does not measure is not known.
    (names.some((name) => name.startsWith("arcp_")) ? 0 : undefined)

const rate =
  (...names: ReadonlyArray<string>): Drawn["of"] =>
  (now, before) => {
    if (before === undefined) return undefined
    const a = value(...names)(before, undefined)
    const b = value(...names)(now, undefined)
    return a === undefined || b === undefined
      ? undefined
      : Math.max(0, (b - a) / ((now.at - before.at) / 1_000))
  }

const labelled =
  (name: string, labels: Readonly<Record<string, string>>): Drawn["of"] =>
  ({ samples }) =>
    total(samples, name, labels)

const percent = (part: number | undefined) => (part === undefined ? undefined : part * 100)

const ms = (seconds: number) => duration(seconds * 1_000)

/** The mean of what has come between two readings of a histogram, or a quantile of it. */
const mean =
  (name: string): Drawn["of"] =>
  (now, before) => {
    const sum = rate(`${name}_sum`)(now, before)
    const of = rate(`${name}_count`)(now, before)
    return sum === undefined || of === undefined || of === 0 ? undefined : sum / of
  }
const late =
  (name: string, q: number): Drawn["of"] =>
  (now, before) =>
    before === undefined ? undefined : quantile(now.samples, before.samples, name, q)

const drawings: ReadonlyArray<Drawn> = [
  { label: "Connected sessions", of: labelled("arcp_sessions", { state: "attached" }) },
  { label: "Sessions that are away", of: labelled("arcp_sessions", { state: "detached" }) },
  { label: "Jobs that have not ended", of: value("arcp_jobs") },
  { label: "Jobs accepted", unit: "/s", of: rate("arcp_jobs_accepted_total") },
  { label: "Events", unit: "/s", of: rate("arcp_events_total") },
  { label: "Events sent", unit: "/s", of: rate("arcp_events_sent_total") },
  { label: "Bytes of events", unit: "/s", show: bytes, of: rate("arcp_event_bytes_total") },
  { label: "Delivery lag", unit: "events", of: value("arcp_delivery_lag_events") },
  { label: "Commit, mean", show: ms, of: mean("arcp_commit_duration_seconds") },
  { label: "Commit, 99 of 100 within", show: ms, of: late("arcp_commit_duration_seconds", 0.99) },
  { label: "Waiting to be committed", unit: "items", of: value("arcp_commit_queue_items") },
  { label: "Retained", show: bytes, of: value("arcp_retained_bytes") },
  { label: "Memory", show: bytes, of: value("process_resident_memory_bytes") },
  { label: "Heap", show: bytes, of: value("nodejs_heap_size_used_bytes") },
  {
    label: "CPU",
    unit: "% of a core",
    of: (now, before) => percent(rate("process_cpu_seconds_total")(now, before))
  },
  { label: "Logins refused", of: value("arcp_logins_refused_total") },
  { label: "Denied by leases", of: value("arcp_lease_denials_total") },
  { label: "Resumes", of: value("arcp_resumes_total") }
]

const series = ({ of }: Drawn, all: ReadonlyArray<Reading>): ReadonlyArray<number> =>
  all.map((reading, i) => of(reading, all[i - 1])).filter((found) => found !== undefined)

const MetricsToken = () => {
  const [given, setGiven] = useState("")
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault()
        if (given.trim() !== "") readWith(given.trim())
      }}
    >
      <label for="metrics-token">Token for the metrics</label>
      <input
        id="metrics-token"
        type="password"
        autocomplete="off"
        class="narrow"
        value={given}
        onInput={(event) => setGiven(event.currentTarget.value)}
      />
      <button type="submit">Read</button>
    </form>
  )
}

const Metrics = () => {
  useEffect(watch, [])
  const all = readings.value
  const shown = drawings.map((drawn) => [drawn, series(drawn, all)] as const)
  if (missing.value !== "" && all.length === 0)
    return (
      <>
        <p>{missing.value}</p>
        {asksForToken.value ? <MetricsToken /> : null}
      </>
    )
  if (all.length === 0) return <p class="empty">Reading …</p>
  return (
    <>
      {missing.value === "" ? null : <p class="wrong">{missing.value}</p>}
      <dl class="gauges">
        {shown.map(([{ label, show, unit }, values]) => (
          <Sparkline
            key={label}
            label={label}
            values={values}
            {...(unit === undefined ? {} : { unit })}
            {...(show === undefined ? {} : { show })}
          />
        ))}
      </dl>
    </>
  )
}

/** Rows of sessions that are shown at first. */
const mostRows = 20

const Connected = () => {
  useEffect(Sessions.watch, [])
  const now = useNow(true, 5_000)
  const [rows, setRows] = useState(mostRows)
  const made = client.value
  const known = Sessions.sessions.value
  const own = made === undefined ? "" : Effect.runSync(made.resumeState).sessionId
  if (known === undefined) return <p>{Sessions.missing.value || "Reading …"}</p>
  // Of itself the page knows it better than an answer that was made as it came.
  const isHere = ({ connected, id }: Sessions.Listed) =>
    id === own ? phase.value._tag === "Connected" : connected
  const connected = known.listed.filter(isHere)
  const ordered = [...connected, ...known.listed.filter((session) => !isHere(session))]
  return (
    <>
      {Sessions.missing.value === "" ? null : <p class="wrong">{Sessions.missing.value}</p>}
      <p class="quiet">
        {count(connected.length)} connected, {count(known.total - connected.length)} away: the sessions of
        those whose jobs you may see
        {Nodes.nodes.value.length === 0 ? "" : ", on the node that says this"}.
      </p>
      <table class="jobs sessions" aria-label="who is connected">
        <thead>
          <tr>
            {["Principal", "State", "Opened", "Heard of", "Not acknowledged"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {ordered.slice(0, rows).map(({ id, lag, openedAt, principal, seenAt }, i) => (
            <tr key={id}>
              <th scope="row">
                <strong>
                  <bdi>{line(principal, 80)}</bdi>
                </strong>{" "}
                {id === own ? <span class="quiet">this page</span> : null}
                <span class="id">{line(id, 40)}</span>
              </th>
              <td data-label="State">
                <span class="badge" data-status={i < connected.length ? "success" : "cancelled"}>
                  {i < connected.length ? "connected" : "away"}
                </span>
              </td>
              <td data-label="Opened">{moment(openedAt, now)}</td>
              <td data-label="Heard of">
                {i < connected.length ? "now" : `${duration(Math.max(0, now - seenAt))} ago`}
              </td>
              <td data-label="Not acknowledged">{lag === undefined ? "–" : counted(lag, "event")}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {ordered.length > rows ? (
        <button type="button" class="small" onClick={() => setRows(rows * 3)}>
          show {count(Math.min(rows * 2, ordered.length - rows))} more
        </button>
      ) : null}
    </>
  )
}

/** The nodes of the cluster, where the runtime is one of several. */
const NodesPanel = () => {
  useEffect(Nodes.watch, [])
  const listed = Nodes.nodes.value
  const now = useNow(listed.length > 0, 5_000)
  if (listed.length === 0) return null
  return (
    <section class="panel" aria-labelledby="nodes-title">
      <h2 id="nodes-title">Nodes</h2>
      {Nodes.missing.value === "" ? null : <p class="wrong">{Nodes.missing.value}</p>}
      <table class="jobs sessions" aria-label="nodes">
        <thead>
          <tr>
            {["Node", "State", "Address", "Version", "Up", "Jobs", "Connected"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {listed.map(({ address, isAlive, isSelf, jobs, name, sessions, silentFor, startedAt, version }) => (
            <tr key={name}>
              <th scope="row">
                <strong>
                  <bdi>{line(name, 80)}</bdi>
                </strong>{" "}
                {isSelf ? <span class="quiet">says this</span> : null}
              </th>
              <td data-label="State">
                <span class="badge" data-status={isAlive ? "success" : "error"}>
                  {isAlive ? "alive" : `silent for ${duration(silentFor)}`}
                </span>
              </td>
              <td data-label="Address">
                <bdi>{address === "" ? "–" : line(address, 80)}</bdi>
              </td>
              <td data-label="Version">
                <bdi>{line(version, 40)}</bdi>
              </td>
              <td data-label="Up">{duration(Math.max(0, now - startedAt))}</td>
              <td data-label="Jobs">{count(jobs)}</td>
              <td data-label="Connected">{count(sessions)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  )
}

/** How the connection has fared since the page was loaded. */
const history = (): string => {
  if (losses.value > 0) return `lost ${counted(losses.value, "time")}`
  return phase.value._tag === "Connected" ? "never lost" : "not open so far"
}

const Own = () => {
  const made = client.value
  void version.value
  const agents = made === undefined ? [] : Effect.runSync(made.agents)
  return (
    <>
      <dl class="gauges">
        <Sparkline label="Lag to this page" values={lag.value} show={duration} />
        <div class="gauge">
          <dt>Connection</dt>
          <dd>
            <span class="value">{phase.value._tag === "Connected" ? "open" : "away"}</span>
            <span class="quiet">{history()}</span>
          </dd>
        </div>
        <div class="gauge">
          <dt>Jobs that you may see</dt>
          <dd>
            <span class="value">{count(table.size)}</span>
            <span class="quiet">
              {count(table.active().length)} not ended{loading.value ? ", still reading" : ""}
            </span>
          </dd>
        </div>
      </dl>
      <p class="quiet">
        <code>{url}</code>
      </p>
      <h2>Agents</h2>
      <ul class="agents">
        {agents.map(({ name, versions }) => (
          <li key={name}>
            <bdi>{line(name, 80)}</bdi>{" "}
            <span class="quiet">
              <bdi>{line(versions.join(", "), 200)}</bdi>
            </span>
          </li>
        ))}
      </ul>
    </>
  )
}

export const Runtime = () => (
  <>
    <div class="title">
      <h1>Runtime</h1>
    </div>
    <section class="panel" aria-label="this session">
      <Own />
    </section>
    <section class="panel" aria-labelledby="metrics-title">
      <h2 id="metrics-title">Server</h2>
      <Metrics />
    </section>
    <NodesPanel />
    <section class="panel" aria-labelledby="connected-title">
      <h2 id="connected-title">Who is connected</h2>
      <Connected />
    </section>
  </>
)
