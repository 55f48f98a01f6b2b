/**
 * The `Job` service that a handler gets. Per event: a check of the body, one `JSON.stringify`, and the
 * append; no fiber, span or annotation.
 */

import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Budget from "../../protocol/Budget.js"
import { type ArcpError, type InternalError, InvalidRequest, toPayload } from "../../protocol/Errors.js"
import * as Event from "../../protocol/Event.js"
import { timestamp, written } from "../../protocol/EventText.js"
import * as Utf8 from "../../protocol/Utf8.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { VendorKind, Writable } from "../../services/agents/VendorEvent.js"
import type { EmitError, EmitOptions, JobService } from "../../services/jobs/Job.js"
import type { Cost } from "../../services/lease/Lease.js"
import type { EventLog, JobLog, NewEvent } from "../../services/log/EventLog.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { JobRecord, JournalEntry } from "../../services/store/Store.js"
import type { Journal } from "./durable/Journal.js"
import type { RunningStep, Whereabouts } from "./durable/Running.js"
import * as Faults from "./Faults.js"
import { bounded, isErrorPayload, maxEventBytes } from "./fitting.js"
import * as ResultWriter from "./ResultWriter.js"

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
    journal?: JournalEntry | undefined
  ) => Effect.Effect<void, EmitError>
  readonly delegate: (
    body: Event.Body<"delegate">,
    journal?: JournalEntry | undefined
  ) => Effect.Effect<void, EmitError>
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

const uncountable = (what: string) =>
  new InvalidRequest({
    message: `${what}: a cost is a decimal number with at most ${Budget.maxDigits} digits before and after the point`
  })

const noMore: Partial<NewEvent> = {}

const tagOf = ({ attempt, key }: RunningStep) => ({ key, attempt })

/** Tells whether an event is a cost, also in a currency that nothing budgets. */
const isCost = (kind: string, body: unknown): boolean =>
  kind === "metric" &&
  typeof body === "object" &&
  body !== null &&
  "name" in body &&
  typeof body.name === "string" &&
  body.name.startsWith("cost.")

/** The JSON text of an event's payload, whose body is checked as it is written: a `toJSON` may have made another thing of it. */
const checked = (
  kind: string,
  payload: Partial<Event.EventPayload> & { readonly body: unknown; readonly [Vendor.inStep]?: unknown }
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
  /** Told of each cost that is counted; default: nobody is. */
  readonly onSpent?: ((currency: string | undefined, amount: BigDecimal.BigDecimal) => void) | undefined
  /** Of a durable job: what of it was logged before, and where it may emit. */
  readonly whereabouts?: Whereabouts | undefined
  /** Of a job that survives: how far its result was streamed. */
  readonly journal?: Journal | undefined
}): Emitter => {
  const { journal, log, job, record, options, whereabouts } = context
  const maxBytes = maxEventBytes(options)

  /** Emits an event of the runtime's own, or, of a job that is not durable, of its handler's. */
  const emitAnywhere = (
    kind: string,
    body: unknown,
    more?: Partial<NewEvent>,
    step?: RunningStep
  ): Effect.Effect<void, InvalidRequest | InternalError> =>
    Effect.suspend((): Effect.Effect<void, InvalidRequest | InternalError> => {
      // A cost counts also after the end, for the jobs above this one.
      if (job.ended && more?.cost === undefined) return Effect.void
      const ts = timestamp(context.now())
      // In one piece: texts joined from parts would be kept as their parts for as long as the log lives.
      const payload = checked(
        kind,
        step === undefined ? { kind, ts, body } : { kind, ts, [Vendor.inStep]: tagOf(step), body }
      )
      return Either.isLeft(payload) ? payload.left : write(kind, payload.right, more)
    })

  /** Runs `log` unless what it logs was logged before, or may not be from where it is run. */
  const known = (
    whereabouts: Whereabouts,
    emitOptions: EmitOptions,
    paid: boolean,
    log: (more: Partial<NewEvent>, step: RunningStep | undefined) => Effect.Effect<void, EmitError>
  ): Effect.Effect<void, EmitError> =>
    Effect.withFiberRuntime((fiber) => {
      if (job.ended) return log({}, undefined)
      const verdict = whereabouts.emitted(fiber, emitOptions, paid)
      switch (verdict._tag) {
        case "Known":
          return Effect.void
        case "Refused":
          return verdict.error
        case "Logged":
          return log({ journal: verdict.journal }, verdict.step)
      }
    })

  const emit = (
    kind: string,
    body: unknown,
    more?: Partial<NewEvent>,
    emitOptions?: EmitOptions
  ): Effect.Effect<void, InvalidRequest | InternalError> =>
    whereabouts === undefined
      ? emitAnywhere(kind, body, more)
      : known(whereabouts, emitOptions ?? {}, isCost(kind, body), (also, step) =>
          emitAnywhere(kind, body, { ...more, ...also }, step)
        )

  const write = (
    kind: string,
    payload: string,
    more?: Partial<NewEvent>
  ): Effect.Effect<void, InternalError> => {
    const isTooLarge = (text: string | undefined) => text !== undefined && Utf8.exceeds(text, maxBytes)
    if (isTooLarge(payload) || isTooLarge(more?.secret?.payload))
      return Faults.limited(
        "event_bytes",
        `a ${kind} event may have ${maxBytes} bytes; use streamResult or an artifact`
      )
    const awaited = context.awaitEmits || awaitedKinds.has(kind)
    const event: NewEvent = { type: "job.event", kind, payload, awaited, ...more }
    return Effect.tapError(log.append(job, event), Faults.blamed)
  }

  /** The error of a call is told, whatever its details are. */
  const fitting = (body: Event.Body<"tool_result">): Event.Body<"tool_result"> =>
    "error" in body && isErrorPayload(body.error)
      ? { ...body, error: bounded(body.error, options.maxOutboundFrameBytes) }
      : body

  const vendor = (kind: VendorKind, body: unknown, more?: EmitOptions): Effect.Effect<void, EmitError> =>
    kind.startsWith("x-vendor.")
      ? emit(kind, body, undefined, more)
      : new InvalidRequest({ message: "emit takes kinds x-vendor.<vendor>.<name>" })

  const metric = looking(
    "metric",
    (body: Event.Body<"metric">, more?: EmitOptions): Effect.Effect<void, EmitError> => {
      const { name, value, unit } = body
      if (typeof name !== "string" || !name.startsWith("cost.")) return emit("metric", body, undefined, more)
      if (name === "cost.budget.remaining")
        return new InvalidRequest({ message: "cost.budget.remaining is the runtime's own metric" })
      if (!(value >= 0))
        return new InvalidRequest({ message: `${name}: a cost is a number, and not negative` })
      const amount = Budget.amount(value)
      return amount === undefined ? uncountable(name) : emit("metric", body, costOf(unit, amount), more)
    }
  )

  /** What has a cost waits for its commit, also where no budget counts it. */
  const costOf = (currency: string | undefined, amount: BigDecimal.BigDecimal): Partial<NewEvent> => {
    const onCommit = context.onSpent && (() => context.onSpent?.(currency, amount))
    return currency !== undefined && job.budgets(currency)
      ? { awaited: true, onCommit, cost: { currency, amount } }
      : { awaited: true, onCommit }
  }

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
    if (job.ended && counted.cost === undefined) return Effect.void
    const log = (more: Partial<NewEvent>, step?: RunningStep) => {
      const tag = step === undefined ? "" : `"${Vendor.inStep}":${JSON.stringify(tagOf(step))},`
      const ts = timestamp(context.now())
      return write("metric", `{"kind":"metric","ts":"${ts}",${tag}"body":${body}}`, { ...counted, ...more })
    }
    return whereabouts === undefined ? log(noMore) : known(whereabouts, {}, true, log)
  })

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

  const result = ResultWriter.make({
    emitChunk: (body, ending, size) =>
      // A handler that is run for its compensations only streams no further.
      journal?.settling === true
        ? Effect.never
        : emitAnywhere("result_chunk", body, {
            ending,
            ...(body.more ? {} : { awaited: true }),
            ...(journal === undefined ? {} : { journal: journal.streamed(body, size) })
          }),
    before: context.chunked ? journal?.result : undefined,
    resultId: context.resultId,
    chunked: context.chunked,
    maxChunkBytes: options.maxChunkBytes,
    maxStreamedBytes: context.maxStreamedBytes,
    maxFrameBytes: maxBytes
  })

  return {
    emitAnywhere,
    service: {
      jobId: record.jobId,
      sessionId: record.sessionId,
      principal: record.principal,
      agent: record.agent,
      traceId: record.traceId,
      lease: record.lease,
      leaseConstraints: record.leaseConstraints ?? {},
      deadline: context.deadline,
      log: (level, message, attributes, options) =>
        emit(
          "log",
          attributes === undefined ? { level, message } : { level, message, attributes },
          undefined,
          options
        ),
      thought: (text, options) => emit("thought", { text }, undefined, options),
      status: looking("status", (phase, more, options) =>
        emit("status", { ...more, phase }, undefined, options)
      ),
      metric,
      toolCall: (body, options) => emit("tool_call", body, undefined, options),
      toolResult: looking("tool_result", (body, options) =>
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
      openResult: result.openResult,
      streamResult: result.streamResult
    },
    spend,
    refused: (delegateId, error, journal) =>
      whereabouts === undefined
        ? emit("tool_result", fitting({ call_id: delegateId, error: toPayload(error) }))
        : emitAnywhere(
            "tool_result",
            fitting({ call_id: delegateId, error: toPayload(error) }),
            journal === undefined ? noMore : { journal, awaited: true }
          ),
    delegate: (body, journal) => emitAnywhere("delegate", body, journal === undefined ? noMore : { journal }),
    secretStatus,
    finish: result.finish
  }
}
