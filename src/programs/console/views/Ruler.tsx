/** What of the time of a job is shown: by buttons, by keys, by the wheel, and by drawing over the part that matters. */
import { useRef, useState } from "preact/hooks"
import { duration } from "../model/text.js"
import { between, moved, tick, type Window, zoomed } from "../model/zoom.js"
import { announce } from "../state/announcing.js"

export interface Zoom {
  readonly whole: Window
  readonly shown: Window
  /** `undefined`: everything. */
  readonly onChange: (shown: Window | undefined) => void
}

const middle = ([from, to]: Window) => (from + to) / 2

/** Zooms, and says so to those who do not see it. */
const change = ({ onChange, whole }: Zoom, to: Window | undefined): void => {
  onChange(to)
  announce(
    to === undefined
      ? "the whole time is shown"
      : `${duration(to[1] - to[0])} are shown, from ${duration(to[0] - whole[0])} on`,
    "zoom"
  )
}

const steps: Readonly<Record<string, (zoom: Zoom) => Window | undefined>> = {
  "+": ({ shown, whole }) => zoomed(whole, shown, 2, middle(shown)),
  "-": ({ shown, whole }) => zoomed(whole, shown, 0.5, middle(shown)),
  "0": () => undefined,
  "<": ({ shown, whole }) => moved(whole, shown, -0.5),
  ">": ({ shown, whole }) => moved(whole, shown, 0.5)
}

/** Does what a key stands for; tells whether it stands for something. */
export const onZoomKey = (zoom: Zoom, event: KeyboardEvent): void => {
  const step = steps[event.key === "=" ? "+" : event.key]
  if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return
  event.preventDefault()
  change(zoom, step(zoom))
}

export const ZoomButtons = ({ zoom }: { readonly zoom: Zoom }) => {
  const isWhole = zoom.shown[0] === zoom.whole[0] && zoom.shown[1] === zoom.whole[1]
  const button = (key: string, label: string, sign: string, disabled: boolean) => (
    <button
      type="button"
      class="small"
      aria-label={label}
      title={`${label} (${key})`}
      aria-keyshortcuts={key}
      // Not disabled, which would take the focus from whoever presses it until nothing is left.
      aria-disabled={disabled}
      onClick={() => {
        if (!disabled) change(zoom, steps[key]?.(zoom))
      }}
    >
      {sign}
    </button>
  )
  return (
    <div class="row zoom" role="group" aria-label="time that is shown">
      {button("-", "zoom out", "−", isWhole)}
      {button("+", "zoom in", "+", zoom.shown[1] - zoom.shown[0] <= 5)}
      {button("<", "earlier", "←", isWhole || zoom.shown[0] <= zoom.whole[0])}
      {button(">", "later", "→", isWhole || zoom.shown[1] >= zoom.whole[1])}
      {button("0", "all, the whole time", "all", isWhole)}
      <span class="quiet hint">draw over the ruler to look closer</span>
    </div>
  )
}

/** The time where a pointer is. */
const timeAt = (
  { clientX, currentTarget }: { clientX: number; currentTarget: Element },
  [from, to]: Window
) => {
  const { left, width } = currentTarget.getBoundingClientRect()
  return from + (to - from) * Math.min(1, Math.max(0, (clientX - left) / Math.max(1, width)))
}

const percent = (at: number, [from, to]: Window) => `${((at - from) / (to - from)) * 100}%`

export const Ruler = ({ zoom }: { readonly zoom: Zoom }) => {
  const { shown, whole } = zoom
  const [drawn, setDrawn] = useState<Window | undefined>(undefined)
  const began = useRef<number | undefined>(undefined)
  return (
    <div
      class="ruler"
      aria-hidden="true"
      onPointerDown={(event) => {
        if (event.button !== 0) return
        event.currentTarget.setPointerCapture(event.pointerId)
        began.current = timeAt(event, shown)
      }}
      onPointerMove={(event) => {
        if (began.current !== undefined) setDrawn([began.current, timeAt(event, shown)])
      }}
      onPointerUp={() => {
        // A hundredth of the width may as well have been a click.
        if (drawn !== undefined && Math.abs(drawn[1] - drawn[0]) > (shown[1] - shown[0]) / 100)
          change(zoom, between(whole, drawn[0], drawn[1]))
        began.current = undefined
        setDrawn(undefined)
      }}
      onPointerCancel={() => {
        began.current = undefined
        setDrawn(undefined)
      }}
      onDblClick={() => change(zoom, undefined)}
      onWheel={(event) => {
        event.preventDefault()
        const along = Math.abs(event.deltaX) > Math.abs(event.deltaY)
        change(
          zoom,
          along
            ? moved(whole, shown, event.deltaX / 1_000)
            : zoomed(whole, shown, event.deltaY < 0 ? 1.25 : 0.8, timeAt(event, shown))
        )
      }}
    >
      {[0, 0.25, 0.5, 0.75, 1].map((part) => (
        <span key={part} style={{ left: `${part * 100}%` }}>
          {tick(shown[0] - whole[0] + (shown[1] - shown[0]) * part, shown)}
        </span>
      ))}
      {drawn === undefined ? null : (
        <i
          style={{
            left: percent(Math.min(...drawn), shown),
            width: `calc(${percent(Math.max(...drawn), shown)} - ${percent(Math.min(...drawn), shown)})`
          }}
        />
      )}
    </div>
  )
}
