/** How a running job looks: what is said of each of its events. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { type ArcpError, denials, isArcpError, isRetryable, toPayload } from "../../protocol/Errors.js"
import { membersOf } from "../../protocol/Json.js"
import type { JobStatus } from "../../protocol/Message.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { ArcpClientService, ClientError, JobEvent, JobHandle } from "../../services/client/ArcpClient.js"
import * as Gauge from "./gauge.js"
import * as Lost from "./lost.js"
import { refused } from "./refusal.js"
import type { Screen } from "./screen.js"
import * as Summary from "./summary.js"
import { coloured, json, safe, safeJson } from "./text.js"

const colours = coloured(process.stderr)

const paint = (code: number, text: string) => (colours ? `\u001b[${code}m${safe(text)}\u001b[0m` : safe(text))
const dim = (text: string) => paint(2, text)

const levels: { readonly [level: string]: (text: string) => string } = {
  trace: dim,
  debug: dim,
  info: safe,
  warn: (text) => paint(33, text),
  error: (text) => paint(31, text),
  critical: (text) => paint(31, text)
}

const brief = (value: unknown): string => {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "")
  return text.length > 120 ? `${text.slice(0, 119)}…` : text
}

/** What failed, in red; what the lease did not allow, in yellow. */
const failure = (error: unknown): string => {
  const { code, details, message } = membersOf(error)
  const target = refused(details)
  return typeof code === "string" && denials.has(code)
    ? paint(33, `✗ ${code} ${brief(message ?? "")}${target === undefined ? "" : ` (${target})`}`)
    : paint(31, `← ${brief(error)}`)
}

const suffix = (text: string | undefined): string => (text === undefined ? "" : ` ${text}`)

/** What became of a step, when that is for reading: that it began is told by what it does. */
const step = (body: unknown): string | undefined => {
  const { attempt, key, state } = membersOf(body)
  if (state === "ended") return dim(`· ${brief(key)}`)
  if (state === "retry") return paint(36, `↻ ${brief(key)}, attempt ${brief(attempt)}`)
  return state === "failed" ? paint(31, `✗ ${brief(key)} failed`) : undefined
}

/** What a job asks, and how that is settled, as one line. */
const asked = (jobId: string, kind: string, body: unknown): string => {
  const { by, input_id, prompt, reason } = membersOf(body)
  return kind === Vendor.inputRequest
    ? paint(36, `? ${brief(prompt)}`) + dim(`  (arcp answer ${brief(jobId)} ${brief(input_id)})`)
    : dim(`  ${brief(reason)}${typeof by === "string" ? ` by ${by}` : ""}`)
}

/** An event as one line; `undefined` when it is not for reading. */
const line = (jobId: string, event: JobEvent): string | undefined => {
  switch (event.kind) {
    case "log":
      return (levels[event.body.level] ?? safe)(`${event.body.level.padEnd(5)} ${event.body.message}`)
    case "thought":
      return dim(`· ${brief(event.body.text)}`)
    case "status":
      return paint(36, `▸ ${event.body.phase}`) + safe(suffix(event.body.message))
    case "metric":
      return dim(`  ${event.body.name} ${event.body.value}${suffix(event.body.unit)}`)
    case "tool_call":
      return safe(`→ ${event.body.tool} ${brief(event.body.args)}`)
    case "tool_result":
      return event.body.error === undefined
        ? safe(`← ${brief(event.body.result)}`)
        : failure(event.body.error)
    case "artifact_ref": {
      const { uri, content_type, byte_size } = event.body
      return safe(`⎘ ${uri} (${content_type}${byte_size === undefined ? "" : `, ${byte_size} bytes`})`)
    }
    case "gap":
      return paint(33, `! ${event.body.message}`)
    case "result_chunk":
      return undefined
    case Vendor.step:
      return step(event.body)
    case Vendor.inputRequest:
    case Vendor.inputClosed:
      return asked(jobId, event.kind, event.body)
    default:
      return safe(`${event.kind === "other" ? event.wireKind : event.kind} ${brief(event.body)}`)
  }
}

/** Says that this session is slower than the job: each time that it is, which is of interest once. */
const isSlow = (event: JobEvent): boolean => event.kind === "status" && event.body.phase === "back_pressure"

/** An event as a value of `--json`. */
const asJson = (jobId: string, event: JobEvent): string =>
  json({
    type: "job.event",
    job_id: jobId,
    event_seq: event.eventSeq,
    kind: event.kind === "other" ? event.wireKind : event.kind,
    ts: event.ts,
    body: event.body
  })

/**
 * Shows a job until its end, then its result on stdout. `each` is called with every event; `left` is what was left
 * of the budget before the first of them. Fails with the job's error.
 */
export const show = (
  client: ArcpClientService,
  job: JobHandle,
  options: {
    readonly json: boolean
    readonly screen: Screen
    readonly each?: (event: JobEvent) => Effect.Effect<void>
    /** A person is asked what the job asks, and need not read it twice. */
    readonly asks?: boolean | undefined
    readonly left?: unknown
  }
): Effect.Effect<void, ClientError> =>
  Effect.gen(function* () {
    const { screen } = options
    let toldSlow = false
    const summary = Summary.make()
    const gauge = Gauge.make(job.lease["cost.budget"] ?? [], options.left)
    if (!options.json && gauge.toString() !== "") screen.gauge(gauge.toString())
    const status = yield* Effect.fork(
      Lost.notices(client, (status) =>
        screen.print(paint(status._tag === "Connected" ? 32 : 33, Lost.notice(status) ?? ""))
      )
    )
    yield* job.events.pipe(
      Stream.runForEach((event) =>
        Effect.suspend(() => {
          summary.take(event)
          const more = options.each?.(event) ?? Effect.void
          if (options.json) return Effect.zipRight(Console.log(asJson(job.jobId, event)), more)
          if (event.kind === "progress") screen.progress(event.body)
          else {
            const isAsked = options.asks === true && event.kind === Vendor.inputRequest
            const isKnown = isSlow(event) && toldSlow
            toldSlow ||= isSlow(event)
            const text = isAsked || isKnown ? undefined : line(job.jobId, event)
            if (text !== undefined) screen.print(text)
            if (gauge.take(event)) screen.gauge(gauge.toString())
          }
          return more
        })
      ),
      // The job's own error is reported with its result.
      Effect.ignore
    )
    const sayEnd = (status: string) =>
      options.json
        ? Effect.void
        : Effect.map(job.completedAt, (completedAt) =>
            screen.print(dim(summary.line(status, { createdAt: job.createdAt, completedAt })))
          )
    const result = yield* job.result.pipe(
      Effect.tapError((error) =>
        options.json && isArcpError(error) ? Console.log(endedAs(job.jobId, error)) : Effect.void
      ),
      Effect.tapError((error) => (isArcpError(error) ? sayEnd(statusOf(error)) : Effect.void)),
      Effect.ensuring(Effect.zipRight(Fiber.interrupt(status), Effect.sync(screen.done)))
    )
    yield* options.json
      ? Console.log(json({ type: "job.result", job_id: job.jobId, result: plain(result) }))
      : Effect.sync(() => process.stdout.write(process.stdout.isTTY === true ? shown(result) : text(result)))
    yield* sayEnd("success")
  })

const statusOf = ({ code }: ArcpError): JobStatus =>
  code === "CANCELLED" ? "cancelled" : code === "TIMEOUT" ? "timed_out" : "error"

/** The last line of a job that failed, for those who read values. */
export const endedAs = (jobId: string, error: ArcpError): string =>
  json({ type: "job.error", job_id: jobId, ...toPayload(error), retryable: isRetryable(error) })

const plain = (result: unknown): unknown =>
  result instanceof Uint8Array
    ? { encoding: "base64", data: Buffer.from(result).toString("base64") }
    : (result ?? null)

/** A result as a terminal may show it: bytes as the text that they are, or are not. */
const shown = (result: unknown): string => {
  const written = text(result)
  if (typeof written !== "string") return safe(new TextDecoder().decode(written))
  return typeof result === "string" ? safe(written) : safeJson(written)
}

/** Text as it is, bytes as they are, anything else as JSON. */
const text = (result: unknown): string | Uint8Array => {
  if (result instanceof Uint8Array) return result
  const text = typeof result === "string" ? result : JSON.stringify(result ?? null, null, 2)
  return text.endsWith("\n") ? text : `${text}\n`
}
