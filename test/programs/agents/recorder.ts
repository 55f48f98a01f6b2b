/** A `Job` that records what its handler emits; and the way a runtime runs a handler. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { InvalidRequest } from "../../../src/protocol/Errors.js"
import { problem } from "../../../src/protocol/Event.js"
import type * as Agent from "../../../src/services/agents/Agent.js"
import { type EmitError, Job, type JobService, type RunStep, Step } from "../../../src/services/jobs/Job.js"
import { Lease, type LeaseService } from "../../../src/services/lease/Lease.js"

export interface Recorded {
  readonly kind: string
  readonly body: Readonly<Record<string, unknown>>
}

export interface Recorder {
  readonly events: Array<Recorded>
  /** Pieces of the streamed result, and whether it was ended. */
  readonly written: Array<string | Uint8Array>
  encoding: string | undefined
  ended: boolean
  readonly service: JobService
}

/** `commit` is what an emit waits for after it was recorded. */
export const recorder = (commit: Effect.Effect<void> = Effect.void): Recorder => {
  const record = (kind: string, body: unknown): Effect.Effect<void, EmitError> =>
    Effect.suspend(() => {
      const wrong = problem(kind, body)
      if (wrong !== undefined) return new InvalidRequest({ message: wrong })
      self.events.push({ kind, body: body as Recorded["body"] })
      return commit
    })
  const write = (data: string | Uint8Array): Effect.Effect<void, EmitError> =>
    Effect.suspend(() => {
      if (self.ended) return new InvalidRequest({ message: "ended" })
      self.written.push(data)
      return commit
    })
  const outcomes = new Map<string, string>()
  /** Has successes again, in the form of JSON. */
  const step: RunStep = (key, effect) => {
    const has = Effect.sync(() => JSON.parse(outcomes.get(key) as string) as never)
    const run = Effect.map(
      Effect.provideService(effect, Step, { key, attempt: 1, idempotencyKey: `job_1:${key}` }),
      (value) => void outcomes.set(key, JSON.stringify(value ?? null))
    )
    return Effect.suspend(() => (outcomes.has(key) ? has : Effect.zipRight(run, has)))
  }
  const self: Recorder = {
    events: [],
    written: [],
    encoding: undefined,
    ended: false,
    service: {
      jobId: "job_1",
      sessionId: "sess_1",
      principal: "alice",
      agent: "test@1",
      traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
      lease: {},
      leaseConstraints: {},
      deadline: undefined,
      log: (level, message, attributes) =>
        record("log", { level, message, ...(attributes === undefined ? {} : { attributes }) }),
      thought: (text) => record("thought", { text }),
      status: (phase, more) => record("status", { ...more, phase }),
      metric: (body) => record("metric", body),
      toolCall: (body) => record("tool_call", body),
      toolResult: (body) => record("tool_result", body),
      artifact: (body) => record("artifact_ref", body),
      progress: (body) => record("progress", body),
      emit: (event: string | { readonly kind: string }, body: unknown) =>
        record(typeof event === "string" ? event : event.kind, body),
      flush: Effect.void,
      step,
      sleep: () => Effect.die("not used here"),
      input: () => Effect.die("not used here"),
      openResult: (encoding = "utf8") =>
        Effect.sync(() => {
          self.encoding = encoding
          return {
            resultId: "res_1",
            write,
            end: (data = "") =>
              Effect.zipRight(
                write(data),
                Effect.sync(() => {
                  self.ended = true
                })
              )
          }
        }),
      streamResult: () => Effect.die("not used here"),
      delegate: () => Effect.die("not used here"),
      credentials: Effect.succeed([]),
      rotateCredential: () => Effect.die("not used here")
    }
  }
  return self
}

/** A lease that allows whatever it is asked. */
const anything: LeaseService = {
  flushed: Effect.void,
  terms: {},
  constraints: {},
  bounds: {},
  workspace: undefined,
  fetching: { maxBytes: 1024 * 1024, timeout: Duration.minutes(1), traceHeaders: false },
  authorize: (_, target) => Effect.succeed(target),
  check: (_, target) => Either.right(target),
  namesHost: () => true,
  remaining: Effect.succeed(new Map()),
  spend: () => Effect.void
}

/** Decodes the input and runs the handler of `name@version` (or the only one of that name). */
export const run = <R>(
  agents: ReadonlyArray<Agent.Registered<R>>,
  ref: string,
  input: unknown,
  job: Recorder
) => {
  const agent = agents.find(({ name, version }) => ref === name || ref === `${name}@${version}`)
  if (agent === undefined) throw new Error(`no agent ${ref}`)
  return Effect.flatten(agent.prepare(input)).pipe(
    Effect.provideService(Job, job.service),
    Effect.provideService(Lease, anything),
    Effect.scoped
  )
}
