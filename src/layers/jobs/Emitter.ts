/**
 * The `Job` service that a handler gets. Per event: a check of the body, one `JSON.stringify`, and the
 * append; no fiber, span or annotation.
 */

import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Budget from "../../protocol/Budget.js"
import { InternalError, InvalidRequest } from "../../protocol/Errors.js"
import * as Event from "../../protocol/Event.js"
import { eventPayload, timestamp, written } from "../../protocol/EventText.js"
import type { VendorKind, Writable } from "../../services/agents/VendorEvent.js"
import type { EmitError, JobService } from "../../services/jobs/Job.js"
import type { Cost } from "../../services/lease/Lease.js"
import type { EventLog, JobLog, NewEvent } from "../../services/log/EventLog.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Faults from "./Faults.js"
import { bounded, envelopeBytes, isErrorPayload } from "./fitting.js"
import * as ResultWriter from "./ResultWriter.js"

/** What a job emits; the rest of `JobService` is added where the job is started. */
export type EmitService = Omit<JobService, "delegate" | "credentials" | "rotateCredential">

/** Emits the events of one job, until it is over. */
export interface Emitter {
  readonly service: EmitService
  /** `Lease.spend` */
  readonly spend: (cost: Cost) => Effect.Effect<void, EmitError>
  readonly delegate: (body: Event.Body<"delegate">) => Effect.Effect<void, EmitError>
  /** A status event for one session, its body stored without what is in `secret`, and delivered with it when it is shown. */
  readonly secretStatus: (
    audience: string,
    body: Record<string, unknown>,
    secret: Readonly<Record<string, string>>,
    isShown: () => boolean
  ) => Effect.Effect<void, EmitError>
  /** Finalises a streamed result that the handler left open; `undefined` when nothing was streamed. */
  readonly finish: ResultWriter.ResultWriter["finish"]
}

/** Kinds that whoever emits them acts upon: what they say is stored before anything comes of it. */
const awaitedKinds: ReadonlySet<string> = new Set(["tool_call", "delegate", "artifact_ref"])

/** What the log fails with is the runtime's fault. */
const blame = (error: InternalError) => Effect.sync(() => Faults.blame(error))

const limitError = (limit: string, message: string) => new InternalError({ message, details: { limit } })

const uncountable = (what: string) =>
  new InvalidRequest({
    message: `${what}: a cost is a decimal number with at most ${Budget.maxDigits} digits before and after the point`
  })

/** The JSON text of an event's payload, whose body is checked as it is written: a `toJSON` may have made another thing of it. */
const checked = (
  kind: string,
  payload: Partial<Event.EventPayload> & { readonly body: unknown }
): Either.Either<string, InvalidRequest> => {
  const said = written(payload, "")
  if (Either.isLeft(said))
    return Either.left(new InvalidRequest({ message: `bad ${kind.slice(0, 64)} event: ${said.left}` }))
  const { literal, text } = said.right
  const { body } = literal ? payload : (JSON.parse(text) as { readonly body?: unknown })
  const problem = Event.problem(kind, body)
  return problem === undefined ? Either.right(text) : Either.left(new InvalidRequest({ message: problem }))
}

/** Makes what looks at a body before it is written refuse one that throws when it is looked at. */
const looking =
  <Args extends ReadonlyArray<unknown>>(
    kind: string,
    method: (...args: Args) => Effect.Effect<void, EmitError>
  ) =>
  (...args: Args): Effect.Effect<void, EmitError> => {
    try {
      return method(...args)
    } catch {
      return new InvalidRequest({ message: `bad ${kind} event: body: cannot be read` })
    }
  }

/** Returns the emitter of a job. */
export const make = (context: {
  readonly log: EventLog["Type"]
  readonly job: JobLog
  readonly record: JobRecord
  readonly deadline: number | undefined
  readonly now: () => number
  readonly resultId: () => string
  readonly options: Options
  /** Every emit waits for its commit; otherwise those do that others rely on. */
  readonly awaitEmits: boolean
  /** Whether the submitting session takes chunks; else a streamed result is gathered for one frame. */
  readonly chunked: boolean
  readonly maxStreamedBytes: number
}): Emitter => {
  const { log, job, record, options } = context
  const maxBytes = options.maxOutboundFrameBytes - envelopeBytes

  const emit = (
    kind: string,
    body: unknown,
    more?: Partial<NewEvent>
  ): Effect.Effect<void, InvalidRequest | InternalError> =>
    Effect.suspend((): Effect.Effect<void, InvalidRequest | InternalError> => {
      // A cost counts also after the end, for the jobs above this one.
      if (job.ended && more?.cost === undefined) return Effect.void
      // In one piece: texts joined from parts would be kept as their parts for as long as the log lives.
      const payload = checked(kind, { kind, ts: timestamp(context.now()), body })
      return Either.isLeft(payload) ? payload.left : write(kind, payload.right, more)
    })

  const write = (
    kind: string,
    payload: string,
    more?: Partial<NewEvent>
  ): Effect.Effect<void, InternalError> => {
    const isTooLarge = (text: string | undefined) =>
      text !== undefined && ResultWriter.exceeds(text, maxBytes)
    if (isTooLarge(payload) || isTooLarge(more?.secret?.payload))
      return limitError(
        "event_bytes",
        `a ${kind} event may have ${maxBytes} bytes; use streamResult or an artifact`
      )
    const awaited = context.awaitEmits || awaitedKinds.has(kind)
    const event: NewEvent = { type: "job.event", kind, payload, awaited, ...more }
    return Effect.tapError(log.append(job, event), blame)
  }

  /** The error of a call is told, whatever its details are. */
  const fitting = (body: Event.Body<"tool_result">): Event.Body<"tool_result"> =>
    "error" in body && isErrorPayload(body.error)
      ? { ...body, error: bounded(body.error, options.maxOutboundFrameBytes) }
      : body

  const vendor = (kind: VendorKind, body: unknown): Effect.Effect<void, EmitError> =>
    kind.startsWith("x-vendor.")
      ? emit(kind, body)
      : new InvalidRequest({ message: "emit takes kinds x-vendor.<vendor>.<name>" })

  const metric = looking("metric", (body: Event.Body<"metric">): Effect.Effect<void, EmitError> => {
    const { name, value, unit } = body
    if (typeof name !== "string" || !name.startsWith("cost.")) return emit("metric", body)
    if (name === "cost.budget.remaining")
      return new InvalidRequest({ message: "cost.budget.remaining is the runtime's own metric" })
    if (!(value >= 0)) return new InvalidRequest({ message: `${name}: a cost is a number, and not negative` })
    const amount = Budget.amount(value)
    return amount === undefined ? uncountable(name) : emit("metric", body, costOf(unit, amount))
  })

  /** What has a cost waits for its commit, also where no budget counts it. */
  const costOf = (currency: string | undefined, amount: BigDecimal.BigDecimal): Partial<NewEvent> =>
    currency !== undefined && job.budgets(currency)
      ? { awaited: true, cost: { currency, amount } }
      : { awaited: true }

  const spend = looking("metric", (cost: Cost): Effect.Effect<void, EmitError> => {
    const amount = Budget.amount(cost.amount)
    if (amount === undefined) return uncountable("a cost")
    if (BigDecimal.isNegative(amount)) return new InvalidRequest({ message: "a cost is not negative" })
    const { currency: unit, dimensions, name: of = "other" } = cost
    const name = typeof of === "string" ? `cost.${of}` : of
    if (name === "cost.budget.remaining")
      return new InvalidRequest({ message: "cost.budget.remaining is the runtime's own metric" })
    const rest = checked("metric", { body: { value: 0, name, unit, dimensions } })
    if (Either.isLeft(rest)) return rest.left
    // The decimal as it is: through a JavaScript number it would lose digits, and the log is what counts.
    const body = `{"value":${Budget.format(amount)}${rest.right.slice(`{"body":{"value":0`.length, -1)}`
    const counted = costOf(cost.currency, amount)
    return job.ended && counted.cost === undefined
      ? Effect.void
      : write("metric", eventPayload("metric", timestamp(context.now()), body), counted)
  })

  const secretStatus: Emitter["secretStatus"] = (audience, body, secret, isShown) =>
    emit("status", body, {
      audience,
      secret: {
        payload: JSON.stringify({
          kind: "status",
          ts: timestamp(context.now()),
          body: { ...body, ...secret }
        }),
        values: Object.values(secret),
        isShown
      }
    })

  const result = ResultWriter.make({
    emitChunk: (body, ending) =>
      emit("result_chunk", body, body.more ? { ending } : { ending, awaited: true }),
    resultId: context.resultId,
    chunked: context.chunked,
    maxChunkBytes: options.maxChunkBytes,
    maxStreamedBytes: context.maxStreamedBytes,
    maxFrameBytes: maxBytes
  })

  return {
    service: {
      jobId: record.jobId,
      sessionId: record.sessionId,
      principal: record.principal,
      agent: record.agent,
      traceId: record.traceId,
      lease: record.lease,
      leaseConstraints: record.leaseConstraints ?? {},
      deadline: context.deadline,
      log: (level, message, attributes) =>
        emit("log", attributes === undefined ? { level, message } : { level, message, attributes }),
      thought: (text) => emit("thought", { text }),
      status: looking("status", (phase, more) => emit("status", { ...more, phase })),
      metric,
      toolCall: (body) => emit("tool_call", body),
      toolResult: looking("tool_result", (body) => emit("tool_result", fitting(body))),
      artifact: (body) => emit("artifact_ref", body),
      progress: (body) => emit("progress", body),
      emit: <Value>(event: VendorKind | Writable<VendorKind, Value>, value: Value) =>
        typeof event === "string"
          ? vendor(event, value)
          : Effect.flatMap(event.encode(value), (body) => vendor(event.kind, body)),
      flush: Effect.tapError(
        Effect.suspend(() => log.flush(job)),
        blame
      ),
      openResult: result.openResult,
      streamResult: result.streamResult
    },
    spend,
    delegate: (body) => emit("delegate", body),
    secretStatus,
    finish: result.finish
  }
}
