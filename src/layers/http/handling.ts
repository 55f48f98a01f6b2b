/** What handlers are made of: what they work on, what they are asked, and how they answer. */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ArcpError, JobNotFound } from "../../protocol/Errors.js"
import type * as Message from "../../protocol/Message.js"
import type { Identity } from "../../services/auth/Auth.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { FollowedJob } from "../../services/log/EventLog.js"
import type { Sessions } from "../../services/session/Sessions.js"
import { accepted } from "./asked.js"
import type { Line } from "./line.js"
import type { Refused } from "./problems.js"
import type { StreamPlaces } from "./requestPlaces.js"

/** What handlers work on. */
export interface HandlerServices {
  readonly jobs: Jobs["Type"]
  readonly sessions: Pick<Sessions["Type"], "agents" | "forget" | "list" | "nodes">
  readonly maxBodyBytes: number
  readonly heartbeat: Duration.Duration
  readonly streams: StreamPlaces
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
  readonly now: () => number
}

/** A request that has found its route, and of which it is known who asks. */
export interface Call {
  readonly identity: Identity
  readonly params: Readonly<Record<string, string>>
  /** Has the parameters of the route at the most, each once. */
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

/** Answers with JSON. */
export const respond = (
  value: unknown,
  status = 200,
  headers: Readonly<Record<string, string>> = {}
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(`${JSON.stringify(value)}\n`, {
    status,
    headers: { "cache-control": "no-store", ...headers },
    contentType: json
  })

/** The headers of the request in context. */
export const headers = Effect.map(
  HttpServerRequest.HttpServerRequest,
  (request): Readonly<Record<string, string | undefined>> => request.headers
)

/** Fails with 406 when the request takes no JSON. */
export const jsonOnly = Effect.flatMap(headers, ({ accept }) => accepted(accept, [json]))

/** Returns the id of the job that a request is about. */
export const idOf = ({ params }: Call): string => params["id"] ?? ""

/** Characters that an id may have in a frame. */
const longestId = 256

/**
 * Returns the id of the job that a frame is about. Fails with what is said of a job that there is not, where no frame could hold it:
 * that is no mistake of the frame's form to whoever has sent none.
 */
export const framedId = (call: Call): Effect.Effect<string, JobNotFound> =>
  idOf(call).length > longestId ? new JobNotFound({ message: "no such job" }) : Effect.succeed(idOf(call))

/** Lets a job be read in shares of a turn, like whatever else is asked. */
export const followed = (
  { jobs, share }: HandlerServices,
  call: Call
): Effect.Effect<FollowedJob, ArcpError, Scope.Scope> =>
  Effect.map(jobs.follow(call.identity, idOf(call)), (job) => ({
    ...job,
    read: (after) => Effect.zipRight(share, job.read(after))
  }))

/** Epoch milliseconds at which the token ends with which it is asked. */
export const untilOf = ({ identity }: Call): number => identity.expiresAt ?? Number.POSITIVE_INFINITY

/**
 * Reads what an answer tells of a job that has been changed already; `undefined` when it cannot be read. That is no failure of
 * the request: whoever is told of one asks again, and has a second job.
 */
export const ifReadable = <A, R>(
  read: Effect.Effect<A, ArcpError | Refused, R>
): Effect.Effect<A | undefined, never, R> => Effect.orElseSucceed(read, () => undefined)

/** A job as it is shown: without the number of its newest event in a session that nobody asks with. */
export const shown = ({ last_event_seq: _last, ...entry }: Message.JobEntry) => entry
