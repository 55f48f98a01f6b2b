/** Times and durations, as people write and read them. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const units: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000
}

/** The last moment that has a timestamp of four digits a year. */
export const latest = Date.parse("9999-12-31T23:59:59.999Z")

/** The first one. */
const earliest = Date.parse("0000-01-01T00:00:00Z")

/** As Effect writes it: `10 minutes`. */
const spelledMs = (text: string): number | undefined => {
  const ms = Option.map(Duration.decodeUnknown(text), Duration.toMillis)
  return text.startsWith("-") ? undefined : Option.getOrUndefined(Option.filter(ms, Number.isFinite))
}

/** `30s`, `10m`, `2h`, `1d`, `2w`, or `10 minutes`, in milliseconds; `undefined` for anything else. */
export const durationMs = (text: string): number | undefined => {
  const [, amount, unit = ""] = /^(\d{1,9})([smhdw])$/.exec(text) ?? []
  const ms = units[unit]
  return ms === undefined ? spelledMs(text) : Number(amount) * ms
}

/** How long ago, in one unit: `3s`, `5m`, `2h`, `9d`. */
export const age = (ms: number): string => {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`
}

/** How long something took, in two units at most: `850ms`, `1.2s`, `2m05s`, `1h02m`, `3d04h`. */
export const took = (ms: number): string => {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}ms`
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)}s`
  const seconds = Math.round(ms / 1000)
  const two = (n: number) => String(n).padStart(2, "0")
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${two(seconds % 60)}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h${two(minutes % 60)}m`
  const hours = Math.floor(minutes / 60)
  return `${Math.floor(hours / 24)}d${two(hours % 24)}h`
}

const written = /^(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)([Zz]|[-+]\d\d:?\d\d)?)?$/

/**
 * The time in epoch milliseconds that somebody means at `now`: so long ago (`1h`), a day (`2026-01-31`, its beginning), or
 * a time of a day, with any offset from UTC. Without one it is the time of this machine. `undefined` for anything else.
 */
export const moment = (text: string, now: number): number | undefined => {
  const ago = durationMs(text)
  if (ago !== undefined) return now - ago < earliest ? undefined : now - ago
  const match = written.exec(text)
  if (match === null) return undefined
  const [, year = "", month = "", day = "", time = "00:00", offset = ""] = match
  const midnight = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)))
  // JavaScript takes the 31st of February for the 3rd of March.
  if (midnight.getUTCMonth() !== Number(month) - 1 || midnight.getUTCDate() !== Number(day)) return undefined
  const zone = offset.toUpperCase().replace(/^([-+]\d\d)(\d\d)$/, "$1:$2")
  const at = Date.parse(`${year}-${month}-${day}T${time}${zone}`)
  return Number.isNaN(at) ? undefined : at
}
