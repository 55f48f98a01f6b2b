/** One job: what it did and when, what it says, what it may, and how it has ended; at any of its events. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { JobStatus } from "../../../protocol/JobStatus.js"
import { extent, latest, tookOf, waiting } from "../model/at.js"
import { isOver, principalOf, tookMs } from "../model/JobTable.js"
import { clock, count, counted, duration, line, moment, refused } from "../model/text.js"
import { announce, announceSeldom } from "../state/announcing.js"
import { cancelJob, client } from "../state/connection.js"
import { entryOf, type Followed, follow, mayPass } from "../state/follow.js"
import { lookAgain } from "../state/jobs.js"
import { go } from "../state/navigation.js"
import { Log } from "./Log.js"
import { Budget, LeasePanel, Now } from "./panels.js"
import { Badge, Copy, Failed, Go, statusName, useNow } from "./parts.js"
import { Questions } from "./Questions.js"
import { Artifacts, Outcome } from "./Result.js"
import { Timeline } from "./Timeline.js"

/** The status as far as it is known: from the events, else from the list or the answer to the subscription. */
const statusOf = (job: Followed): JobStatus => {
  if (job.model.end !== undefined) return job.model.end.status
  const listed = entryOf(job.jobId)?.status ?? job.subscribed.value?.current_status ?? "pending"
  return isOver(listed) || job.model.events.length === 0 ? listed : "running"
}

const Head = ({ job, status }: { readonly job: Followed; readonly status: JobStatus }) => {
  const [error, setError] = useState<unknown>(undefined)
  const entry = entryOf(job.jobId)
  const agent = job.subscribed.value?.agent ?? entry?.agent ?? ""
  const parent = job.subscribed.value?.parent_job_id ?? undefined
  const whose = entry === undefined ? undefined : principalOf(entry)
  // Of one that there is not, nothing is known and nothing can be done.
  const isThere = entry !== undefined || job.subscribed.value !== undefined || job.problem.value === undefined
  const now = useNow(!isOver(status))
  const began = entry === undefined ? extent(job.model)[0] : Date.parse(entry.created_at)
  const listed = entry === undefined ? Number.NaN : tookMs(entry, now)
  // Its end is that of the job itself, else of the list, else the last that it has said; until it is read it may not be known.
  const took = !isOver(status)
    ? now - began
    : job.model.endedAt === undefined && !Number.isNaN(listed)
      ? listed
      : (tookOf(job.model, began) ?? Number.NaN)
  const cancel = () => {
    setError(undefined)
    cancelJob(job.jobId).then(() => {
      announce("the job is being cancelled", "status")
      lookAgain()
    }, setError)
  }
  return (
    <>
      <div class="title">
        <h1>
          <bdi>{line(agent, 80) || "Job"}</bdi> {isThere ? <Badge status={status} /> : null}
        </h1>
        <div class="row">
          {isOver(status) || !isThere ? null : (
            <button type="button" class="danger" onClick={cancel}>
              Cancel
            </button>
          )}
          <Go to={{ view: "submit", agent, again: job.jobId }} class="button">
            Submit again
          </Go>
        </div>
      </div>
      <p class="facts">
        <code>{line(job.jobId, 60)}</code> <Copy label="copy id" text={() => job.jobId} />
        {whose === undefined ? null : (
          <span>
            of <bdi>{line(whose, 60)}</bdi>
          </span>
        )}
        <span>submitted {began === 0 ? "–" : moment(began, now)}</span>
        <span>
          {isOver(status) ? "took" : "for"} {began === 0 ? "–" : duration(took)}
        </span>
        <span>{counted(job.model.events.length, "event")}</span>
        {parent === undefined ? null : (
          <Go to={{ view: "job", jobId: parent, tab: "", event: undefined }}>its parent</Go>
        )}
      </p>
      <Failed error={error} doing="cancel" />
    </>
  )
}

/** Goes through the events of a job; at the end it follows what comes. */
const Scrubber = ({
  job,
  onChange,
  upTo
}: {
  readonly job: Followed
  readonly upTo: number | undefined
  readonly onChange: (upTo: number | undefined) => void
}) => {
  const events = job.model.events.length
  const at = upTo ?? events
  const playing = useRef<ReturnType<typeof setInterval> | undefined>(undefined)
  const [plays, setPlays] = useState(false)
  const stop = () => {
    clearInterval(playing.current)
    setPlays(false)
  }
  useEffect(() => stop, [])
  const play = () => {
    let next = at >= events ? 0 : at
    const step = Math.max(1, Math.ceil(events / 300))
    setPlays(true)
    playing.current = setInterval(() => {
      next += step
      if (next >= job.model.events.length) {
        stop()
        onChange(undefined)
      } else onChange(next)
    }, 50)
  }
  const time = job.model.times[at - 1]
  return (
    <div class="scrubber" role="group" aria-label="state at an event">
      <button type="button" class="small" disabled={events === 0} onClick={() => (plays ? stop() : play())}>
        {plays ? "⏸ stop" : "▶ play"}
      </button>
      <button
        type="button"
        class="small"
        aria-label="one event back"
        disabled={at <= 1}
        onClick={() => onChange(Math.max(1, at - 1))}
      >
        ◀
      </button>
      <input
        type="range"
        min={Math.min(1, events)}
        max={events}
        value={at}
        aria-label="event"
        aria-valuetext={`event ${at} of ${events}${time === undefined ? "" : `, ${clock(time)}`}`}
        onInput={(event) => {
          const value = Number(event.currentTarget.value)
          onChange(value >= events ? undefined : value)
        }}
      />
      <button
        type="button"
        class="small"
        aria-label="one event on"
        disabled={at >= events}
        onClick={() => onChange(at + 1 >= events ? undefined : at + 1)}
      >
        ▶
      </button>
      <span class="where">
        {count(at)} of {count(events)} {time === undefined ? "" : `· ${clock(time)}`}
      </span>
      {upTo === undefined ? (
        <button
          type="button"
          class="small"
          disabled={events === 0 || job.model.end !== undefined}
          onClick={() => onChange(events)}
        >
          pause
        </button>
      ) : (
        <button type="button" class="small primary" onClick={() => onChange(undefined)}>
          {job.model.end === undefined ? "go live" : "to the end"}
        </button>
      )}
    </div>
  )
}

const Progress = ({ job, upTo }: { readonly job: Followed; readonly upTo: number }) => {
  const progress = latest(job.model.progress, upTo)?.value
  const phase = latest(job.model.phases, upTo)?.value
  // What every job says as it begins says nothing of one that has ended.
  const isSaid = phase?.phase !== "running" || phase.message !== undefined
  return (
    <div class="progress">
      {phase === undefined || !isSaid ? null : (
        <span>
          <strong>
            <bdi>{line(phase.phase, 80)}</bdi>
          </strong>{" "}
          {phase.message === undefined ? null : <bdi>{line(phase.message, 200)}</bdi>}
        </span>
      )}
      {progress === undefined ? null : (
        <>
          <progress
            max={progress.total ?? 1}
            value={progress.total === undefined ? undefined : progress.current}
            aria-label="progress"
          />
          <span class="quiet">
            {count(progress.current)}
            {progress.total === undefined ? "" : ` of ${count(progress.total)}`}{" "}
            <bdi>{line(progress.units ?? "", 40)}</bdi> <bdi>{line(progress.message ?? "", 120)}</bdi>
          </span>
        </>
      )}
    </div>
  )
}

const Body = ({
  job,
  onChange,
  upTo
}: {
  readonly job: Followed
  readonly upTo: number | undefined
  readonly onChange: (upTo: number | undefined) => void
}) => {
  const at = upTo ?? job.model.events.length
  return (
    <>
      <Questions job={job} upTo={at} />
      <Outcome job={job} shown={upTo === undefined} />
      <section class="panel" aria-labelledby="timeline-title">
        <h2 id="timeline-title">Timeline</h2>
        <Progress job={job} upTo={at} />
        <Scrubber job={job} upTo={upTo} onChange={onChange} />
        <Timeline job={job} upTo={upTo} onPick={(index) => onChange(index + 1)} />
      </section>
      <div class="columns">
        <Log job={job} upTo={at} live={upTo === undefined} onPick={(index) => onChange(index + 1)} />
        <div class="side">
          <Now job={job} upTo={at} />
          <Budget job={job} upTo={at} />
          <LeasePanel job={job} />
          <Artifacts job={job} upTo={at} />
        </div>
      </div>
    </>
  )
}

export const JobView = ({
  event,
  jobId,
  tab
}: {
  readonly jobId: string
  readonly tab: string
  readonly event: number | undefined
}) => {
  const made = client.value
  const job = useMemo(() => follow(jobId), [jobId, made])
  void job.version.value
  const status = statusOf(job)
  const problem = job.problem.value
  // Whoever does not see it change hears of it, and how it has ended once that is known.
  const before = useRef<JobStatus | undefined>(undefined)
  const { end } = job.model
  const why =
    end === undefined || end.status === "success"
      ? undefined
      : `${line(end.message, 300)}${refused(end.details)}`
  const isKnown = !isOver(status) || end !== undefined
  useEffect(() => {
    if (!isKnown) return
    if (why !== undefined) announce(`the job is ${statusName(status)}: ${why}`, "status")
    else if (before.current !== undefined && before.current !== status)
      announce(`the job is ${statusName(status)}`, "status")
    before.current = status
  }, [status, isKnown, why])
  const passes = mayPass(problem)
  useEffect(() => {
    if (passes) announceSeldom("the job cannot be followed at the moment; it is tried again", "following")
  }, [passes])
  const asks = end === undefined ? waiting(job.model, job.model.events.length).length : 0
  useEffect(() => {
    if (asks > 0) announce(asks === 1 ? "the job asks something" : `the job asks ${asks} things`, "asks")
  }, [asks])
  const upTo =
    event === undefined || (event >= job.model.events.length && job.model.end !== undefined)
      ? undefined
      : Math.min(event, job.model.events.length)
  const change = (next: number | undefined) => go({ view: "job", jobId, tab, event: next }, "replace")
  return (
    <>
      <Head job={job} status={status} />
      {problem === undefined ? null : <Failed error={problem} isSaid={passes} />}
      {passes ? <p class="quiet">It is tried again until it can be followed.</p> : null}
      {problem !== undefined && job.model.events.length === 0 ? null : (
        <Body job={job} upTo={upTo} onChange={change} />
      )}
    </>
  )
}
