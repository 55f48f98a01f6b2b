/** What an event has to be that is read from a database: what jobs write, as far as whoever reads it relies on that. */
import * as Argument from "../../protocol/Argument.js"
import { readJson } from "../../protocol/Json.js"
import type { StoredEvent } from "../../services/store/Store.js"

const payloads: Readonly<Record<string, Argument.Rule>> = {
  "job.event": Argument.fields({ kind: Argument.text, body: Argument.maybe(Argument.object) }),
  result_chunk: Argument.fields({
    body: Argument.fields({
      result_id: Argument.string,
      chunk_seq: Argument.count,
      data: Argument.string,
      encoding: Argument.oneOf("utf8", "base64")
    })
  }),
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

/**
 * Returns what is wrong with an event, if anything. Whoever reads it takes it for JSON of one line: it is spliced into frames,
 * and into formats whose lines end at a line feed.
 */
export const eventProblem = ({ kind, payload, type }: StoredEvent): string | undefined => {
  if (typeof type !== "string" || typeof kind !== "string" || typeof payload !== "string")
    return "it is no event"
  if (/[\n\r]/.test(payload)) return "its payload has line breaks"
  const value = readJson(payload)
  if (value === undefined) return "its payload is no JSON"
  const rule = payloads[type]
  if (rule === undefined) return "it is of no type that is known"
  return rule(value, "payload") ?? (kind === "result_chunk" ? payloads[kind]?.(value, "payload") : undefined)
}
