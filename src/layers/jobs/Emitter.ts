/** The `Job` service that a handler gets: a method for each kind of event, over the writer of its job. */
import * as Effect from "effect/Effect"
import { type ArcpError, InvalidRequest, toPayload } from "../../protocol/Errors.js"
import type * as Event from "../../protocol/Event.js"
import { timestamp } from "../../protocol/EventText.js"
import type { VendorKind, Writable } from "../../services/agents/VendorEvent.js"
import type { EmitError, EmitOptions, JobService } from "../../services/jobs/Job.js"
import type { Cost } from "../../services/lease/Lease.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { EventEntry, Journal } from "./durable/Journal.js"
import * as EventWriter from "./EventWriter.js"
import * as Faults from "./Faults.js"
import { bounded, isErrorPayload, maxEventBytes } from "./fitting.js"
import * as ResultWriter from "./ResultWriter.js"
import * as Spending from "./Spending.js"

/** What a job emits; the rest of `JobService` is added where the job is started. */
export type EmitService = Omit<
  JobService,
  "delegate" | "credentials" | "rotateCredential" | "step" | "sleep" | "hold" | "input"
>

/** Emits the events of one job, until it is over. */
export interface Emitter {
  readonly service: EmitService
  /** Emits an event of the runtime's own: in which fiber it does is nothing to a durable job. */
  readonly emitAnywhere: (kind: string, body: unknown) => Effect.Effect<void, EmitError>
  /** `Lease.spend` */
  readonly spend: (cost: Cost) => Effect.Effect<void, EmitError>
  /** Tells that a delegation is refused. */
  readonly refused: (
    delegateId: string,
    error: ArcpError,
    entry?: EventEntry | undefined
  ) => Effect.Effect<void, EmitError>
  readonly delegate: (
    body: Event.Body<"delegate">,
    entry?: EventEntry | undefined
  ) => Effect.Effect<void, EmitError>
  /** A status event for one session, its body stored without what is in `secret`, and delivered with it when it is shown. */
  readonly secretStatus: (
    audience: string,
    body: Record<string, unknown>,
    secret: Readonly<Record<string, string>>,
    isShown: Effect.Effect<boolean>
  ) => Effect.Effect<void, EmitError>
  /** Finalises a streamed result that the handler left open; `undefined` when nothing was streamed. */
  readonly finish: ResultWriter.ResultWriter["finish"]
}

/** What the emitter of a job is made of. */
interface EmitterContext extends EventWriter.WriterContext {
  readonly record: JobRecord
  /** Epoch ms. */
  readonly deadline: number | undefined
  readonly resultId: () => string
  /** Whether the submitting session takes chunks; else a streamed result is gathered for one frame. */
  readonly chunked: boolean
  readonly maxStreamedBytes: number
  readonly onSpent?: Spending.OnSpent | undefined
  /** Of a job that survives: how far its result was streamed. */
  readonly journal?: Journal | undefined
}

/** Returns what writes the result of the job, in one piece or streamed. */
const resultOf = (
  context: EmitterContext,
  emitAnywhere: EventWriter.EventWriter["emitAnywhere"]
): ResultWriter.ResultWriter => {
  const { chunked, journal, maxStreamedBytes, options, resultId, whereabouts } = context
  return ResultWriter.make({
    emitChunk: (body, ending, size) =>
      // A job that is being undone has no result. A handler that is run for that goes no further here than it was.
      journal?.settling === true
        ? Effect.withFiberRuntime((fiber) =>
            whereabouts?.isMute(fiber) === true ? journal.halted : Effect.void
          )
        : emitAnywhere(
            "result_chunk",
            body,
            body.more ? { ending } : { ending, awaited: true },
            journal === undefined ? undefined : { entry: { make: () => journal.streamed(body, size) } }
          ),
    before: chunked ? journal?.result : undefined,
    resultId,
    chunked,
    maxChunkBytes: options.maxChunkBytes,
    maxStreamedBytes,
    maxFrameBytes: maxEventBytes(options)
  })
}

/** The error of a call is told, whatever its details are. */
const fittingIn =
  (maxFrameBytes: number) =>
  (body: Event.Body<"tool_result">): Event.Body<"tool_result"> =>
    "error" in body && isErrorPayload(body.error)
      ? { ...body, error: bounded(body.error, maxFrameBytes) }
      : body

/** Returns the service of a handler. */
const serviceOf = (
  { deadline, job, log, options, record }: EmitterContext,
  { emit }: EventWriter.EventWriter,
  { metric }: Spending.Spending,
  { openResult, streamResult }: ResultWriter.ResultWriter
): EmitService => {
  const fitting = fittingIn(options.maxOutboundFrameBytes)

  const vendor = (kind: VendorKind, body: unknown, more?: EmitOptions): Effect.Effect<void, EmitError> =>
    kind.startsWith("x-vendor.")
      ? emit(kind, body, undefined, more)
      : new InvalidRequest({ message: "emit takes kinds x-vendor.<vendor>.<name>" })

  return {
    jobId: record.jobId,
    sessionId: record.sessionId,
    principal: record.principal,
    agent: record.agent,
    traceId: record.traceId,
    lease: record.lease,
    leaseConstraints: record.leaseConstraints ?? {},
    deadline,
    log: (level, message, attributes, options) =>
      emit(
        "log",
        attributes === undefined ? { level, message } : { level, message, attributes },
        undefined,
        options
      ),
    thought: (text, options) => emit("thought", { text }, undefined, options),
    status: EventWriter.looking("status", (phase, more, options) =>
      emit("status", { ...more, phase }, undefined, options)
    ),
    metric,
    toolCall: (body, options) => emit("tool_call", body, undefined, options),
    toolResult: EventWriter.looking("tool_result", (body, options) =>
      emit("tool_result", fitting(body), undefined, options)
    ),
    artifact: (body, options) => emit("artifact_ref", body, undefined, options),
    progress: (body, options) => emit("progress", body, undefined, options),
    emit: <Value>(event: VendorKind | Writable<VendorKind, Value>, value: Value, options?: EmitOptions) =>
      typeof event === "string"
        ? vendor(event, value, options)
        : Effect.flatMap(event.encode(value), (body) => vendor(event.kind, body, options)),
    flush: Effect.tapError(
      Effect.suspend(() => log.flush(job)),
      Faults.blamed
    ),
    openResult,
    streamResult
  }
}

/** Returns the emitter of a job. */
export const make = (context: EmitterContext): Emitter => {
  const { options, whereabouts } = context
  const writer = EventWriter.make(context)
  const { emit, emitAnywhere } = writer
  const spending = Spending.make(context, writer)
  const result = resultOf(context, emitAnywhere)
  const fitting = fittingIn(options.maxOutboundFrameBytes)

  const secretStatus: Emitter["secretStatus"] = (audience, body, secret, isShown) =>
    emitAnywhere("status", body, {
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

  return {
    emitAnywhere,
    service: serviceOf(context, writer, spending, result),
    spend: spending.spend,
    refused: (delegateId, error, entry) =>
      whereabouts === undefined
        ? emit("tool_result", fitting({ call_id: delegateId, error: toPayload(error) }))
        : emitAnywhere(
            "tool_result",
            fitting({ call_id: delegateId, error: toPayload(error) }),
            entry === undefined ? undefined : { awaited: true },
            { entry }
          ),
    delegate: (body, entry) => emitAnywhere("delegate", body, undefined, { entry }),
    secretStatus,
    finish: result.finish
  }
}
