/** A small curve, and the newest of what it shows. */
import { rounded } from "../model/text.js"

const width = 120
const height = 28

export const Sparkline = ({
  label,
  show = rounded,
  unit = "",
  values
}: {
  readonly label: string
  readonly values: ReadonlyArray<number>
  readonly unit?: string
  readonly show?: (value: number) => string
}) => {
  const last = values.at(-1)
  const most = Math.max(0, ...values)
  const full = most === 0 ? 1 : most
  const points = values
    .map(
      (value, i) =>
        `${((i / Math.max(1, values.length - 1)) * width).toFixed(1)},${(height - 2 - (value / full) * (height - 4)).toFixed(1)}`
    )
    .join(" ")
  return (
    <div class="gauge">
      <dt>{label}</dt>
      <dd>
        <span class="value">
          {last === undefined ? "–" : show(last)} {last === undefined ? "" : unit}
        </span>
        <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
          {values.length > 1 ? <polyline points={points} /> : null}
        </svg>
        <span class="quiet">
          {values.length > 1 ? `at most ${show(most)} ${unit}` : last === undefined ? "nothing yet" : ""}
        </span>
      </dd>
    </div>
  )
}
