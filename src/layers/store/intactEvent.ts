/** What an event has to be that is read from a database: what jobs write, as far as whoever reads it relies on that. */
import * as Argument from "../../protocol/Argument.js"
import { readJson } from "../../protocol/Json.js"
import type { StoredEvent } from "../../services/store/Store.js"

/** Of each job there is one end, and whoever asks for the result relies on all of it. */
const ends: Readonly<Record<string, Argument.Rule>> = {
  "job.result": Argument.fields({
    final_status: Argument.maybe(Argument.string),
    result_id: Argument.maybe(Argument.string),
    result_size: Argument.maybe(Argument.count)
  }),
  "job.error": Argument.fields({
    code: Argument.text,
    message: Argument.string,
    details: Argument.maybe(Argument.object)
  })
}

const endProblem = (type: string, payload: string): string | undefined => {
  const rule = ends[type]
  if (rule === undefined) return "it is of no type that is known"
  const value = readJson(payload)
  return value === undefined ? "its payload is no JSON" : rule(value, "payload")
}

/**
 * Returns what is wrong with an event, if anything. Whoever reads it takes it for JSON of one line: it is spliced into frames,
 * and into formats whose lines end at a line feed.
 *
 * What no end is is looked at from outside only: parsing takes a third of what reading a small event takes, and ten times what
 * reading a chunk of a result does. Whoever parses it finds the rest.
 */
export const eventProblem = ({ kind, payload, type }: StoredEvent): string | undefined => {
  if (typeof type !== "string" || typeof kind !== "string" || typeof payload !== "string")
    return "it is no event"
  if (payload.includes("\n") || payload.includes("\r")) return "its payload has line breaks"
  if (!payload.startsWith("{") || !payload.endsWith("}")) return "its payload is no JSON object"
  return type === "job.event" ? undefined : endProblem(type, payload)
}
