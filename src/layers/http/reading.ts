/** What is read of jobs: listings, one of them, its events and its result. */
import * as Effect from "effect/Effect"
import type * as Message from "../../protocol/Message.js"
import { accepted, preferences } from "./asked.js"
import * as Events from "./events.js"
import {
  followed,
  type Handler,
  type HandlerServices,
  headers,
  idOf,
  jsonOnly,
  respond,
  shown,
  untilOf
} from "./handling.js"
import * as Results from "./results.js"

/** Lists jobs. */
export const list =
  (_services: HandlerServices): Handler =>
  ({ line, query }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const { jobs, next_cursor: next } = yield* Effect.flatMap(line, (open) =>
        open.ask("session.list_jobs", listing(query))
      )
      const cursor = typeof next === "string" ? next : null
      const entries = Array.isArray(jobs) ? (jobs as ReadonlyArray<Message.JobEntry>) : []
      if (cursor === null) return respond({ jobs: entries.map(shown), next_cursor: null })
      const onward = new URLSearchParams(query)
      onward.set("cursor", cursor)
      return respond({ jobs: entries.map(shown), next_cursor: cursor }, 200, {
        link: `</v1/jobs?${onward}>; rel="next"`
      })
    })

/** Returns a listing as the protocol asks for it, which also says what is wrong with it. */
const listing = (query: URLSearchParams) => {
  const filter = Object.fromEntries(
    ["agent", "created_after", "created_before", "parent_job_id"].flatMap((name) => {
      const value = query.get(name)
      return value === null ? [] : [[name, value] as const]
    })
  )
  const status = (query.get("status") ?? "").split(",").filter((text) => text !== "")
  const limit = query.get("limit")
  const cursor = query.get("cursor")
  return {
    filter: { ...filter, ...(status.length === 0 ? {} : { status }) },
    ...(limit === null ? {} : { limit: /^\d{1,9}$/.test(limit) ? Number(limit) : limit }),
    ...(cursor === null ? {} : { cursor })
  }
}

/** Tells of a job. */
export const job =
  ({ jobs }: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      yield* jsonOnly
      return respond(shown(yield* jobs.entry(call.identity, idOf(call))))
    })

/** Follows the events of a job. */
export const events =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      const asked = yield* headers
      const format = yield* accepted(asked["accept"], [Events.eventStream, Events.jsonLines])
      const after = yield* Events.afterOf(asked["last-event-id"], call.query.get("after") ?? undefined)
      // First: who has too many is refused without a look into the store.
      yield* services.streams.take(call.identity.principal)
      const following = yield* followed(services, call)
      return yield* Events.answer(
        {
          jobId: idOf(call),
          job: following,
          after,
          format,
          until: untilOf(call),
          heartbeat: services.heartbeat,
          now: services.now
        },
        call.flush
      )
    })

/** Reads the result of a job. */
export const result =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      const asked = yield* headers
      yield* services.streams.take(call.identity.principal)
      const following = yield* followed(services, call)
      return yield* Results.answer(following, {
        jobId: idOf(call),
        giveUp: call.giveUp,
        wait: preferences(asked["prefer"]).wait,
        until: untilOf(call),
        now: services.now,
        range: asked["range"],
        ifRange: asked["if-range"],
        ifNoneMatch: asked["if-none-match"]
      })
    })
