/** A submit: what the frame of it is made of, and the answer, with how the job has ended where that is waited for. */
import * as Effect from "effect/Effect"
import { InvalidRequest } from "../../protocol/Errors.js"
import { isRecord } from "../../protocol/Json.js"
import * as Trace from "../../protocol/Trace.js"
import * as Vendor from "../../protocol/Vendor.js"
import { Submit } from "./api.js"
import { body, preferences, unquoted } from "./asked.js"
import {
  followed,
  type Handler,
  type HandlerServices,
  headers,
  ifReadable,
  jsonOnly,
  respond,
  shown,
  untilOf
} from "./handling.js"
import * as Results from "./results.js"

/** The trace that a request belongs to, as a submit says it. */
const tracing = ({ traceparent, tracestate }: Readonly<Record<string, string | undefined>>) => {
  const context = { traceparent, tracestate }
  const found = Trace.remoteSpan(undefined, context)
  return found === undefined ? {} : { traceId: found.traceId, extensions: { [Trace.extension]: context } }
}

const members = Object.keys(Submit.fields)

/** Reads what is submitted: the payload of the frame, and what is beside it. */
const submitted = (services: HandlerServices) =>
  Effect.gen(function* () {
    const asked = yield* headers
    const { extensions, ...payload } = (yield* body(services.maxBodyBytes, members)) ?? {}
    if (extensions !== undefined && !isRecord(extensions))
      return yield* new InvalidRequest({ message: "extensions: expected an object" })
    const header = asked["idempotency-key"]
    const key = header === undefined ? payload["idempotency_key"] : unquoted(header)
    // With one of the two the request would be another's job, or be done again.
    if (payload["idempotency_key"] !== undefined && payload["idempotency_key"] !== key)
      return yield* new InvalidRequest({
        message: "idempotency_key: is another than that of the header Idempotency-Key"
      })
    const trace = tracing(asked)
    // Without one, what is submitted is what `null` is.
    const input = extensions?.[Vendor.fork] === undefined ? { input: payload["input"] ?? null } : {}
    return {
      payload: { ...payload, ...input, ...(key === undefined ? {} : { idempotency_key: key }) },
      options: { ...trace, extensions: { ...extensions, ...trace.extensions } }
    }
  })

/** A job as its accept tells of it: all but how it is now, and with what only its submitter is told. */
const accepted = ({
  accepted_at: at,
  request_id: _request,
  [Vendor.existing]: _existing,
  [Trace.extension]: _trace,
  ...job
}: Readonly<Record<string, unknown>>) => ({
  parent_job_id: null,
  ...job,
  created_at: at,
  submitted_at: at
})

/** Submits a job. */
export const submit =
  (services: HandlerServices): Handler =>
  (call) =>
    Effect.gen(function* () {
      yield* jsonOnly
      const { wait } = preferences((yield* headers)["prefer"])
      const { options, payload } = yield* submitted(services)
      const waits = wait !== undefined && wait > 0
      if (waits) yield* services.streams.take(call.identity.principal)
      const line = yield* call.line
      const answer = yield* line.ask("job.submit", payload, options)
      const id = String(answer["job_id"])
      const location = { location: `/v1/jobs/${id}` }
      const applied = wait === undefined ? {} : { "preference-applied": `wait=${wait}` }
      if (waits) {
        const waiting = { seconds: wait, until: untilOf(call), now: services.now }
        const job = followed(services, { ...call, params: { id } })
        const end = yield* ifReadable(Effect.flatMap(job, (read) => Results.ended(read, waiting)))
        if (end !== undefined)
          return respond({ job_id: id, ...JSON.parse(end.payload) }, 200, { ...location, ...applied })
      }
      const entry = yield* ifReadable(Effect.map(services.jobs.entry(call.identity, id), shown))
      const status = answer[Vendor.existing] === true ? 200 : wait === undefined ? 201 : 202
      return respond({ ...accepted(answer), ...entry }, status, { ...location, ...applied })
    })
