/** One job: what it did and when, what it says, what it may, and how it has ended; at any of its events. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { JobStatus } from "../../../protocol/JobStatus.js"
import { extent, latest, tookOf, waiting } from "../model/at.js"
import { isBeingDeleted } from "../model/JobModel.js"
import { isOver, principalOf, tookMs } from "../model/JobTable.js"
import { clock, count, counted, duration, line, moment, refused } from "../model/text.js"
import { announce, announceSeldom } from "../state/announcing.js"
import { cancel, cancelling, notCancelled } from "../state/cancelling.js"
import { client } from "../state/connection.js"
import { entryOf, type Followed, follow, mayPass, verify } from "../state/follow.js"
import { go } from "../state/navigation.js"
import { watching } from "../state/watching.js"
import { Log } from "./Log.js"
import { useOutcome } from "./Outcomes.js"
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

/** Whether there is more of it than has come yet: its end comes after all of its events. */
const isPartOf = (job: Followed, status: JobStatus): boolean =>
  job.model.end === undefined && job.problem.value === undefined && (isOver(status) || job.isBehind.value)

const Head = ({
  isPart,
  job,
  status
}: {
  readonly job: Followed
  readonly status: JobStatus
  readonly isPart: boolean
}) => {
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
  const come = useOutcome()
  const isCancelling = cancelling.value.has(job.jobId)
  return (
    <>
      <div class="title">
        <h1>
          <bdi>{line(agent, 80) || "Job"}</bdi> {isThere ? <Badge status={status} /> : null}
        </h1>
        <div class="row">
          {isOver(status) || !isThere ? null : (
            <button
              type="button"
              class="danger"
              data-settles
              disabled={isCancelling}
              onClick={() => {
                setError(undefined)
                cancel(job.jobId).catch((failure) =>
                  come(() => setError(failure), notCancelled(job.jobId, failure))
                )
              }}
            >
              {isCancelling ? "cancelling …" : "Cancel"}
            </button>
          )}
          {isThere && !isBeingDeleted(job.model) ? (
            <Go to={{ view: "submit", agent, again: job.jobId }} class="button">
              Submit again
            </Go>
          ) : null}
        </div>
      </div>
      <p class="facts">
        <code>{line(job.jobId, 60)}</code> <Copy label="copy id" text={() => job.jobId} />
        {whose === undefined ? null : (
          <span>
            of <bdi>{line(whose, 60)}</bdi>
          </span>
        )}
        {isThere ? (
          <>
            <span>submitted {began === 0 ? "–" : moment(began, now)}</span>
            <span>
              {isOver(status) ? "took" : "for"} {began === 0 ? "–" : duration(took)}
            </span>
            <span>
              {counted(job.model.events.length, "event")}
              {isPart ? " so far" : ""}
            </span>
          </>
        ) : null}
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
  isPart,
  job,
  onChange,
  upTo
}: {
  readonly isPart: boolean
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
        {count(at)} of {count(events)} {isPart ? "so far " : ""}
        {time === undefined ? "" : `· ${clock(time)}`}
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

/** Says that what is shown is a part, and how much of the time of a job that has ended it is. */
const Reading = ({ job, status }: { readonly job: Followed; readonly status: JobStatus }) => {
  const { events, times } = job.model
  const newest = times.at(-1)
  const entry = entryOf(job.jobId)
  const took = entry === undefined ? Number.NaN : tookMs(entry, Date.now())
  return (
    <div class="progress">
      <span>
        <strong>Reading</strong> what it has said: {counted(events.length, "event")}
        {newest === undefined ? "" : `, up to ${clock(newest)}`}.{" "}
        {isOver(status) ? "How it has ended comes after that." : "What is new comes after that."}
      </span>
      {entry === undefined || newest === undefined || !isOver(status) || !(took > 0) ? null : (
        <progress
          max={took}
          value={Math.min(took, Math.max(0, newest - Date.parse(entry.created_at)))}
          aria-label="read of its time"
        />
      )}
    </div>
  )
}

/** Tells those who do not see it that the events of a job are being read, where that takes long, and that they are read. */
const useToldOfReading = (isPart: boolean, problem: unknown) => {
  const isTold = useRef(false)
  useEffect(() => {
    if (!isPart) {
      if (isTold.current && problem === undefined) announce("the events of the job are all read", "reading")
      isTold.current = false
      return
    }
    const timer = setTimeout(() => {
      isTold.current = true
      announce("the events of the job are still being read", "reading")
    }, 2_000)
    return () => clearTimeout(timer)
  }, [isPart])
}

const Body = ({
  isPart,
  job,
  onChange,
  status,
  upTo
}: {
  readonly status: JobStatus
  readonly isPart: boolean
  readonly job: Followed
  readonly upTo: number | undefined
  readonly onChange: (upTo: number | undefined) => void
}) => {
  const at = upTo ?? job.model.events.length
  return (
    <>
      <Questions job={job} isPart={isPart} upTo={at} />
      <Outcome job={job} shown={upTo === undefined} />
      <section class="panel" aria-labelledby="timeline-title">
        <h2 id="timeline-title">Timeline</h2>
        {isPart ? <Reading job={job} status={status} /> : null}
        <Progress job={job} upTo={at} />
        <Scrubber job={job} isPart={isPart} upTo={upTo} onChange={onChange} />
        <Timeline job={job} upTo={upTo} onPick={(index) => onChange(index + 1)} />
      </section>
      <div class="columns">
        <Log
          job={job}
          isPart={isPart}
          upTo={at}
          live={upTo === undefined}
          onPick={(index) => onChange(index + 1)}
        />
        <div class="side">
          <Now job={job} isPart={isPart} upTo={at} />
          <Budget job={job} upTo={at} />
          <LeasePanel job={job} />
          <Artifacts job={job} upTo={at} />
        </div>
      </div>
    </>
  )
}

/** Milliseconds between two questions whether the job that is looked at is still there, and after the end of one that is being deleted. */
const verifiedEvery = 5_000
const goneSoon = [250, 500, 1_000, 2_000]

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
  const isPart = isPartOf(job, status)
  useToldOfReading(isPart, problem)
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
  // Of the deletion of one that has ended nobody tells.
  const mayGo = end !== undefined
  useEffect(() => (mayGo ? watching(() => verify(jobId), verifiedEvery)() : undefined), [jobId, made, mayGo])
  const goes = isBeingDeleted(job.model)
  useEffect(() => {
    if (!goes) return
    const timers = goneSoon.map((ms) => setTimeout(() => void verify(jobId), ms))
    return () => {
      for (const timer of timers) clearTimeout(timer)
    }
  }, [jobId, goes])
  const passes = mayPass(problem)
  useEffect(() => {
    if (passes) announceSeldom("the job cannot be followed at the moment; it is tried again", "following")
  }, [passes])
  const asks = end === undefined && !isPart ? waiting(job.model, job.model.events.length).length : 0
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
      <Head job={job} status={status} isPart={isPart} />
      {problem === undefined ? null : <Failed error={problem} isSaid={passes} />}
      {passes ? <p class="quiet">It is tried again until it can be followed.</p> : null}
      {problem !== undefined && job.model.events.length === 0 ? null : (
        <Body job={job} status={status} isPart={isPart} upTo={upTo} onChange={change} />
      )}
    </>
  )
}
