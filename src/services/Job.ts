/** What a handler sees of the job it runs in: its identity, and one method per kind of event (§8). */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { InternalError, InvalidRequest } from "../protocol/Errors.js"
import type { Body, LogLevel } from "../protocol/Event.js"
import type { Lease, LeaseConstraints } from "../protocol/Lease.js"

/**
 * Why an event was not logged: `InvalidRequest` when its body breaks the schema of its kind (nothing
 * else is affected), `InternalError` when the log could not commit it or a size limit was passed.
 */
export type EmitError = InvalidRequest | InternalError

/** A result that is delivered in chunks. Chunks are numbered and finalised by the runtime. */
export interface ResultStream {
  readonly resultId: string
  /** Emits one chunk, at most 1 MiB. Text must be well-formed; bytes need the `base64` encoding. */
  readonly write: (data: string | Uint8Array) => Effect.Effect<void, EmitError>
  /** Emits the last chunk. A handler that returns without it gets an empty last chunk. */
  readonly end: (data?: string | Uint8Array) => Effect.Effect<void, EmitError>
}

/** An emit returns when the event is committed, whether or not anybody is connected. */
export interface JobService {
  readonly jobId: string
  readonly sessionId: string
  readonly principal: string
  /** `name@version` */
  readonly agent: string
  readonly traceId: string
  readonly lease: Lease
  readonly leaseConstraints: LeaseConstraints
  /** Epoch ms at which `max_runtime_sec` or the lease ends the job, whichever is first. */
  readonly deadline: number | undefined

  readonly log: (
    level: LogLevel,
    message: string,
    attributes?: Record<string, unknown>
  ) => Effect.Effect<void, EmitError>
  readonly thought: (text: string) => Effect.Effect<void, EmitError>
  readonly status: (phase: string, more?: Record<string, unknown>) => Effect.Effect<void, EmitError>
  readonly metric: (body: Body<"metric">) => Effect.Effect<void, EmitError>
  readonly toolCall: (body: Body<"tool_call">) => Effect.Effect<void, EmitError>
  readonly toolResult: (body: Body<"tool_result">) => Effect.Effect<void, EmitError>
  readonly artifact: (body: Body<"artifact_ref">) => Effect.Effect<void, EmitError>
  readonly progress: (body: Body<"progress">) => Effect.Effect<void, EmitError>
  /** A vendor event. */
  readonly emit: (kind: `x-vendor.${string}`, body: unknown) => Effect.Effect<void, EmitError>

  /** Opens the streamed result of this job; at most one. */
  readonly openResult: (encoding?: "utf8" | "base64") => Effect.Effect<ResultStream, EmitError>
  /** Streams a whole result, cut into chunks of at most 64 KiB at code-point boundaries. */
  readonly streamResult: <E, R>(
    data: Stream.Stream<string | Uint8Array, E, R>,
    encoding?: "utf8" | "base64"
  ) => Effect.Effect<void, E | EmitError, R>
}

export class Job extends Context.Tag("arcp/services/Job")<Job, JobService>() {}
