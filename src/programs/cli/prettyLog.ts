/** A log for people: an entry begins in the first column, what belongs to it is set in below. */
import { inspect } from "node:util"
import * as Cause from "effect/Cause"
import * as Inspectable from "effect/Inspectable"
import * as Logger from "effect/Logger"
import * as LogSpan from "effect/LogSpan"
import { inLine, safe } from "./text.js"

/** Further lines of a text are set in, so that none can pass for an entry of its own. */
const setIn = (text: string): string => safe(text.replace(/\r?\n|[\r\v\f\u0085\u2028\u2029]/g, "\n  "))

/** A text as it is, and any other value as Node shows it: an error with its stack and causes. */
const textOf = (value: unknown): string =>
  typeof value === "string" ? value : inspect(Inspectable.redact(value))

const shown = (value: unknown): string => setIn(textOf(value))

/** A value as a part of a line. */
const part = (value: unknown): string => inLine(textOf(value))

const time = (date: Date): string =>
  `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, "0")}`

/** SGR codes of the levels that are not simply read past. */
const levels: Readonly<Record<string, string>> = { Warning: "33", Error: "31", Fatal: "31" }

/** Returns the logger; its texts steer no terminal but by the colours that are its own. */
export const prettyLogger = (colours: boolean): Logger.Logger<unknown, string> => {
  const painted = (code: string, text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text)
  return Logger.make(({ annotations, cause, date, logLevel, message, spans }) => {
    const [first = "", ...others] = Array.isArray(message) ? message : [message]
    const about = [
      ...Array.from(annotations, ([name, value]) => `${inLine(name)}=${part(value)}`),
      ...Array.from(spans, (span) => inLine(LogSpan.render(date.getTime())(span)))
    ]
    return [
      `${painted("2", `[${time(date)}]`)} ${painted(levels[logLevel._tag] ?? "32", logLevel.label)}: ${painted("1", shown(first))}`,
      ...others.map((other) => `  ${shown(other)}`),
      ...(Cause.isEmpty(cause) ? [] : [`  ${setIn(Cause.pretty(cause, { renderErrorCause: true }))}`]),
      ...(about.length === 0 ? [] : [`  ${painted("2", about.join(" "))}`])
    ].join("\n")
  })
}
