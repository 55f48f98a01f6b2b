/** What a durable job asks people, and waits for (§12.2 of the protocol page). */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { InternalError } from "../../protocol/Errors.js"

/** Nobody has answered in time. */
export class InputExpired extends Data.TaggedError("InputExpired")<{
  readonly message: string
  readonly key: string
  readonly inputId: string
}> {
  readonly code = "INPUT_EXPIRED"
  readonly retryable = false
}

/** What is asked. */
export interface InputOptions<A, AEncoded> {
  /** The question, for people. */
  readonly prompt: string
  /**
   * What an answer has to be. Its JSON Schema goes with the question; without one, any JSON, or one of the choices, is an
   * answer.
   */
  readonly schema?: Schema.Schema<A, AEncoded> | undefined
  /** The only answers that are taken, as they go over the wire. */
  readonly choices?: ReadonlyArray<AEncoded> | undefined
  /**
   * What the question is about, as JSON: whoever answers has to name the SHA-256 of its canonical form, so that nobody
   * approves what he has not seen. A handler that is run again has to ask about the same.
   */
  readonly about?: unknown
  /** By the wall clock, from the first time that it is asked. Default: it waits as long as the job may. */
  readonly expiresIn?: Duration.DurationInput | undefined
  /** The answer may be told to whoever reads the job's events. Default: only that there is one, and whose. */
  readonly tellValue?: boolean | undefined
}

/** Asks, and waits for the answer. */
export type AskInput = <const AEncoded = unknown, A = AEncoded>(
  key: string,
  options: InputOptions<A, AEncoded>
) => Effect.Effect<A, InputExpired | InternalError>
