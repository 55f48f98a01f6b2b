/** One job of one agent, from its submit to its end, and what the runtime logs of it. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Logger from "effect/Logger"
import type * as Agent from "../../../src/services/agents/Agent.js"
import { open } from "../../support/Wire.js"
import { as, makeStore, serve, submit } from "./support.js"

/** Collects what is logged as an error: the whole of it, and what it is annotated with. */
const logged = () => {
  const entries: Array<{ readonly text: string; readonly job: unknown; readonly agent: unknown }> = []
  const logger = Logger.make(({ annotations, cause, logLevel, message }) => {
    if (logLevel._tag !== "Error") return
    const of = (name: string) => HashMap.unsafeGet(annotations, name)
    const text = `${String(message)} ${Cause.pretty(cause, { renderErrorCause: true })}`
    entries.push({ text, job: of("job"), agent: of("agent") })
  })
  return { entries, layer: Logger.replace(Logger.defaultLogger, logger) }
}

/** Runs one job of an agent to its end. */
export const ends = (agent: Agent.Registered, options: Parameters<typeof serve>[2] = {}, more = {}) => {
  const log = logged()
  const run = Effect.gen(function* () {
    const session = yield* open(as("alice"))
    const { job_id } = yield* submit(session, agent.name, {}, more)
    const end = yield* session.next(
      ({ job_id: of, type }) => of === job_id && (type === "job.result" || type === "job.error")
    )
    return { jobId: job_id, end, entries: log.entries, seen: session.seen }
  })
  return Effect.flatMap(makeStore, (store) => Effect.provide(run, serve(store, [agent], options))).pipe(
    Effect.provide(log.layer)
  )
}
