/**
 * How the events of a job come into its log: checked, held to their bounds, and, of a durable job, left out when they were
 * logged before. Per event: a check of the body, one `JSON.stringify`, and the append; no fiber, span or annotation.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { type InternalError, InvalidRequest } from "../../protocol/Errors.js"
import * as Event from "../../protocol/Event.js"
import { timestamp, written } from "../../protocol/EventText.js"
import { cut, withArticle } from "../../protocol/Text.js"
import * as Utf8 from "../../protocol/Utf8.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { EmitError, EmitOptions } from "../../services/jobs/Job.js"
import type { EventLog, JobLog, NewEvent } from "../../services/log/EventLog.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import * as Appending from "./durable/appending.js"
import type { EventEntry } from "./durable/Journal.js"
import type { Origin, RunningStep, Whereabouts } from "./durable/Running.js"
import * as Faults from "./Faults.js"
import { maxEventBytes } from "./fitting.js"

/** What events of a job are written with. */
export interface WriterContext {
  readonly log: EventLog["Type"]
  readonly job: JobLog
  /** Epoch ms. */
  readonly now: () => number
  readonly options: Options
  /** Every emit waits for its commit; otherwise those do that others rely on. */
  readonly awaitEmits: boolean
  /** Of a durable job: what of it was logged before, and where it may emit. */
  readonly whereabouts?: Whereabouts | undefined
}

/** Logs an event that comes from there. */
type Log = (origin: Origin) => Effect.Effect<void, EmitError>

/** Writes the events of one job. */
export interface EventWriter {
  /** Emits an event of the runtime's own, or, of a job that is not durable, of its handler's. */
  readonly emitAnywhere: (
    kind: string,
    body: unknown,
    more?: Partial<NewEvent>,
    origin?: Origin
  ) => Effect.Effect<void, InvalidRequest | InternalError>
  /** Emits an event of the handler's. */
  readonly emit: (
    kind: string,
    body: unknown,
    more?: Partial<NewEvent>,
    emitOptions?: EmitOptions
  ) => Effect.Effect<void, InvalidRequest | InternalError>
  /** Runs `log` for an event of the handler's, unless that says nothing any more, or may not be emitted from where it is run. */
  readonly fromHandler: (emitOptions: EmitOptions, paid: boolean, log: Log) => Effect.Effect<void, EmitError>
  /** Logs an event whose payload is written already, unless its journal knows it. */
  readonly write: (
    kind: string,
    payload: string,
    more?: Partial<NewEvent>,
    entry?: EventEntry
  ) => Effect.Effect<void, InternalError>
}

/** Kinds that whoever emits them acts upon: what they say is stored before anything comes of it. */
const awaitedKinds: ReadonlySet<string> = new Set(["tool_call", "delegate", "artifact_ref"])

/** Returns how an event tells the step that it is in. */
export const tagOf = ({ attempt, key }: RunningStep) => ({ key, attempt })

/** Tells whether an event is a cost, also in a currency that nothing budgets. */
const isCost = (kind: string, body: unknown): boolean =>
  kind === "metric" &&
  typeof body === "object" &&
  body !== null &&
  "name" in body &&
  typeof body.name === "string" &&
  body.name.startsWith("cost.")

/** Returns the JSON text of an event's payload, whose body is checked as it is written: a `toJSON` may have made another thing of it. */
export const checked = (
  kind: string,
  payload: Partial<Event.EventPayload> & { readonly body: unknown; readonly [Vendor.inStep]?: unknown }
): Either.Either<string, InvalidRequest> => {
  const said = written(payload, "")
  if (Either.isLeft(said))
    return Either.left(new InvalidRequest({ message: `bad ${cut(kind, 64)} event: ${said.left}` }))
  const { literal, text } = said.right
  const { body } = literal ? payload : (JSON.parse(text) as { readonly body?: unknown })
  const problem = Event.problem(kind, body)
  return problem === undefined ? Either.right(text) : Either.left(new InvalidRequest({ message: problem }))
}

/** Makes what looks at a body before it is written refuse one that throws when it is looked at. */
export const looking =
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

const anywhere: Origin = {}

/** Returns the writer of a job. */
export const make = (context: WriterContext): EventWriter => {
  const { job, log, whereabouts } = context
  const maxBytes = maxEventBytes(context.options)

  const emitAnywhere: EventWriter["emitAnywhere"] = (kind, body, more, { entry, step } = anywhere) =>
    Effect.suspend((): Effect.Effect<void, InvalidRequest | InternalError> => {
      // A cost counts also after the end, for the jobs above this one.
      if (job.ended && more?.cost === undefined) return Effect.void
      const ts = timestamp(context.now())
      // In one piece: texts joined from parts would be kept as their parts for as long as the log lives.
      const payload = checked(
        kind,
        step === undefined ? { kind, ts, body } : { kind, ts, [Vendor.inStep]: tagOf(step), body }
      )
      return Either.isLeft(payload) ? payload.left : write(kind, payload.right, more, entry)
    })

  const fromHandler: EventWriter["fromHandler"] = (emitOptions, paid, log) =>
    whereabouts === undefined
      ? log(anywhere)
      : Effect.withFiberRuntime((fiber) => {
          if (job.ended) return log(anywhere)
          const verdict = whereabouts.emitted(fiber, emitOptions, paid)
          switch (verdict._tag) {
            case "Ignored":
              return Effect.void
            case "Refused":
              return verdict.error
            case "Logged":
              return log(verdict.origin)
          }
        })

  const emit: EventWriter["emit"] = (kind, body, more, emitOptions) =>
    whereabouts === undefined
      ? emitAnywhere(kind, body, more)
      : fromHandler(emitOptions ?? {}, isCost(kind, body), (origin) => emitAnywhere(kind, body, more, origin))

  const write: EventWriter["write"] = (kind, payload, more, entry) => {
    const isTooLarge = (text: string | undefined) => text !== undefined && Utf8.exceeds(text, maxBytes)
    if (isTooLarge(payload) || isTooLarge(more?.secret?.payload))
      return Faults.limited(
        "event_bytes",
        `${withArticle(kind)} event may have ${maxBytes} bytes; use streamResult or an artifact`
      )
    // What is refused until here, for what it says, is refused again when its handler is run again: that goes the same way then.
    if (entry?.isKnown?.() === true) return Effect.void
    const awaited = context.awaitEmits || awaitedKinds.has(kind)
    const event: NewEvent = { type: "job.event", kind, payload, awaited, ...more }
    return entry === undefined
      ? Effect.tapError(log.append(job, event), Faults.blamed)
      : Effect.asVoid(Appending.append(context, { ...event, makeJournal: entry.make }, entry.refused))
  }

  return { emit, emitAnywhere, fromHandler, write }
}
