/** Everything that a job has said, of which only what can be seen is in the page. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks"
import type { JobEvent } from "../../../services/client/ArcpClient.js"
import { isDenied, type Level, levelOf, levels, nameOf, Search, textOf } from "../model/rows.js"
import { clock, count, counted } from "../model/text.js"
import { announce } from "../state/announcing.js"
import type { Followed } from "../state/follow.js"
import { JsonTree } from "./JsonTree.js"
import { Copy, download } from "./parts.js"
import { useShare } from "./sharing.js"

/** Pixels of a line; the style says the same. */
const lineHeight = matchMedia("(min-width: 2400px)").matches ? 32 : 24
/** Lines beyond those that are seen, on either side. */
const spare = 12
/** Events that are searched before the page gets its turn, and the milliseconds after which it does with fewer. */
const share = 20_000
const shareMs = 40
/** Pixels that browsers draw without losing count. */
const mostPixels = 8_000_000

const kinds = [
  "log",
  "thought",
  "tool_call",
  "tool_result",
  "step",
  "status",
  "progress",
  "metric",
  "delegate",
  "artifact_ref",
  "result_chunk",
  "input_request",
  "input_closed"
]

interface Shown {
  readonly text: string
  readonly least: Level
  readonly kind: string
}

const Filters = ({
  onChange,
  shown
}: {
  readonly shown: Shown
  readonly onChange: (shown: Shown) => void
}) => (
  <div class="row" role="search" aria-label="log">
    <input
      type="search"
      placeholder="search"
      aria-label="search the log"
      value={shown.text}
      onInput={(event) => onChange({ ...shown, text: event.currentTarget.value.slice(0, 200) })}
    />
    <select
      aria-label="least level"
      value={shown.least}
      onChange={(event) =>
        onChange({ ...shown, least: levels.find((level) => level === event.currentTarget.value) ?? "trace" })
      }
    >
      {levels.map((level) => (
        <option key={level} value={level}>
          {level === "trace" ? "all levels" : `${level} and up`}
        </option>
      ))}
    </select>
    <select
      aria-label="kind"
      value={shown.kind}
      onChange={(event) => onChange({ ...shown, kind: event.currentTarget.value })}
    >
      <option value="">all kinds</option>
      {kinds.map((kind) => (
        <option key={kind} value={kind}>
          {kind.replace("_", " ")}
        </option>
      ))}
    </select>
  </div>
)

/** Searches in shares, and goes on as events come; changes when more is found. */
const useSearch = (job: Followed, shown: Shown): Search => {
  const { model } = job
  const search = useMemo(
    () =>
      new Search(model.events, {
        text: shown.text,
        least: shown.least,
        kinds: new Set(shown.kind === "" ? [] : [shown.kind])
      }),
    [model, shown]
  )
  const [, again] = useState(0)
  const until = performance.now() + shareMs
  const more = search.look(share, () => performance.now() > until)
  useEffect(() => {
    if (!more) return
    const timer = setTimeout(() => again((n) => n + 1))
    return () => clearTimeout(timer)
  })
  return search
}

/** Says what a search has found, once it has looked at everything that there is. */
const useFound = (search: Search, events: number) => {
  const told = useRef<Search | undefined>(undefined)
  const isDone = !search.isAll && search.seen >= events
  useEffect(() => {
    if (!isDone || told.current === search) return
    told.current = search
    announce(`${count(search.found.length)} ${search.found.length === 1 ? "line" : "lines"} found`, "found")
  })
}

/** What an event says. Of one with very many members that takes a while, and there may be a screen full of them. */
const Said = ({ event }: { readonly event: JobEvent }) => (
  <bdi class="said">{useShare(event, () => textOf(event)) ?? "…"}</bdi>
)

const Detail = ({
  index,
  job,
  onPick
}: {
  readonly job: Followed
  readonly index: number
  readonly onPick: (index: number) => void
}) => {
  const event = job.model.events[index]
  if (event === undefined) return null
  return (
    <div class="detail" role="region" aria-label={`event ${index + 1}`}>
      <div class="row">
        <strong>
          {count(index + 1)} · {nameOf(event)} · {clock(job.model.times[index] ?? Number.NaN)}
        </strong>
        <button type="button" class="small" onClick={() => onPick(index)}>
          state at this event
        </button>
        <Copy label="copy JSON" text={() => JSON.stringify(event, null, 2)} />
      </div>
      <JsonTree label="event" value={event.body} />
    </div>
  )
}

/** Lines from the top that the list is at; a list longer than browsers can draw is scrolled in proportion. */
const useScroll = (lines: number, follows: boolean) => {
  const list = useRef<HTMLDivElement>(null)
  const [top, setTop] = useState(0)
  const [height, setHeight] = useState(400)
  const [sticks, setSticks] = useState(true)
  const full = Math.min(lines * lineHeight, mostPixels)
  const perPixel = full === 0 ? 0 : (lines * lineHeight - height) / Math.max(1, full - height)
  useLayoutEffect(() => {
    const element = list.current
    if (element === null) return
    const observer = new ResizeObserver(() => setHeight(element.clientHeight))
    observer.observe(element)
    return () => observer.disconnect()
  }, [])
  useLayoutEffect(() => {
    if (follows && sticks && list.current !== null) list.current.scrollTop = full
  })
  const onScroll = (event: Event & { readonly currentTarget: HTMLElement }) => {
    const { clientHeight, scrollHeight, scrollTop } = event.currentTarget
    setTop(scrollTop)
    setSticks(scrollTop + clientHeight >= scrollHeight - lineHeight)
  }
  const first = Math.max(0, Math.floor((top * Math.max(1, perPixel)) / lineHeight))
  const show = (row: number) => {
    const element = list.current
    if (element === null) return
    const at = (row * lineHeight) / Math.max(1, perPixel)
    if (at < element.scrollTop) element.scrollTop = at
    else if (at + lineHeight > element.scrollTop + height) element.scrollTop = at + lineHeight - height
  }
  return {
    list,
    full,
    first,
    offset: perPixel > 1 ? top : first * lineHeight,
    seen: Math.ceil(height / lineHeight),
    onScroll,
    show
  }
}

/** How far a key goes. */
const steps = (key: string, seen: number, lines: number): number | undefined =>
  ({ ArrowDown: 1, ArrowUp: -1, PageDown: seen, PageUp: -seen, Home: -lines, End: lines })[key]

export const Log = ({
  isPart,
  job,
  live,
  onPick,
  upTo
}: {
  readonly job: Followed
  /** Whether more has been said than has come yet. */
  readonly isPart: boolean
  readonly upTo: number
  readonly live: boolean
  readonly onPick: (index: number) => void
}) => {
  const [shown, setShown] = useState<Shown>({ text: "", least: "trace", kind: "" })
  const [picked, setPicked] = useState<number | undefined>(undefined)
  const search = useSearch(job, shown)
  useFound(search, job.model.events.length)
  const lines = search.length(upTo)
  const { first, full, list, offset, onScroll, seen, show } = useScroll(
    lines,
    live ? picked === undefined : true
  )
  const from = Math.max(0, first - (offset === first * lineHeight ? spare : 0))
  const visible = Array.from(
    { length: Math.max(0, Math.min(lines - from, seen + spare * 2)) },
    (_, i) => from + i
  )
  const row = picked === undefined ? undefined : search.lineOf(picked)
  const onKeyDown = (event: KeyboardEvent) => {
    const step = steps(event.key, seen, lines)
    if (event.key === "Escape") setPicked(undefined)
    if (event.key === "Enter" && picked !== undefined) onPick(picked)
    if (step === undefined || lines === 0) return
    event.preventDefault()
    const next = Math.min(lines - 1, Math.max(0, (row ?? (step > 0 ? -1 : lines)) + step))
    setPicked(search.at(next))
    show(next)
  }
  const started = offset - (first - from) * lineHeight
  return (
    <section class="panel log" aria-labelledby="log-title">
      <div class="title">
        <h2 id="log-title">Log</h2>
        <span class="quiet">
          {search.isAll ? counted(lines, "event") : `${count(lines)} of ${count(upTo)}`}
          {isPart ? " so far" : ""}
          {search.seen < job.model.events.length ? ", searching" : ""}
        </span>
        <button
          type="button"
          class="small"
          // A file does not say that it is a part.
          disabled={isPart}
          onClick={() =>
            download(
              `${job.jobId}.jsonl`,
              job.model.events.map((event) => `${JSON.stringify(event)}\n`).join(""),
              "application/jsonl"
            )
          }
        >
          download
        </button>
      </div>
      <Filters shown={shown} onChange={setShown} />
      <div
        ref={list}
        class="lines"
        style={{ height: `clamp(8rem, ${Math.min(full, mostPixels) + 2}px, min(60vh, 40rem))` }}
        role="listbox"
        aria-label="events"
        tabIndex={0}
        aria-activedescendant={picked === undefined ? undefined : `event-${picked}`}
        onScroll={onScroll}
        onKeyDown={onKeyDown}
      >
        <div class="runway" style={{ height: `${full}px` }}>
          {visible.map((at, i) => {
            const index = search.at(at)
            const event = job.model.events[index]
            if (event === undefined) return null
            return (
              // biome-ignore lint/a11y/useKeyWithClickEvents: the list has the keys
              <div
                key={index}
                id={`event-${index}`}
                class="line"
                role="option"
                aria-selected={index === picked}
                aria-setsize={lines}
                aria-posinset={at + 1}
                tabIndex={-1}
                data-level={levelOf(event)}
                data-denied={isDenied(event) ? "yes" : undefined}
                style={{ top: `${started + i * lineHeight}px` }}
                onClick={() => setPicked(index === picked ? undefined : index)}
              >
                <span class="time">{clock(job.model.times[index] ?? Number.NaN)}</span>
                <span class="kind">{nameOf(event).replace("_", " ")}</span>
                <Said event={event} />
              </div>
            )
          })}
        </div>
      </div>
      {picked === undefined ? null : <Detail job={job} index={picked} onPick={onPick} />}
    </section>
  )
}
