/** What the runtime says of itself, read every few seconds while somebody looks. */

import { signal } from "@preact/signals"
import { parse, type Sample } from "../model/prometheus.js"
import { token } from "./connection.js"
import { placeOf } from "./places.js"
import { watching } from "./watching.js"

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

/** Whether a token of its own would let this page read them. */
export const asksForToken = signal(false)

const why = (status: number) =>
  status === 404
    ? "This server tells no metrics: /metrics is not there (404). It is off with --metrics off, and an application mounts it with Telemetry."
    : status === 403
      ? "This server tells its metrics to its own machine only, and to nobody who comes through a proxy (403). Start it with --metrics-token TOKEN, or with --metrics all, to see them here."
      : status === 401
        ? "This server tells its metrics to whoever has the token of its --metrics-token (401)."
        : `/metrics answers ${status}.`

const tokenKey = "arcp-console-metrics-token"
/** Keeps a token for the metrics, in this tab, and reads with it. */
export const readWith = (given: string): void => {
  sessionStorage.setItem(tokenKey, given)
  void read()
}

const read = async (): Promise<void> => {
  try {
    const given = sessionStorage.getItem(tokenKey) ?? token()
    const response = await fetch(
      placeOf("/metrics"),
      given === undefined ? {} : { headers: { authorization: `Bearer ${given}` } }
    )
    if (!response.ok) {
      missing.value = why(response.status)
      asksForToken.value = response.status === 401
      // What was read before is not how it is now.
      readings.value = []
      return
    }
    missing.value = ""
    asksForToken.value = false
    readings.value = [
      ...readings.value.slice(1 - most),
      { at: Date.now(), samples: parse(await response.text()) }
    ]
  } catch {
    missing.value = "/metrics cannot be reached."
  }
}

/** Reads until the answer is called. */
export const watch = watching(read, every)
