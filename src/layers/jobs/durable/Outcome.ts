/** The outcome of a step as the journal keeps it, and what becomes of it when it is found there. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import {
  type ArcpError,
  type ErrorPayload,
  fromPayload,
  InternalError,
  isArcpError
} from "../../../protocol/Errors.js"
import { json } from "../../../protocol/EventText.js"
import { describe } from "../../../protocol/Problem.js"
import { wellFormed } from "../../../protocol/Text.js"
import type { StepOptions } from "../../../services/jobs/Job.js"

/** What a step came to, as JSON text: `{ok?}`, `{failure}` by its schema, or `{error}` of the protocol. */
export interface Outcome {
  readonly state: "ended" | "failed"
  readonly text: string
}

/** The schemas of a step. */
export type Schemas<A, AI, E, EI> = Pick<StepOptions<A, AI, E, EI>, "output" | "error">

/** Returns the outcome of a step that failed with an error of the protocol. */
export const ofError = ({ code, details, message }: ArcpError): Outcome => {
  const text = json({ error: { code, message, details } }, "")
  return {
    state: "failed",
    text: Either.getOrElse(text, () => JSON.stringify({ error: { code, message: wellFormed(message) } }))
  }
}

/** Returns the outcome of a step that is none of what can be kept. */
const unkept = (key: string, why: string): Outcome =>
  ofError(
    new InternalError({
      message: `the outcome of step ${key} cannot be kept: ${why}`,
      details: { reason: "step_outcome" }
    })
  )

/** Returns the outcome of a step that succeeded. One that cannot be kept has failed. */
export const ofSuccess = <A, AI, E, EI>(
  key: string,
  value: A,
  { output }: Schemas<A, AI, E, EI>
): Effect.Effect<Outcome> => {
  const kept = (encoded: unknown): Outcome => {
    if (encoded === undefined) return { state: "ended", text: "{}" }
    const text = json(encoded, "output")
    return Either.isLeft(text)
      ? unkept(key, `${text.left}; give the step an output schema`)
      : { state: "ended", text: `{"ok":${text.right}}` }
  }
  if (output === undefined) return Effect.sync(() => kept(value))
  return Effect.match(Schema.encode(output)(value), {
    onFailure: ({ issue }) => unkept(key, describe(issue, "output")),
    onSuccess: kept
  })
}

/** Tells whether JSON says all of a value: it is of no class. */
const isPlain = (value: unknown): boolean => {
  if (typeof value !== "object" || value === null) return true
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === Array.prototype || prototype === null
}

/** Returns the outcome of a step that failed with a typed failure; dies when that cannot be kept without a schema. */
export const ofFailure = <A, AI, E, EI>(
  key: string,
  failure: E,
  { error }: Schemas<A, AI, E, EI>
): Effect.Effect<Outcome> => {
  if (isArcpError(failure)) return Effect.sync(() => ofError(failure))
  const kept = (encoded: unknown): Outcome | undefined => {
    const text = json(encoded, "error")
    return Either.isLeft(text) ? undefined : { state: "failed", text: `{"failure":${text.right}}` }
  }
  if (error === undefined) {
    const outcome = isPlain(failure) ? kept(failure) : undefined
    return outcome === undefined
      ? Effect.die(
          new Error(`step ${key} failed with what JSON cannot say: give it an error schema`, {
            cause: failure
          })
        )
      : Effect.succeed(outcome)
  }
  return Effect.match(Schema.encode(error)(failure as Exclude<E, ArcpError>), {
    onFailure: ({ issue }) => unkept(key, describe(issue, "error")),
    onSuccess: (encoded) => kept(encoded) ?? unkept(key, "its failure cannot be written as JSON")
  })
}

interface Stored {
  readonly ok?: unknown
  readonly failure?: unknown
  readonly error?: Omit<ErrorPayload, "retryable"> | undefined
}

/** Returns, or fails with, what a step came to when its outcome was kept. */
export const found = <A, AI, E, EI>(
  key: string,
  text: string,
  { error, output }: Schemas<A, AI, E, EI>
): Effect.Effect<A, E | InternalError> => {
  const stored = JSON.parse(text) as Stored
  const changed =
    (what: "output" | "error") => (problem: { readonly issue: Parameters<typeof describe>[0] }) =>
      new InternalError({
        message: `the outcome of step ${key} is not what its schema says now: ${describe(problem.issue, what)}`,
        details: { reason: "nondeterministic", keys: [key] }
      })
  if (stored.error !== undefined)
    // What its effect can fail with, or the journal itself.
    return Effect.fail(fromPayload({ retryable: false, ...stored.error }) as InternalError)
  if ("failure" in stored)
    return error === undefined
      ? Effect.fail(stored.failure as E)
      : Effect.flatMap(
          Effect.mapError(Schema.decodeUnknown(error)(stored.failure), changed("error")),
          (failure) => Effect.fail(failure)
        )
  return output === undefined
    ? Effect.succeed(stored.ok as A)
    : Effect.mapError(Schema.decodeUnknown(output)(stored.ok), changed("output"))
}
