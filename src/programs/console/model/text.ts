/** How the console shows what agents wrote: as text, with nothing in it that could pretend to be something else. */

import { refusalIn } from "../../../protocol/Refusal.js"
import { namesOf } from "./tree.js"

/**
 * Characters that change what is around them or are not seen: controls, overrides of direction, what has no width, fillers, tags,
 * a Braille pattern without dots, and half a surrogate pair. A tab and a line feed stay, and variants, which are seen in emoji.
 */
const unseen =
  /(?![\ufe00-\ufe0f])\p{DI}|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u2800\ufff9-\ufffb\p{Cs}]/gu

/** Marks of one character that are shown: more than scripts put on one, and few enough to stay in its line. Others draw over what is around. */
const mostMarks = 4
const marks = new RegExp(`([\\p{Mn}\\p{Me}]{${mostMarks}})([\\p{Mn}\\p{Me}]+)`, "gu")

const named = (c: string): string =>
  `⟨U+${(c.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}⟩`

/** Returns a text with what is not seen in it named, and no longer than `most` characters. */
export const plain = (text: string, most = 20_000): string => {
  const shown =
    text.length > most
      ? `${text.slice(0, most).replace(/[\ud800-\udbff]$/, "")}… (${count(text.length - most)} more characters)`
      : text
  return shown
    .replace(unseen, named)
    .replace(marks, (_, first: string, more: string) => `${first}⟨${counted([...more].length, "mark")} more⟩`)
}

/** Returns a text as one line of at most `most` characters. */
export const line = (text: string, most = 300): string =>
  plain(text.slice(0, most + 1).replace(/\s*\n\s*/g, " ⏎ "), most).replace(/… \(.*$/, "…")

/** Levels of a value that a line shows. */
const deepest = 12

/** Returns the beginning of a value's JSON: as much as is needed, however large and deep the value is. */
const beginning = (value: unknown, most: number, depth = 0): string => {
  if (typeof value === "string") return JSON.stringify(value.slice(0, most + 1))
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? ""
  const isList = Array.isArray(value)
  if (depth >= deepest) return isList ? "[…]" : "{…}"
  let text = ""
  const add = (part: () => string): boolean => {
    if (text.length > most) return false
    text += `${text === "" ? "" : ","}${part()}`
    return true
  }
  if (isList) {
    for (const item of value as ReadonlyArray<unknown>)
      if (!add(() => beginning(item ?? null, most - text.length, depth + 1))) break
  } else
    for (const key of namesOf(value)) {
      const item = (value as Readonly<Record<string, unknown>>)[key]
      if (
        !add(
          () =>
            `${JSON.stringify(key.slice(0, most))}:${beginning(item ?? null, most - text.length, depth + 1)}`
        )
      )
        break
    }
  return isList ? `[${text}]` : `{${text}}`
}

/** Returns a value as a text of one line. */
export const brief = (value: unknown, most = 300): string =>
  line(typeof value === "string" ? value : beginning(value, most), most)

/** Returns what a lease has refused, after a message that does not say it; empty where the details of an error do not, either. */
export const refused = (details: unknown): string => {
  const refusal = refusalIn(details)
  return refusal === undefined ? "" : ` (${line(refusal.capability, 80)} ${line(refusal.target, 200)})`
}

/** Returns what one of several values to choose from is called. */
export const optionName = (value: unknown, most: number): string =>
  typeof value === "boolean" ? (value ? "yes" : "no") : brief(value, most)

/** Returns the address when it is one that a link may have, else `undefined`. */
export const safeUrl = (text: string): string | undefined => {
  if (!/^https?:\/\//i.test(text) || text.length > 2_000) return undefined
  try {
    return new URL(text).href
  } catch {
    return undefined
  }
}

/** Returns the host that a link leads to; empty where the text of the link begins with it, as the browser will read it. */
export const hostBehind = (text: string, href: string): string => {
  const { host, origin } = new URL(href)
  return text.startsWith(origin) && /^([/?#]|$)/.test(text.slice(origin.length)) ? "" : host
}

/** Returns a number with its thousands apart. */
export const count = (n: number): string => n.toString().replace(/\B(?=(\d{3})+$)/g, "\u202f")

/** Returns how many there are of something, of which there may be one. */
export const counted = (n: number, what: string): string => `${count(n)} ${what}${n === 1 ? "" : "s"}`

/** Returns a number that was measured, with few digits. */
export const rounded = (n: number): string => {
  const size = Math.abs(n)
  if (!Number.isFinite(n)) return "–"
  if (size >= 1e9) return `${(n / 1e9).toPrecision(3)} G`
  if (size >= 1e6) return `${(n / 1e6).toPrecision(3)} M`
  if (size >= 1e4) return `${(n / 1e3).toPrecision(3)} k`
  return size >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toPrecision(3)
}

/** Returns an amount of money: two places after the point, more for what is small. */
export const money = (n: number): string => {
  const size = Math.abs(n)
  if (!Number.isFinite(n) || size >= 1e6) return rounded(n)
  return size === 0 || size >= 0.1 ? n.toFixed(2) : n.toPrecision(2)
}

/** Returns a size in bytes. */
export const bytes = (n: number): string =>
  n < 1_000
    ? `${Math.round(n)} B`
    : n < 1e6
      ? `${(n / 1e3).toFixed(1)} kB`
      : n < 1e9
        ? `${(n / 1e6).toFixed(1)} MB`
        : `${(n / 1e9).toFixed(2)} GB`

/** Returns a duration of milliseconds, in the two units that matter. */
export const duration = (ms: number): string => {
  if (!Number.isFinite(ms)) return "–"
  if (ms < 0) return `-${duration(-ms)}`
  if (ms < 1_000) return `${Math.round(ms)} ms`
  const s = ms / 1_000
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.floor(s)} s`
  const units = [
    ["d", 86_400],
    ["h", 3_600],
    ["min", 60],
    ["s", 1]
  ] as const
  const at = units.findIndex(([, size]) => s >= size)
  const [name, size] = units[at] ?? units[3]
  const next = units[at + 1]
  const rest = next === undefined ? 0 : Math.floor((s % size) / next[1])
  return `${Math.floor(s / size)} ${name}${next === undefined || rest === 0 ? "" : ` ${rest} ${next[0]}`}`
}

const two = (n: number) => String(n).padStart(2, "0")

/** Returns the time of day of a point in time, in the zone of who looks. */
export const clock = (at: number): string => {
  const date = new Date(at)
  return Number.isNaN(at)
    ? "–"
    : `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`
}

/** Returns a point in time, with its day unless that is the one of `now`. */
export const moment = (at: number, now: number): string => {
  if (Number.isNaN(at)) return "–"
  const date = new Date(at)
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  const time = clock(at).slice(0, 8)
  return new Date(now).toDateString() === date.toDateString() ? time : `${day} ${time}`
}
