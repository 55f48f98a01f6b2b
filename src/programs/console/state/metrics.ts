/** What the runtime says of itself, read every few seconds while somebody looks. */
import { signal } from "@preact/signals"
import { parse, type Sample } from "../model/prometheus.js"
import { token } from "./connection.js"

export interface Reading {
  readonly at: number
  readonly samples: ReadonlyArray<Sample>
}

/** Readings, newest last. */
export const readings = signal<ReadonlyArray<Reading>>([])
/** Why there are none. */
export const missing = signal("")

/** Readings that are kept: ten minutes. */
const most = 200
const every = 3_000

const why = (status: number) =>
  status === 404
    ? "This runtime has no /metrics. See docs/operations.md for how it gets one."
    : status === 401 || status === 403
      ? "The token of this tab may not read /metrics."
      : `/metrics answers ${status}.`

const read = async (): Promise<void> => {
  try {
    const given = token()
    const response = await fetch(
      "/metrics",
      given === undefined ? {} : { headers: { authorization: `Bearer ${given}` } }
    )
    if (!response.ok) {
      missing.value = why(response.status)
      return
    }
    missing.value = ""
    readings.value = [
      ...readings.value.slice(1 - most),
      { at: Date.now(), samples: parse(await response.text()) }
    ]
  } catch {
    missing.value = "/metrics cannot be reached."
  }
}

/** Reads until the answer is called. */
export const watch = (): (() => void) => {
  void read()
  const timer = setInterval(() => {
    // A tab that nobody looks at asks for nothing.
    if (!document.hidden) void read()
  }, every)
  return () => clearInterval(timer)
}
