/** What a job did, as bars over time: a lane for each sort of thing, and the lanes of what it has delegated to below. */
import { useMemo, useState } from "preact/hooks"
import { extent, until as pointsUntil } from "../model/at.js"
import type { JobModel, Lane, Mark, Point, Span } from "../model/JobModel.js"
import { isOver } from "../model/JobTable.js"
import { clock, duration, line } from "../model/text.js"
import { type Bar, rowsOf, thinned } from "../model/timeline.js"
import { showing, type Window } from "../model/zoom.js"
import { deepest, type Followed } from "../state/follow.js"
import { Badge, Go, useNow } from "./parts.js"
import { onZoomKey, Ruler, type Zoom, ZoomButtons } from "./Ruler.js"

const lanes: ReadonlyArray<readonly [Lane, string]> = [
  ["step", "Steps"],
  ["tool", "Tools"],
  ["input", "Questions"],
  ["delegate", "Delegated"]
]

const percent = (at: number, [from, to]: Window) =>
  `${Math.min(100, Math.max(0, ((at - from) / (to - from)) * 100))}%`

const words: Readonly<Record<Span["outcome"], string>> = {
  open: "runs",
  ended: "done",
  failed: "failed",
  denied: "denied"
}

const BarOf = ({
  bar,
  first,
  onPick
}: {
  readonly bar: Bar
  readonly first: boolean
  readonly onPick: (index: number) => void
}) => {
  const { span } = bar
  const took =
    span.endedAt === undefined
      ? ""
      : `, ${duration(span.endedAt - span.startedAt)}${span.tries === 1 ? "" : `, ${span.tries} tries`}`
  const label =
    bar.spans === 1
      ? `${line(span.name, 120)}: ${words[bar.outcome]}${took}`
      : `${bar.spans} times, ${line(span.name, 60)} first; ${words[bar.outcome]}`
  return (
    <button
      type="button"
      class="bar"
      data-outcome={bar.outcome}
      tabIndex={first ? 0 : -1}
      aria-label={`${label}, at ${clock(span.startedAt)}`}
      title={label}
      style={{ left: `${bar.left / 10}%`, width: `${(bar.right - bar.left) / 10}%` }}
      onClick={() => onPick(span.from)}
    >
      {bar.right - bar.left > 60 ? <bdi aria-hidden="true">{line(span.name, 80)}</bdi> : null}
    </button>
  )
}

/** Goes from bar to bar with the arrows, so that a lane is one stop of the tab key. */
const onArrow = (event: KeyboardEvent & { readonly currentTarget: HTMLElement }): void => {
  const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0
  if (step === 0) return
  const bars = Array.from(event.currentTarget.querySelectorAll<HTMLElement>(".bar"))
  const next = bars[bars.indexOf(document.activeElement as HTMLElement) + step]
  if (next === undefined) return
  event.preventDefault()
  next.focus()
}

const LaneOf = ({
  name,
  onPick,
  spans,
  until,
  upTo,
  window
}: {
  readonly name: string
  readonly spans: ReadonlyArray<Span>
  readonly window: Window
  /** Time up to which what has not ended goes on. */
  readonly until: number
  readonly upTo: number
  readonly onPick: (index: number) => void
}) => {
  const rows = rowsOf(spans, window, upTo, until)
  if (rows.length === 0) return null
  return (
    <div class="lane" role="group" aria-label={name} onKeyDown={onArrow}>
      <span class="lane-name">{name}</span>
      <div class="lane-rows">
        {rows.map((bars, r) => (
          <div key={r} class="lane-row">
            {bars.map((bar, i) => (
              <BarOf key={bar.span.from} bar={bar} first={r === 0 && i === 0} onPick={onPick} />
            ))}
          </div>
        ))}
      </div>
    </div>
  )
}

const Curve = ({
  model,
  upTo,
  window
}: {
  readonly model: JobModel
  readonly upTo: number
  readonly window: Window
}) => {
  const known = pointsUntil(model.progress, upTo).filter(
    ({ value }) => value.total !== undefined && value.total > 0
  )
  // One more on either side, so that the curve comes from where it was.
  const points = thinned(
    known.filter(
      ({ at }, i) => (known[i + 1]?.at ?? at) >= window[0] && (known[i - 1]?.at ?? at) <= window[1]
    ),
    300
  )
  if (points.length < 2) return null
  const drawn = points
    .map(({ at, value }) => {
      const x = ((at - window[0]) / (window[1] - window[0])) * 1_000
      return `${x.toFixed(1)},${(40 - (value.current / (value.total ?? 1)) * 38).toFixed(1)}`
    })
    .join(" ")
  return (
    <div class="lane">
      <span class="lane-name">Progress</span>
      <svg class="curve" viewBox="0 0 1000 42" preserveAspectRatio="none" aria-hidden="true">
        <polyline points={drawn} />
      </svg>
    </div>
  )
}

const Marks = ({
  marks,
  window
}: {
  readonly marks: ReadonlyArray<Point<Mark>>
  readonly window: Window
}) => (
  <div class="lane marks" role="group" aria-label="connection, gaps and denials">
    <span class="lane-name">Notes</span>
    <ol class="lane-rows">
      {thinned(marks, 100).map(({ at, value }, i) => (
        <li
          key={i}
          data-mark={value.kind}
          style={{ left: percent(at, window) }}
          title={`${clock(at)} ${line(value.text, 300)}`}
        >
          <span class="offscreen">
            {clock(at)} {line(value.text, 300)}
          </span>
        </li>
      ))}
    </ol>
  </div>
)

const legend: Readonly<Record<Mark["kind"], string>> = {
  lost: "connection lost",
  back: "resumed",
  gap: "gap",
  recovered: "recovered",
  denied: "denied"
}

const Lanes = ({
  job,
  onPick,
  until,
  upTo,
  window
}: {
  readonly job: Followed
  readonly until: number
  readonly upTo: number
  readonly window: Window
  readonly onPick: (index: number) => void
}) => {
  const { model } = job
  const byLane = useMemo(
    () => new Map(lanes.map(([lane]) => [lane, model.spans.filter((span) => span.lane === lane)])),
    [model, model.spans.length]
  )
  return (
    <>
      <Curve model={model} upTo={upTo} window={window} />
      {lanes.map(([lane, name]) => (
        <LaneOf
          key={lane}
          name={name}
          spans={byLane.get(lane) ?? []}
          window={window}
          until={until}
          upTo={upTo}
          onPick={onPick}
        />
      ))}
    </>
  )
}

/** Events that had come by a time. */
const countAt = (times: ReadonlyArray<number>, at: number): number => {
  let low = 0
  let high = times.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((times[middle] ?? 0) <= at) low = middle + 1
    else high = middle
  }
  return low
}

const Child = ({
  at,
  depth,
  job,
  window
}: {
  readonly job: Followed
  readonly depth: number
  readonly window: Window
  readonly at: number | undefined
}) => {
  void job.version.value
  const { model } = job
  const upTo = at === undefined ? model.events.length : countAt(model.times, at)
  const from = model.times[0]
  // At that event it had not been delegated yet.
  if (at !== undefined && (from === undefined || from > at)) return null
  const to = model.end === undefined ? window[1] : extent(model)[1]
  return (
    <div
      class="child"
      role="group"
      aria-label={`delegated to ${line(job.subscribed.value?.agent ?? "", 60)}`}
    >
      <div class="lane">
        <span class="lane-name">
          <Go to={{ view: "job", jobId: job.jobId, tab: "", event: undefined }}>
            <bdi>{line(job.subscribed.value?.agent ?? job.jobId, 40)}</bdi>
          </Go>
        </span>
        <div class="lane-rows">
          <div class="lane-row">
            {from === undefined || from > window[1] || to < window[0] ? null : (
              <span
                class="bar whole"
                data-outcome={
                  model.end === undefined ? "open" : model.end.status === "success" ? "ended" : "failed"
                }
                style={{
                  left: percent(from, window),
                  width: `calc(${percent(to, window)} - ${percent(from, window)} + 2px)`
                }}
              >
                <Badge status={model.end?.status ?? "running"} />
              </span>
            )}
          </div>
        </div>
      </div>
      <Lanes job={job} until={at ?? window[1]} upTo={upTo} window={window} onPick={() => {}} />
      <Children job={job} depth={depth} window={window} at={at} />
    </div>
  )
}

const Children = ({
  at,
  depth,
  job,
  window
}: {
  readonly job: Followed
  /** How far it is below the job that is looked at. */
  readonly depth: number
  readonly window: Window
  readonly at: number | undefined
}) => (
  <>
    {(depth < deepest ? job.children.value : []).map(({ job: child }) => (
      <Child key={child.jobId} job={child} depth={depth + 1} window={window} at={at} />
    ))}
    {job.hasMore.value ? (
      <p class="quiet">
        It has delegated to more jobs than are shown here; the list of jobs has all of them.
      </p>
    ) : null}
  </>
)

export const Timeline = ({
  job,
  onPick,
  upTo
}: {
  readonly job: Followed
  readonly upTo: number | undefined
  readonly onPick: (index: number) => void
}) => {
  const { model } = job
  const live = model.end === undefined && !isOver(job.subscribed.value?.current_status ?? "running")
  const now = useNow(live)
  const [zoomed, setZoomed] = useState<Window | undefined>(undefined)
  const from = model.times[0]
  if (from === undefined) return <p class="empty">Nothing has happened yet.</p>
  const [, last] = extent(model)
  const whole: Window = [from, live ? Math.max(now, last) : last]
  const at = upTo === undefined ? undefined : (model.times[upTo - 1] ?? from)
  // The event that one is at is always to be seen.
  const window = zoomed === undefined ? whole : at === undefined ? zoomed : showing(whole, zoomed, at)
  const zoom: Zoom = { whole, shown: window, onChange: setZoomed }
  const marks = model.marks.filter(
    (mark) =>
      (upTo === undefined || mark.index < upTo) &&
      (zoomed === undefined || (mark.at >= window[0] && mark.at <= window[1]))
  )
  const kinds = [...new Set(marks.map(({ value }) => value.kind))]
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys are those of the buttons in it
    <div class="timeline" onKeyDown={(event) => onZoomKey(zoom, event)}>
      <ZoomButtons zoom={zoom} />
      <Ruler zoom={zoom} />
      <div class="lanes">
        <Lanes
          job={job}
          until={at ?? window[1]}
          upTo={upTo ?? model.events.length}
          window={window}
          onPick={onPick}
        />
        <Children job={job} depth={0} window={window} at={at} />
        {marks.length === 0 ? null : <Marks marks={marks} window={window} />}
        {at === undefined ? null : (
          <div class="cursor" aria-hidden="true">
            <span style={{ left: percent(at, window) }} />
          </div>
        )}
      </div>
      {kinds.length === 0 ? null : (
        <p class="legend quiet">
          {kinds.map((kind) => (
            <span key={kind} data-mark={kind}>
              {legend[kind]}
            </span>
          ))}
        </p>
      )}
    </div>
  )
}
