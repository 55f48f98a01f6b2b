/**
 * What is measured. A figure is one scenario on one store; `measure` runs it once against one server and
 * returns `{ values, units?, busy?, frameBytes? }`: a value is a number or `{ p50, p99, max }` in
 * milliseconds, `units` is what the server's CPU time is divided by, `busy` the client's share of a core.
 *
 * `long` figures run with `--long` or when they are named. `freshServers` and `freshClients` are new for each run.
 */
import { storeName } from "./figures/common.mjs"
import { events } from "./figures/events.mjs"
import { jobs } from "./figures/jobs.mjs"
import { readers } from "./figures/readers.mjs"
import { sessions } from "./figures/sessions.mjs"

/** All figures, in the order of the report. */
export const figures = (options) => [
  ...events(options),
  ...jobs(options),
  ...sessions(options),
  ...readers(options)
]

/** One line about a figure. */
export const describe = ({ long, name, store, title }) =>
  `${name}: ${title}, ${storeName[store]}${long ? " (only with --long, or when named)" : ""}`
