/** The part of the time of a job that its timeline shows. */

export type Window = readonly [from: number, to: number]

/** Milliseconds below which there is nothing to tell apart. */
const least = 5

/** Returns a window of this length within the whole, as near to the place as that allows; `undefined` when it is the whole. */
const within = ([from, to]: Window, begin: number, length: number): Window | undefined => {
  const size = Math.max(Math.min(least, to - from), length)
  if (size >= to - from) return undefined
  const start = Math.min(to - size, Math.max(from, begin))
  return [start, start + size]
}

/** Returns what is shown when everything around a point in time is `factor` times as wide. */
export const zoomed = (
  whole: Window,
  [from, to]: Window,
  factor: number,
  around: number
): Window | undefined => within(whole, around - (around - from) / factor, (to - from) / factor)

/** Returns what is shown after going on by a part of what is shown now. */
export const moved = (whole: Window, [from, to]: Window, part: number): Window | undefined =>
  within(whole, from + (to - from) * part, to - from)

/** Returns what is between two points in time, whichever comes first. */
export const between = (whole: Window, a: number, b: number): Window | undefined =>
  within(whole, Math.min(a, b), Math.abs(a - b))

/** Returns what is shown so that a point in time can be seen: the same, or as much of the time around that. */
export const showing = (whole: Window, shown: Window, at: number): Window =>
  at >= shown[0] && at <= shown[1]
    ? shown
    : (within(whole, at - (shown[1] - shown[0]) / 2, shown[1] - shown[0]) ?? whole)

/** Returns the time since the beginning as the ruler says it, as fine as the window needs. */
export const tick = (ms: number, [from, to]: Window): string => {
  const step = (to - from) / 4
  const s = ms / 1_000
  if (step >= 30_000 || s >= 600) return `${clocked(s)}${step < 1_000 ? `.${fraction(ms)}` : ""}`
  // Five of them would be the same in seconds.
  if (step < 4 && s < 1) return ms === 0 ? "0" : `${Number(ms.toFixed(2))} ms`
  return ms === 0 ? "0" : `${s.toFixed(step < 40 ? 3 : step < 1_000 ? 2 : step < 20_000 ? 1 : 0)} s`
}

const fraction = (ms: number) => String(Math.floor(ms % 1_000)).padStart(3, "0")
const two = (n: number) => String(Math.floor(n)).padStart(2, "0")

/** `1:02:03`, or with days before that. */
const clocked = (s: number): string => {
  const days = Math.floor(s / 86_400)
  const hours = Math.floor((s % 86_400) / 3_600)
  const rest = `${two((s % 3_600) / 60)}:${two(s % 60)}`
  return `${days === 0 ? "" : `${days} d `}${days === 0 && hours === 0 ? "" : `${hours}:`}${rest}`
}
