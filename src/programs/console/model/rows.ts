/** Events as lines of a log, and looking for some of them. */
import * as Vendor from "../../../protocol/Vendor.js"
import type { JobEvent } from "../../../services/client/ArcpClient.js"
import { isDenial } from "./JobModel.js"
import { brief, duration, refused } from "./text.js"
import { field, numberIn, textIn } from "./values.js"

/** How much a line matters. */
export type Level = "trace" | "debug" | "info" | "warn" | "error"
export const levels: ReadonlyArray<Level> = ["trace", "debug", "info", "warn", "error"]

/** Returns the level of an event: that of a log line, else what it is worth. */
export const levelOf = (event: JobEvent): Level => {
  switch (event.kind) {
    case "log":
      return event.body.level === "critical" ? "error" : event.body.level
    case "tool_result":
      return event.body.error === undefined ? "info" : "error"
    case "gap":
      return "warn"
    case "result_chunk":
    case "metric":
    case "progress":
      return "debug"
    case Vendor.step:
      return textIn(event.body, "state") === "failed"
        ? "error"
        : textIn(event.body, "state") === "retry"
          ? "warn"
          : "debug"
    default:
      return "info"
  }
}

/** Tells whether a line says that the lease does not allow something. */
export const isDenied = (event: JobEvent): boolean =>
  event.kind === "tool_result" && isDenial(event.body.error)

/** Returns the short name of a kind of event. */
export const nameOf = (event: JobEvent): string =>
  event.kind === "other"
    ? event.wireKind.replace(/^x-vendor\.(effect-arcp\.)?/, "")
    : event.kind.replace(/^x-vendor\.(effect-arcp\.)?/, "")

const others = (body: unknown): string => brief(body)

/** Returns what an event says, on a line. */
export const textOf = (event: JobEvent): string => {
  switch (event.kind) {
    case "log":
      return (
        brief(event.body.message) +
        (event.body.attributes === undefined ? "" : ` ${brief(event.body.attributes)}`)
      )
    case "thought":
      return brief(event.body.text)
    case "tool_call":
      return `${brief(event.body.tool, 80)}(${event.body.args === undefined ? "" : brief(event.body.args)})`
    case "tool_result":
      return event.body.error === undefined
        ? `→ ${event.body.result === undefined ? "done" : brief(event.body.result)}`
        : `✗ ${brief(textIn(event.body.error, "code") ?? "", 60)} ${brief(textIn(event.body.error, "message") ?? event.body.error)}${refused(field(event.body.error, "details"))}`
    case "status":
      return `${brief(event.body.phase, 80)}${event.body.message === undefined ? "" : `: ${brief(event.body.message)}`}`
    case "metric":
      return `${brief(event.body.name, 80)} = ${event.body.value} ${brief(event.body.unit ?? "", 20)}`
    case "artifact_ref":
      return `${brief(event.body.uri)} (${brief(event.body.content_type, 80)})`
    case "delegate":
      return `to ${brief(event.body.agent, 80)}: ${brief(event.body.input)}`
    case "progress":
      return `${event.body.current}${event.body.total === undefined ? "" : ` of ${event.body.total}`} ${brief(event.body.units ?? "", 20)} ${brief(event.body.message ?? "")}`
    case "result_chunk":
      return `${event.body.chunk_seq}: ${brief(event.body.data, 120)}`
    case "gap":
      return event.body.message
    case Vendor.step: {
      const ms = numberIn(event.body, "ms")
      const attempt = numberIn(event.body, "attempt") ?? 1
      const state = textIn(event.body, "state") ?? ""
      const said = `${brief(textIn(event.body, "key") ?? "", 120)} ${brief(state, 20)}`
      if (state === "retry") return `${said}, try ${attempt}`
      const took = ms === undefined ? "" : duration(ms)
      // The event has the time of the last attempt.
      return attempt > 1
        ? `${said} after ${attempt} tries${took === "" ? "" : `, the last of ${took}`}`
        : `${said}${took === "" ? "" : ` after ${took}`}`
    }
    case Vendor.inputRequest:
      return `asks: ${brief(textIn(event.body, "prompt") ?? "")}`
    case Vendor.inputClosed:
      return `${brief(textIn(event.body, "reason") ?? "", 20)} ${field(event.body, "value") === undefined ? "" : brief(field(event.body, "value"))}`
    default:
      return others(event.body)
  }
}

/** What a line must have to be shown. */
export interface Wanted {
  readonly text: string
  readonly least: Level
  /** The kinds to show; empty: all. */
  readonly kinds: ReadonlySet<string>
}

/** The JSON of a body, empty of one that is too deep for it. */
const jsonOf = (body: unknown): string => {
  try {
    return JSON.stringify(body)
  } catch {
    return ""
  }
}

const everything = ({ kinds, least, text }: Wanted) => text === "" && least === "trace" && kinds.size === 0

/**
 * The places of the events that match, found as events come: what was looked at once is not looked at again until the
 * question changes. A search through many is done in shares, so that typing goes on meanwhile.
 */
export class Search {
  readonly #events: ReadonlyArray<JobEvent>
  readonly #wanted: Wanted
  readonly #needle: string
  readonly found: Array<number> = []
  /** Events that were looked at. */
  seen = 0

  constructor(events: ReadonlyArray<JobEvent>, wanted: Wanted) {
    this.#events = events
    this.#wanted = wanted
    this.#needle = wanted.text.toLowerCase()
  }

  /** Whether every event matches, so that nothing has to be looked for. */
  get isAll(): boolean {
    return everything(this.#wanted)
  }

  /** Lines of the answer among the first `upTo` events. */
  length(upTo: number): number {
    if (this.isAll) return Math.min(upTo, this.#events.length)
    let low = 0
    let high = this.found.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.found[middle] ?? 0) < upTo) low = middle + 1
      else high = middle
    }
    return low
  }

  /** The place of the event on a line. */
  at(line: number): number {
    return this.isAll ? line : (this.found[line] ?? 0)
  }

  /** The line on which an event is, or the next one. */
  lineOf(index: number): number {
    return this.length(index)
  }

  /** Looks at some more events, until it is late but at one at least; tells whether there are more. */
  look(most: number, isLate: () => boolean = () => false): boolean {
    if (this.isAll) {
      this.seen = this.#events.length
      return false
    }
    const until = Math.min(this.#events.length, this.seen + most)
    for (; this.seen < until; this.seen++) {
      const event = this.#events[this.seen]
      if (event !== undefined && this.#matches(event)) this.found.push(this.seen)
      if (isLate()) {
        this.seen++
        break
      }
    }
    return this.seen < this.#events.length
  }

  #matches(event: JobEvent): boolean {
    const { kinds, least } = this.#wanted
    if (kinds.size > 0 && !kinds.has(nameOf(event))) return false
    if (levels.indexOf(levelOf(event)) < levels.indexOf(least)) return false
    if (this.#needle === "") return true
    return (
      nameOf(event).includes(this.#needle) ||
      textOf(event).toLowerCase().includes(this.#needle) ||
      jsonOf(event.body).toLowerCase().includes(this.#needle)
    )
  }
}
