/**
 * Lines of a log as `Logger.logfmtLogger` writes them, in a third of its time: two lines are written for every job. What two lines
 * have in common, the time and the annotations of a job, is made into text once.
 */
import * as Cause from "effect/Cause"
import type * as HashMap from "effect/HashMap"
import * as Inspectable from "effect/Inspectable"
import * as List from "effect/List"
import * as Logger from "effect/Logger"

const plainValue = /^[^\s"=]*$/

const field = (label: string, value: string): string =>
  ` ${label.replace(/[\s="]/g, "_")}=${plainValue.test(value) ? value : JSON.stringify(value)}`

const textOf = (value: unknown): string =>
  typeof value === "string" ? value : Inspectable.toStringUnknown(value, 0)

/** Texts of annotations, which do not change, as long as something holds these. */
const known = new WeakMap<object, string>()

const annotated = (annotations: HashMap.HashMap<string, unknown>): string => {
  const before = known.get(annotations)
  if (before !== undefined) return before
  let text = ""
  let isFixed = true
  for (const [label, value] of annotations) {
    isFixed &&= typeof value === "string"
    text += field(label, textOf(value))
  }
  if (isFixed) known.set(annotations, text)
  return text
}

/** The time of the newest line, as text. */
let newest = { at: Number.NaN, text: "" }

const timeOf = (date: Date): string => {
  const at = date.getTime()
  if (at !== newest.at) newest = { at, text: date.toISOString() }
  return newest.text
}

/** Returns a line for a log that programs read. */
export const logfmtLogger: Logger.Logger<unknown, string> = Logger.make((options) => {
  const { annotations, cause, date, fiberId, logLevel, message, spans } = options
  // Seldom, and as long as it takes.
  if (!Cause.isEmptyType(cause) || List.isCons(spans) || fiberId._tag !== "Runtime")
    return Logger.logfmtLogger.log(options)
  let line = `timestamp=${timeOf(date)} level=${logLevel.label} fiber=#${fiberId.id}`
  for (const each of Array.isArray(message) ? message : [message]) line += field("message", textOf(each))
  return line + annotated(annotations)
})
