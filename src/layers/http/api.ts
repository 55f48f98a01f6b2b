/** The HTTP interface as it is declared: what its routes, its OpenAPI document and clients of the platform are made from. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import * as Message from "../../protocol/Message.js"
import * as Vendor from "../../protocol/Vendor.js"
import { eventStream, jsonLines } from "./events.js"

const text = (description: string) => Schema.String.annotations({ description })
const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optional(schema)

const Patterns = Schema.Record({ key: Schema.String, value: Schema.Array(Schema.String) })
const Terms = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/** A failure: RFC 9457, with the protocol's code. */
export class Problem extends Schema.Class<Problem>("Problem")({
  type: Schema.String,
  title: Schema.String,
  status: Schema.Int,
  detail: Schema.String,
  code: text("a code of the protocol, such as JOB_NOT_FOUND"),
  retryable: Schema.Boolean,
  details: optional(Terms)
}) {}

const problem = (status: number, description: string) =>
  Problem.annotations(HttpApiSchema.annotations({ status, description })).pipe(
    HttpApiSchema.withEncoding({ kind: "Json", contentType: "application/problem+json" })
  )

/** A job as listings show it. */
export const Job = Schema.Struct({
  job_id: Schema.String,
  agent: text("name@version"),
  status: Message.JobStatus,
  lease: Patterns,
  lease_constraints: optional(Terms),
  parent_job_id: Schema.NullOr(Schema.String),
  delegate_id: optional(Schema.String),
  created_at: Schema.String,
  submitted_at: optional(Schema.String),
  [Message.completedAt]: optional(text("when it ended")),
  [Vendor.startAt]: optional(text("of one that has not begun: before when it does not")),
  trace_id: optional(Schema.String),
  waiting_for: optional(
    Schema.Array(Schema.String).annotations({ description: "input_ids that it asks for" })
  ),
  sleeping_until: optional(Schema.String),
  parked: optional(text("why it cannot go on here: its agent, or that version, is not served"))
}).annotations({ identifier: "Job" })

/** A job that was accepted, with what only its submitter is told. */
const Accepted = Schema.Struct({
  ...Job.fields,
  status: optional(
    Message.JobStatus.annotations({ description: "left out: it cannot be told at the moment" })
  ),
  budget: optional(Terms),
  credentials: optional(Schema.Array(Terms))
}).annotations({ identifier: "AcceptedJob" })

/** How a job has ended. */
const Ended = Schema.Struct({
  job_id: Schema.String,
  final_status: Schema.Literal("success", "error", "cancelled", "timed_out"),
  result: optional(Schema.Unknown),
  result_id: optional(text("of a streamed result, which is at …/result")),
  result_size: optional(Schema.Int),
  [Vendor.encoding]: optional(text("json: the streamed result is JSON")),
  summary: optional(Schema.String),
  code: optional(text("of one that failed, as message, retryable and details")),
  message: optional(Schema.String),
  retryable: optional(Schema.Boolean),
  details: optional(Terms),
  completed_at: optional(Schema.String)
}).annotations({ identifier: "EndedJob" })

/** What is submitted: `job.submit` of the protocol. */
export const Submit = Schema.Struct({
  agent: text("name, or name@version"),
  input: optional(
    Schema.Unknown.annotations({ description: "what the agent takes; GET /v1/agents has its schema" })
  ),
  lease_request: optional(
    Patterns.annotations({ description: "what the job may touch and spend: capability to patterns" })
  ),
  lease_constraints: optional(Terms.annotations({ description: "when the lease ends: expires_at" })),
  max_runtime_sec: optional(Schema.Number.annotations({ description: "seconds until the job is ended" })),
  idempotency_key: optional(text("as the header Idempotency-Key; where both are there, they are the same")),
  extensions: optional(Terms)
}).annotations({ identifier: "Submit" })

export const Cancel = Schema.Struct({ reason: optional(text("why, for the record")) }).annotations({
  identifier: "Cancel"
})
export const Answer = Schema.Struct({
  value: Schema.Unknown.annotations({ description: "the answer, as the schema of the question wants it" }),
  about_sha256: optional(text("needed where the question is about something: about.sha256 of its event"))
}).annotations({ identifier: "Answer" })

const jobPath = Schema.Struct({ id: text("job_id") })
const status = (code: number) => ({ status: code })

const submit = HttpApiEndpoint.post("submit", "/v1/jobs")
  .setPayload(Submit)
  .setHeaders(
    Schema.Struct({
      "idempotency-key": optional(text("1 to 256 characters: the same request again is the same job")),
      prefer: optional(text("wait=SECONDS: answer with how the job has ended, if it does by then")),
      traceparent: optional(text("the trace that the job belongs to")),
      tracestate: optional(text("what goes with it"))
    })
  )
  .addSuccess(Accepted.annotations({ description: "the job was begun" }), status(201))
  .addSuccess(
    Schema.Union(Ended, Accepted).annotations({ description: "it has ended, or was there" }),
    status(200)
  )
  .addSuccess(
    Accepted.annotations({ description: "it has not ended in the time given, or that cannot be told" }),
    status(202)
  )
  .annotate(OpenApi.Summary, "Run an agent")

const list = HttpApiEndpoint.get("list", "/v1/jobs")
  .setUrlParams(
    Schema.Struct({
      status: optional(text("one or several, with commas")),
      agent: optional(text("name, or name@version")),
      created_after: optional(Schema.String),
      created_before: optional(Schema.String),
      parent_job_id: optional(Schema.String),
      limit: optional(text("1 to 1000; default 100")),
      cursor: optional(text("next_cursor of the page before"))
    })
  )
  .addSuccess(Schema.Struct({ jobs: Schema.Array(Job), next_cursor: Schema.NullOr(Schema.String) }))
  .annotate(OpenApi.Summary, "Jobs, oldest first")

const job = HttpApiEndpoint.get("job", "/v1/jobs/:id")
  .setPath(jobPath)
  .addSuccess(Job)
  .annotate(OpenApi.Summary, "A job as it is now")

const events = HttpApiEndpoint.get("events", "/v1/jobs/:id/events")
  .setPath(jobPath)
  .setHeaders(
    Schema.Struct({
      accept: optional(text(`${eventStream} (default) or ${jsonLines}`)),
      "last-event-id": optional(text("go on after the event with this number"))
    })
  )
  .setUrlParams(Schema.Struct({ after: optional(text("as Last-Event-ID, which goes before it")) }))
  .addSuccess(HttpApiSchema.Text({ contentType: eventStream }))
  .addSuccess(HttpApiSchema.NoContent)
  .annotate(OpenApi.Summary, "Events of a job, from the log and as they come, to its end")

const result = HttpApiEndpoint.get("result", "/v1/jobs/:id/result")
  .setPath(jobPath)
  .setHeaders(
    Schema.Struct({
      prefer: optional(text("wait=SECONDS")),
      range: optional(text("bytes=FROM-TO")),
      "if-range": optional(text("its ETag: the part only if the result is this one")),
      "if-none-match": optional(text("its ETag: 304 if the result is this one"))
    })
  )
  .addSuccess(Schema.Unknown.annotations({ description: "the result: JSON, text or bytes" }))
  .addSuccess(Schema.Unknown.annotations({ description: "the part of it that was asked for" }), status(206))
  .addSuccess(HttpApiSchema.Empty(304).annotations({ description: "it is the one that is there already" }))
  .addError(problem(416, "the result ends before the part"))
  .annotate(OpenApi.Summary, "The result of a job")

const cancel = HttpApiEndpoint.post("cancel", "/v1/jobs/:id/cancel")
  .setPath(jobPath)
  .setPayload(Cancel)
  .addSuccess(Job.annotations({ description: "the wish is stored" }), status(202))
  .addSuccess(
    Schema.Struct({ job_id: Schema.String }).annotations({
      description: "it is, and the job cannot be read"
    }),
    status(202)
  )
  .annotate(OpenApi.Summary, "Cancel a job; it ends soon after")

/** What was deleted. */
const Deleted = Schema.Struct({
  jobs: Schema.Array(Schema.String).annotations({ description: "job_ids, with what they have delegated to" }),
  sessions: Schema.Int
}).annotations({ identifier: "Deleted" })

const cancelFirst = optional(
  text("true: jobs that have not ended are cancelled first, else nothing is deleted")
)

const remove = HttpApiEndpoint.del("remove", "/v1/jobs/:id")
  .setPath(jobPath)
  .setUrlParams(Schema.Struct({ cancel: cancelFirst }))
  .addSuccess(Deleted)
  .annotate(OpenApi.Summary, "Delete a job for good, as an operator")

const removeAll = HttpApiEndpoint.del("removeAll", "/v1/jobs")
  .setUrlParams(Schema.Struct({ principal: text("whose jobs and sessions"), cancel: cancelFirst }))
  .addSuccess(Deleted)
  .annotate(OpenApi.Summary, "Delete the jobs and sessions of a principal for good, as an operator")

const answer = HttpApiEndpoint.post("answer", "/v1/jobs/:id/inputs/:inputId")
  .setPath(Schema.Struct({ id: text("job_id"), inputId: text("input_id") }))
  .setPayload(Answer)
  .addSuccess(HttpApiSchema.NoContent)
  .annotate(OpenApi.Summary, "Answer what a job asks")

const agents = HttpApiEndpoint.get("agents", "/v1/agents")
  .addSuccess(
    Schema.Struct({
      agents: Schema.Array(
        Schema.Struct({
          name: Schema.String,
          default: optional(Schema.String),
          versions: Schema.Array(
            Schema.Struct({
              version: Schema.String,
              description: optional(Schema.String),
              input_schema: optional(Terms.annotations({ description: "JSON Schema of the input" })),
              examples: optional(Schema.Array(Schema.Unknown))
            })
          )
        })
      )
    })
  )
  .annotate(OpenApi.Summary, "Agents that may be used, with their schemas")

const sessions = HttpApiEndpoint.get("sessions", "/v1/sessions")
  .addSuccess(
    Schema.Struct({
      sessions: Schema.Array(
        Schema.Struct({
          session_id: Schema.String,
          principal: Schema.String,
          state: text("connected, or away: it can be resumed for a while"),
          created_at: Schema.String,
          last_seen_at: Schema.String,
          lag: optional(Schema.Int.annotations({ description: "events that are not acknowledged" }))
        })
      ),
      total: Schema.Int.annotations({ description: "how many there are; the newest 1000 are told" })
    })
  )
  .annotate(OpenApi.Summary, "Sessions of those whose jobs one may list, newest first")

const me = HttpApiEndpoint.get("me", "/v1/me")
  .addSuccess(
    Schema.Struct({
      principal: Schema.String,
      agents: optional(
        Schema.Array(Schema.String).annotations({
          description: "those that the token may use; left out: all"
        })
      ),
      expires_at: optional(text("when the token ends"))
    })
  )
  .annotate(OpenApi.Summary, "Whose the token is")

const nodes = HttpApiEndpoint.get("nodes", "/v1/nodes")
  .addSuccess(
    Schema.Struct({
      nodes: Schema.Array(
        Schema.Struct({
          name: Schema.String,
          self: Schema.Boolean.annotations({ description: "whether it is the one that answers" }),
          state: text("alive, or gone: it has not said so within its expiry"),
          address: optional(text("HOST:PORT, as it was advertised")),
          version: Schema.String,
          started_at: Schema.String,
          silent_ms: Schema.Int,
          jobs: Schema.Int.annotations({ description: "jobs of it that have not ended" }),
          sessions: Schema.Int.annotations({ description: "sessions of it that are connected" })
        })
      )
    })
  )
  .annotate(
    OpenApi.Summary,
    "Nodes of the cluster, for observers and operators; none of a runtime that is alone"
  )

const group = HttpApiGroup.make("v1", { topLevel: true })
  .add(submit)
  .add(list)
  .add(job)
  .add(events)
  .add(result)
  .add(cancel)
  .add(remove)
  .add(removeAll)
  .add(answer)
  .add(agents)
  .add(sessions)
  .add(me)
  .add(nodes)
  .addError(problem(400, "malformed"))
  .addError(problem(401, "no token, or one that is not known or has ended"))
  .addError(problem(403, "the lease or the policy refuses"))
  .addError(problem(404, "no such job, or none that may be seen"))
  .addError(problem(406, "nothing that the request accepts"))
  .addError(problem(409, "not as the job is now"))
  .addError(problem(410, "no longer retained"))
  .addError(problem(413, "the body is too large"))
  .addError(problem(415, "the body is no JSON"))
  .addError(problem(422, "no such agent, or a key that was used otherwise"))
  .addError(problem(429, "a limit is reached"))
  .addError(problem(431, "the headers are too large"))
  .addError(problem(500, "a fault of the runtime"))
  .addError(problem(503, "not at the moment"))
  .addError(problem(504, "not answered in time: whether it was done is not known"))
  .annotate(OpenApi.Title, "Jobs")

/**
 * The HTTP interface of a runtime, for `HttpApiClient` and for documents. The events of a job are a stream: read them with
 * `HttpClient`.
 */
export const api = HttpApi.make("arcp")
  .add(group)
  .annotate(OpenApi.Title, "ARCP over HTTP")
  .annotate(OpenApi.Version, "1.1")
  .annotate(
    OpenApi.Description,
    "Runs agents, follows their jobs through dropped connections, and gets their results."
  )

/** Names of the endpoints. */
export type Name = HttpApiEndpoint.HttpApiEndpoint.Name<HttpApiGroup.HttpApiGroup.Endpoints<typeof group>>

/** A route as it is declared. */
export interface Route {
  readonly name: Name
  readonly method: string
  /** Parts of the path; those that begin with a colon are parameters. */
  readonly path: ReadonlyArray<string>
  /** Names of the parameters that its query may have. */
  readonly query: ReadonlyArray<string>
}

/** Returns the routes of the interface. */
export const routes = (): ReadonlyArray<Route> => {
  const found: Array<Route> = []
  HttpApi.reflect(api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint }) => {
      const { method, name, path, urlParamsSchema } = endpoint
      const query = Option.match(urlParamsSchema, {
        onNone: () => [],
        onSome: ({ ast }) => AST.getPropertySignatures(ast).map((parameter) => String(parameter.name))
      })
      found.push({ name: name as Name, method, path: path.split("/"), query })
    }
  })
  return found
}
