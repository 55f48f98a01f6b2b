/** What each route does. Whatever is asked of the runtime goes through a session, or is what a session would be told. */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ArcpError, InternalError, InvalidRequest } from "../../protocol/Errors.js"
import { timestamp } from "../../protocol/EventText.js"
import { describedAgents } from "../../protocol/Features.js"
import { isRecord, membersOf } from "../../protocol/Json.js"
import type * as Message from "../../protocol/Message.js"
import * as Trace from "../../protocol/Trace.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { Identity } from "../../services/auth/Auth.js"
import type { Deletion, Jobs } from "../../services/jobs/Jobs.js"
import type { FollowedJob } from "../../services/log/EventLog.js"
import type { Sessions } from "../../services/session/Sessions.js"
import type { Name } from "./api.js"
import { accepted, body, preferences, unquoted } from "./asked.js"
import * as Events from "./events.js"
import type { Line } from "./line.js"
import type { Refused } from "./problems.js"
import * as Results from "./results.js"

/** What handlers work on. */
export interface HandlerServices {
  readonly jobs: Jobs["Type"]
  readonly sessions: Pick<Sessions["Type"], "forget" | "list" | "nodes">
  readonly maxBodyBytes: number
  readonly heartbeat: Duration.Duration
  /** Streams and waits of one principal at the most, and who counts them. */
  readonly maxStreams: number
  readonly streams: Map<string, number>
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
  readonly now: () => number
}

/** A request that has found its route, and of which it is known who asks. */
export interface Call {
  readonly identity: Identity
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  /** The session of whoever asks. */
  readonly line: Effect.Effect<Line, ArcpError, Scope.Scope>
  /** Sends the head of the answer; and gives the connection up. */
  readonly flush: Effect.Effect<void>
  readonly giveUp: Effect.Effect<void>
}

/** Answers a request. */
export type Handler = (
  call: Call
) => Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  ArcpError | Refused,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

const json = "application/json"

const respond = (
  value: unknown,
  status = 200,
  headers: Readonly<Record<string, string>> = {}
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(`${JSON.stringify(value)}\n`, {
    status,
    headers: { "cache-control": "no-store", ...headers },
    contentType: json
  })

const headers = Effect.map(
  HttpServerRequest.HttpServerRequest,
  (request): Readonly<Record<string, string | undefined>> => request.headers
)

const jsonOnly = Effect.flatMap(headers, ({ accept }) => accepted(accept, [json]))

const idOf = ({ params }: Call): string => params["id"] ?? ""

/** Lets a job be read in shares of a turn, like whatever else is asked. */
const followed = (
  { jobs, share }: HandlerServices,
  call: Call
): Effect.Effect<FollowedJob, ArcpError, Scope.Scope> =>
  Effect.map(jobs.follow(call.identity, idOf(call)), (job) => ({
    ...job,
    read: (after) => Effect.zipRight(share, job.read(after))
  }))

/** Epoch milliseconds at which the token ends with which it is asked. */
const untilOf = ({ identity }: Call): number => identity.expiresAt ?? Number.POSITIVE_INFINITY

/** Counts a stream, or whatever else is answered for long, for the scope. */
const streaming = ({ maxStreams, streams }: HandlerServices, { identity: { principal } }: Call) =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const open = streams.get(principal) ?? 0
      if (open >= maxStreams)
        return new InternalError({
          message: `limit reached: at most ${maxStreams} streams and waits of one principal; end some`,
          details: { limit: "http_streams" }
        })
      streams.set(principal, open + 1)
      return Effect.void
    }),
    () =>
      Effect.sync(() => {
        const open = (streams.get(principal) ?? 1) - 1
        if (open === 0) streams.delete(principal)
        else streams.set(principal, open)
      })
  )

/** The trace that a request belongs to, as a submit says it. */
const tracing = (traceparent: string | undefined) => {
  const trace = /^00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/.exec(traceparent ?? "")?.[1]
  return trace === undefined || /^0+$/.test(trace)
    ? {}
    : { traceId: trace, extensions: { [Trace.extension]: { traceparent } } }
}

/** Reads what is submitted: the payload of the frame, and what is beside it. */
const submitted = (services: HandlerServices) =>
  Effect.gen(function* () {
    const asked = yield* headers
    const { extensions, ...payload } = (yield* body(services.maxBodyBytes)) ?? {}
    if (extensions !== undefined && !isRecord(extensions))
      return yield* new InvalidRequest({ message: "extensions: expected an object" })
    const key = asked["idempotency-key"]
    const trace = tracing(asked["traceparent"])
    // Without one, what is submitted is what `null` is.
    const input = extensions?.[Vendor.fork] === undefined ? { input: payload["input"] ?? null } : {}
    return {
      payload: { ...payload, ...input, ...(key === undefined ? {} : { idempotency_key: unquoted(key) }) },
      options: { ...trace, extensions: { ...extensions, ...trace.extensions } }
    }
  })

/** What of an accept a listing does not have. */
const told = ({ budget, credentials }: Readonly<Record<string, unknown>>) => ({
  ...(budget === undefined ? {} : { budget }),
  ...(credentials === undefined ? {} : { credentials })
})

const submit =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const { wait } = preferences((yield* headers)["prefer"])
      const { options, payload } = yield* submitted(services)
      const waits = wait !== undefined && wait > 0
      if (waits) yield* streaming(services, call)
      const line = yield* call.line
      const before = services.now()
      const answer = yield* line.ask("job.submit", payload, options)
      const id = String(answer["job_id"])
      const location = { location: `/v1/jobs/${id}` }
      const applied = wait === undefined ? {} : { "preference-applied": `wait=${wait}` }
      if (waits) {
        const job = yield* followed(services, { ...call, params: { id } })
        const end = yield* Results.ended(job, { seconds: wait, until: untilOf(call), now: services.now })
        if (end !== undefined)
          return respond({ job_id: id, ...JSON.parse(end.payload) }, 200, { ...location, ...applied })
      }
      const entry = yield* services.jobs.entry(call.identity, id)
      // One that was there before has the key of this one.
      const status = Date.parse(entry.created_at) < before ? 200 : wait === undefined ? 201 : 202
      return respond({ ...shown(entry), ...told(answer) }, status, { ...location, ...applied })
    })

/** A job as it is shown: without the number of its newest event in a session that nobody asks with. */
const shown = ({ last_event_seq: _last, ...entry }: Message.JobEntry) => entry

const list =
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
  const status = query
    .getAll("status")
    .flatMap((text) => text.split(","))
    .filter((text) => text !== "")
  const limit = query.get("limit")
  const cursor = query.get("cursor")
  return {
    filter: { ...filter, ...(status.length === 0 ? {} : { status }) },
    ...(limit === null ? {} : { limit: /^\d{1,9}$/.test(limit) ? Number(limit) : limit }),
    ...(cursor === null ? {} : { cursor })
  }
}

const job =
  ({ jobs }: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      yield* jsonOnly
      return respond(shown(yield* jobs.entry(call.identity, idOf(call))))
    })

const events =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      const asked = yield* headers
      const format = yield* accepted(asked["accept"], [Events.eventStream, Events.jsonLines])
      const after = yield* Events.afterOf(asked["last-event-id"], call.query.get("after") ?? undefined)
      // First: who has too many is refused without a look into the store.
      yield* streaming(services, call)
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

const result =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      const asked = yield* headers
      yield* streaming(services, call)
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

const cancel =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const { reason } = (yield* body(services.maxBodyBytes)) ?? {}
      const line = yield* call.line
      yield* line.ask("job.cancel", reason === undefined ? {} : { reason }, { jobId: idOf(call) })
      return respond(shown(yield* services.jobs.entry(call.identity, idOf(call))), 202)
    })

const removed =
  (
    { jobs, sessions }: HandlerServices,
    what: (call: Call) => Effect.Effect<Deletion, InvalidRequest>
  ): Handler =>
  (call) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const deletion = yield* what(call)
      const gone = yield* jobs.delete(call.identity, deletion)
      const ended = "principal" in deletion ? yield* sessions.forget(deletion.principal) : 0
      return respond({ jobs: gone, sessions: ended })
    })

const cancelFirst = ({ query }: Call): Effect.Effect<boolean, InvalidRequest> => {
  const cancel = query.get("cancel")
  return cancel === null || cancel === "false" || cancel === "true"
    ? Effect.succeed(cancel === "true")
    : new InvalidRequest({ message: "cancel: true or false" })
}

const remove = (services: HandlerServices): Handler =>
  removed(services, (call) => Effect.map(cancelFirst(call), (cancel) => ({ jobId: idOf(call), cancel })))

const removeAll = (services: HandlerServices): Handler =>
  removed(services, (call) => {
    const principal = call.query.get("principal") ?? ""
    return principal === ""
      ? new InvalidRequest({ message: "principal: whose jobs and sessions are to be deleted" })
      : Effect.map(cancelFirst(call), (cancel) => ({ principal, cancel }))
  })

const answer =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      const { about_sha256: about, value } = (yield* body(services.maxBodyBytes)) ?? {}
      if (value === undefined) return yield* new InvalidRequest({ message: "value: the answer is missing" })
      const line = yield* call.line
      yield* line.ask(
        Vendor.jobInput,
        {
          input_id: call.params["inputId"],
          value,
          ...(about === undefined ? {} : { about_sha256: about })
        },
        { jobId: idOf(call) }
      )
      return HttpServerResponse.empty({ status: 204 })
    })

/** An agent of the inventory, with what is known of each version. */
const agent = (entry: unknown) => {
  if (!isRecord(entry)) return { name: String(entry), versions: [] }
  const about = entry[describedAgents]
  const versions: ReadonlyArray<unknown> = Array.isArray(entry["versions"]) ? entry["versions"] : []
  return {
    name: entry["name"],
    ...(entry["default"] === undefined ? {} : { default: entry["default"] }),
    versions: versions.map((version) => ({
      version,
      ...membersOf(membersOf(about)[String(version)])
    }))
  }
}

const agents =
  (_services: HandlerServices): Handler =>
  ({ line }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      return respond({ agents: (yield* line).agents.map(agent) })
    })

/** Sessions that are told. */
const mostSessions = 1_000

const sessions =
  ({ sessions }: HandlerServices): Handler =>
  ({ identity }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const all = yield* sessions.list(identity)
      const newest = [...all].sort((a, b) => b.createdAt - a.createdAt).slice(0, mostSessions)
      return respond({
        sessions: newest.map(({ createdAt, isConnected, lag, lastSeenAt, principal, sessionId }) => ({
          session_id: sessionId,
          principal,
          state: isConnected ? "connected" : "away",
          created_at: timestamp(createdAt),
          last_seen_at: timestamp(lastSeenAt),
          ...(lag === undefined ? {} : { lag })
        })),
        total: all.length
      })
    })

const me =
  (_services: HandlerServices): Handler =>
  ({ identity: { agents: mayUse, expiresAt, principal } }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      return respond({
        principal,
        ...(mayUse === undefined ? {} : { agents: mayUse }),
        ...(expiresAt === undefined || !Number.isFinite(expiresAt)
          ? {}
          : { expires_at: timestamp(expiresAt) })
      })
    })

const nodes =
  ({ sessions }: HandlerServices): Handler =>
  ({ identity }) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const { hasMore, nodes: listed } = yield* sessions.nodes(identity)
      return respond({
        nodes: listed.map(
          ({ address, isAlive, isSelf, jobs, name, sessions: held, silentFor, startedAt, version }) => ({
            name,
            self: isSelf,
            state: isAlive ? "alive" : "gone",
            ...(address === undefined ? {} : { address }),
            version,
            started_at: timestamp(startedAt),
            silent_ms: Math.round(silentFor),
            jobs,
            sessions: held
          })
        ),
        more: hasMore
      })
    })

/** Gives back what it uses before the answer is sent, which may take its time. */
const whole =
  (handler: Handler): Handler =>
  (call) =>
    Effect.scoped(handler(call))

/** Returns what answers each route. */
export const make = (services: HandlerServices): Readonly<Record<Name, Handler>> => ({
  submit: whole(submit(services)),
  list: whole(list(services)),
  job: job(services),
  events: events(services),
  result: result(services),
  cancel: whole(cancel(services)),
  remove: whole(remove(services)),
  removeAll: whole(removeAll(services)),
  answer: whole(answer(services)),
  agents: whole(agents(services)),
  sessions: sessions(services),
  me: me(services),
  nodes: whole(nodes(services))
})
