/**
 * What is known of one job: its events in order, and what they add up to. Everything is kept with the place of the event
 * that said it, so the state at any event is a matter of looking, not of doing it all again.
 */
import { denials } from "../../../protocol/Errors.js"
import * as Vendor from "../../../protocol/Vendor.js"
import type { JobEvent } from "../../../services/client/ArcpClient.js"
import { refused } from "./text.js"
import { field, isRecord, numberIn, textIn } from "./values.js"

/** Something that takes time: a step, a call of a tool, a question, a delegation. */
export interface Span {
  readonly lane: Lane
  readonly id: string
  readonly name: string
  /** Place of the event that began it. */
  readonly from: number
  readonly startedAt: number
  /** Place of the event that ended it. */
  to: number | undefined
  endedAt: number | undefined
  outcome: "open" | "ended" | "failed" | "denied"
  /** Attempts of a step, of which all are in it. */
  tries: number
}

export type Lane = "step" | "tool" | "input" | "delegate"

/** A value at an event. */
export interface Point<A> {
  readonly index: number
  readonly at: number
  readonly value: A
}

export interface Money {
  readonly currency: string
  readonly amount: number
}

/** A place in the timeline that is no event of the agent's. */
export interface Mark {
  readonly kind: "gap" | "lost" | "back" | "recovered" | "denied"
  readonly text: string
}

export interface Artifact {
  readonly index: number
  readonly uri: string
  readonly contentType: string
  readonly size: number | undefined
}

/** A question that the job asked. */
export interface Question {
  readonly inputId: string
  readonly prompt: string
  readonly schema: unknown
  readonly choices: ReadonlyArray<unknown> | undefined
  readonly about: { readonly value: unknown; readonly sha256: string } | undefined
  readonly expiresAt: string | undefined
  readonly from: number
  to: number | undefined
}

/** How a job has ended. */
export type End =
  | { readonly status: "success"; readonly result: unknown }
  | {
      readonly status: "error" | "cancelled" | "timed_out"
      readonly code: string
      readonly message: string
      readonly details: unknown
      readonly retryable: boolean
    }

/** Tells whether a job has ended for being deleted, so that it is gone in a moment. */
export const isBeingDeleted = ({ end }: Pick<JobModel, "end">): boolean =>
  end !== undefined && end.status !== "success" && textIn(end.details, "reason") === "deleted"

export interface JobModel {
  readonly events: Array<JobEvent>
  readonly times: Array<number>
  readonly spans: Array<Span>
  readonly progress: Array<Point<{ current: number; total?: number; units?: string; message?: string }>>
  readonly phases: Array<Point<{ phase: string; message: string | undefined }>>
  readonly remaining: Array<Point<Money>>
  readonly spent: Array<Point<Money>>
  readonly marks: Array<Point<Mark>>
  readonly artifacts: Array<Artifact>
  readonly questions: Array<Question>
  /** Bytes of a streamed result, as they came. */
  readonly streamed: Array<Point<number>>
  end: End | undefined
  /** When that was, which may be long after the last event; where the runtime does not say so, nobody knows. */
  endedAt: number | undefined
  /** By lane and id, what is not ended. */
  readonly open: Map<string, Span>
  /** Of a job that has ended, delegations whose own end was not known yet. */
  readonly outlived: Map<string, Span>
}

export const empty = (): JobModel => ({
  events: [],
  times: [],
  spans: [],
  progress: [],
  phases: [],
  remaining: [],
  spent: [],
  marks: [],
  artifacts: [],
  questions: [],
  streamed: [],
  end: undefined,
  endedAt: undefined,
  open: new Map(),
  outlived: new Map()
})

/** Tells whether an error says that the lease does not allow something. */
export const isDenial = (error: unknown): boolean => denials.has(textIn(error, "code") ?? "")

const open = (model: JobModel, lane: Lane, id: string, name: string): void => {
  const index = model.events.length - 1
  const span: Span = {
    lane,
    id,
    name,
    from: index,
    startedAt: model.times[index] ?? 0,
    to: undefined,
    endedAt: undefined,
    outcome: "open",
    tries: 1
  }
  model.spans.push(span)
  model.open.set(`${lane} ${id}`, span)
}

const close = (model: JobModel, lane: Lane, id: string, outcome: Span["outcome"]): boolean => {
  const span = model.open.get(`${lane} ${id}`)
  if (span === undefined) return false
  model.open.delete(`${lane} ${id}`)
  span.to = model.events.length - 1
  span.endedAt = model.times[span.to]
  span.outcome = outcome
  return true
}

const point = <A>(model: JobModel, value: A): Point<A> => {
  const index = Math.max(0, model.events.length - 1)
  return { index, at: model.times[index] ?? Date.now(), value }
}

/** Notes something at the newest event; of the connection, which no event tells of, with its own time. */
export const mark = (model: JobModel, value: Mark, at?: number): void => {
  const here = point(model, value)
  model.marks.push(at === undefined ? here : { ...here, at })
}

const takeStep = (model: JobModel, body: unknown): void => {
  const key = textIn(body, "key") ?? "?"
  const state = textIn(body, "state")
  if (state === "ended" || state === "failed") close(model, "step", key, state)
  if (state === "started" || state === "retry") {
    // A retry is more of the same, also after a crash; a step that was told to have failed is begun anew.
    if (state === "started") close(model, "step", key, "failed")
    const isOpen = model.open.has(`step ${key}`)
    if (!isOpen) open(model, "step", key, key)
    const span = model.open.get(`step ${key}`)
    if (span !== undefined && state === "retry") span.tries = numberIn(body, "attempt") ?? span.tries + 1
  }
}

const takeQuestion = (model: JobModel, body: unknown): void => {
  const inputId = textIn(body, "input_id")
  if (inputId === undefined) return
  const choices = field(body, "choices")
  const about = field(body, "about")
  const prompt = textIn(body, "prompt") ?? ""
  open(model, "input", inputId, prompt)
  model.questions.push({
    inputId,
    prompt,
    schema: field(body, "schema"),
    choices: Array.isArray(choices) ? choices : undefined,
    about: isRecord(about) ? { value: about["value"], sha256: textIn(about, "sha256") ?? "" } : undefined,
    expiresAt: textIn(body, "expires_at"),
    from: model.events.length - 1,
    to: undefined
  })
}

const takeAnswer = (model: JobModel, body: unknown): void => {
  const inputId = textIn(body, "input_id") ?? ""
  close(model, "input", inputId, textIn(body, "reason") === "answered" ? "ended" : "failed")
  const question = model.questions.findLast((asked) => asked.inputId === inputId)
  if (question !== undefined) question.to = model.events.length - 1
}

const takeResult = (
  model: JobModel,
  body: { readonly call_id: string; readonly result?: unknown; readonly error?: unknown }
): void => {
  const failed = "error" in body && body.error !== undefined
  const denied = failed && isDenial(body.error)
  const outcome = denied ? "denied" : failed ? "failed" : "ended"
  if (!close(model, "tool", body.call_id, outcome)) close(model, "delegate", body.call_id, outcome)
  if (denied)
    mark(model, {
      kind: "denied",
      text: `${textIn(body.error, "code")}: ${textIn(body.error, "message") ?? ""}${refused(field(body.error, "details"))}`
    })
}

const takeMetric = (model: JobModel, name: string, amount: number, unit: string | undefined): void => {
  if (!name.startsWith("cost.") || unit === undefined) return
  const money = point(model, { currency: unit, amount })
  if (name === "cost.budget.remaining") model.remaining.push(money)
  else model.spent.push(money)
}

/** The characters of base64 stand for three quarters as many bytes. */
const sizeOf = (data: string, encoding: string) =>
  encoding === "base64" ? (data.length * 3) >> 2 : data.length

const takeKnown = (model: JobModel, event: JobEvent): void => {
  switch (event.kind) {
    case "status": {
      const { phase, message } = event.body
      model.phases.push(point(model, { phase, message }))
      if (phase === "recovered")
        mark(model, { kind: "recovered", text: "the runtime was started anew, and the job goes on" })
      return
    }
    case "progress":
      model.progress.push(point(model, event.body as Point<{ current: number }>["value"]))
      return
    case "tool_call":
      return open(model, "tool", event.body.call_id, event.body.tool)
    case "tool_result":
      return takeResult(model, event.body)
    case "delegate":
      return open(model, "delegate", event.body.delegate_id, event.body.agent)
    case "metric":
      return takeMetric(model, event.body.name, event.body.value, event.body.unit)
    case "artifact_ref":
      model.artifacts.push({
        index: model.events.length - 1,
        uri: event.body.uri,
        contentType: event.body.content_type,
        size: event.body.byte_size
      })
      return
    case "result_chunk":
      model.streamed.push(
        point(model, (model.streamed.at(-1)?.value ?? 0) + sizeOf(event.body.data, event.body.encoding))
      )
      return
    case "gap":
      return mark(model, { kind: "gap", text: event.body.message })
    case Vendor.step:
      return takeStep(model, event.body)
    case Vendor.inputRequest:
      return takeQuestion(model, event.body)
    case Vendor.inputClosed:
      return takeAnswer(model, event.body)
    default:
  }
}

/** Characters of a chunk of the result that are kept. */
const mostChunk = 1_000

/** Takes the next event. */
export const take = (model: JobModel, event: JobEvent): void => {
  const at = Date.parse(event.ts)
  model.events.push(event)
  // What no clock says is at the time of the one before.
  model.times.push(Number.isNaN(at) ? (model.times.at(-1) ?? 0) : at)
  takeKnown(model, event)
  // The result is put together elsewhere; twice is too much of it.
  if (event.kind === "result_chunk" && event.body.data.length > mostChunk)
    model.events[model.events.length - 1] = {
      ...event,
      body: { ...event.body, data: `${event.body.data.slice(0, mostChunk)}…` }
    }
}

/** A delegated job has ended: its span ends where the parent is now. Tells whether that was not known. */
export const childEnded = (model: JobModel, delegateId: string, end: End, at: number): boolean => {
  const key = `delegate ${delegateId}`
  const span = model.open.get(key) ?? model.outlived.get(key)
  if (span === undefined) return false
  model.open.delete(key)
  model.outlived.delete(key)
  span.to = Math.max(span.from, model.events.length - 1)
  span.endedAt = at
  span.outcome = end.status === "success" ? "ended" : "failed"
  return true
}

/** Notes how the job has ended, and when; what has not said so has ended with it. */
export const ended = (model: JobModel, end: End, at?: number): void => {
  model.end = end
  model.endedAt = at
  const last = Math.max(0, model.events.length - 1)
  for (const [key, span] of model.open) {
    if (span.lane === "delegate") model.outlived.set(key, span)
    span.to = last
    span.endedAt = at ?? model.times[last]
    span.outcome = end.status === "success" ? "ended" : "failed"
  }
  model.open.clear()
  for (const question of model.questions) question.to ??= last
}
