/** `input` of a durable job: asks once, waits over as many runs of the handler as it takes, and hands the answer out. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as CanonicalJson from "../../../protocol/CanonicalJson.js"
import { InternalError, InvalidRequest } from "../../../protocol/Errors.js"
import { json, timestamp } from "../../../protocol/EventText.js"
import { describe } from "../../../protocol/Problem.js"
import { exceeds } from "../../../protocol/Utf8.js"
import { decodeUnknown } from "../../../services/agents/decoding.js"
import { type JsonSchema, jsonSchema } from "../../../services/agents/JsonSchema.js"
import { type AskInput, InputExpired, type InputOptions } from "../../../services/jobs/Input.js"
import { inTurns } from "../../../services/runtime/inTurns.js"
import { sleepUntil } from "../Limits.js"
import type { InputOutcome, Inputs, StoredRequest } from "./Inputs.js"
import { type About, type Known, nondeterministic } from "./Journal.js"
import { isOpenInput } from "./Known.js"
import type { RunningStep } from "./Running.js"
import * as Steps from "./Steps.js"

/** What the inputs of a job work on. */
export interface InputContext extends Steps.StepContext {
  readonly inputs: Inputs
  readonly inputId: () => string
  readonly digest: (text: string) => Effect.Effect<string>
  /** What an event may take, in bytes. */
  readonly maxEventBytes: number
}

/** A question, written. */
interface Question {
  readonly key: string
  readonly prompt: string
  readonly about: { readonly text: string; readonly digest: string } | undefined
  readonly schema: StoredRequest["schema"]
  readonly choices: ReadonlyArray<string> | undefined
}

const unsayable = (key: string, problem: string) => Effect.die(new Error(`input ${key}: ${problem}`))

/** The canonical JSON of a value; dies when there is none. */
const canonical = (key: string, what: string, value: unknown): Effect.Effect<string> =>
  Effect.suspend(() => {
    const text = json(value, what)
    return Either.isLeft(text)
      ? unsayable(key, text.left)
      : inTurns(() => CanonicalJson.stringifying(JSON.parse(text.right)))
  })

/** Returns a JSON Schema, when it says anything. */
const said = (schema: JsonSchema): JsonSchema | undefined =>
  Object.keys(schema).length === 0 ? undefined : schema

const written = <A, I>(
  { digest }: InputContext,
  key: string,
  { about, choices, prompt, schema }: InputOptions<A, I>
): Effect.Effect<Question> =>
  Effect.gen(function* () {
    const text = about === undefined ? undefined : yield* canonical(key, "about", about)
    return {
      key,
      prompt: String(prompt),
      about: text === undefined ? undefined : { text, digest: yield* digest(text) },
      schema: schema === undefined ? undefined : said(jsonSchema(schema)),
      choices:
        choices === undefined
          ? undefined
          : yield* Effect.forEach(choices, (choice, i) => canonical(key, `choices[${i}]`, choice))
    }
  })

/** Returns the body of the event that asks. */
const bodyOf = ({ about, choices, prompt, schema }: Question, inputId: string, until: number | undefined) => {
  const text = json({ input_id: inputId, prompt, schema }, "")
  const parts = [
    Either.isRight(text) ? text.right.slice(1, -1) : `"input_id":${JSON.stringify(inputId)}`,
    ...(choices === undefined ? [] : [`"choices":[${choices.join(",")}]`]),
    ...(about === undefined ? [] : [`"about":{"value":${about.text},"sha256":"${about.digest}"}`]),
    ...(until === undefined ? [] : [`"expires_at":"${timestamp(until)}"`])
  ]
  return `{${parts.join(",")}}`
}

/** Asks, in the log. */
const ask = (
  context: InputContext,
  known: Known,
  within: RunningStep | undefined,
  question: Question,
  { expiresIn, tellValue }: Pick<InputOptions<unknown, unknown>, "expiresIn" | "tellValue">
): Effect.Effect<void, InternalError> =>
  Effect.suspend(() => {
    const { inputs, maxEventBytes, now } = context
    const { about, choices, key, schema } = question
    const inputId = context.inputId()
    const until = expiresIn === undefined ? undefined : now() + Duration.toMillis(expiresIn)
    const body = bodyOf(question, inputId, until)
    if (exceeds(body, maxEventBytes))
      return new InternalError({
        message: `input ${key}: what is asked may have ${maxEventBytes} bytes`,
        details: { limit: "event_bytes" }
      })
    const { attempt } = known.about
    const told: About & { readonly inputId: string } = {
      attempt: attempt + 1,
      inputId,
      until,
      digest: about?.digest,
      within: within?.key
    }
    const request: StoredRequest = { key, until, digest: about?.digest, schema, choices, tellValue }
    return inputs.tell(known, told, request, body)
  })

/** Fails when a question is about something else than it was. */
const same = ({ about, key }: Question, known: Known) =>
  known.about.inputId === undefined || known.about.withdrawn === true || known.about.digest === about?.digest
    ? Effect.void
    : nondeterministic(`${key} asks about another thing`, [key])

/** Waits for the outcome of a question that is open, or is being closed. */
const outcomeOf = (
  { inputs, job, presence }: InputContext,
  known: Known,
  inputId: string,
  check: NonNullable<ReturnType<Inputs["of"]>["check"]>
): Effect.Effect<string, InternalError> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      const asked = inputs.of(inputId)
      asked.check = check
      const { until } = known.about
      const expire = Effect.suspend(() =>
        asked.taken || job.ended ? Effect.void : inputs.close(inputId, known, { reason: "expired" })
      )
      // One that is withdrawn has none, and nobody waits for it.
      const answered = Effect.flatMap(Deferred.await(asked.outcome), (text) =>
        text === undefined ? Effect.interrupt : Effect.succeed(text)
      )
      const waited = until === undefined ? answered : Effect.raceFirst(answered, sleepUntil(until))
      return restore(presence.waiting({ until, inputId }, waited)).pipe(
        Effect.zipRight(expire),
        // Whatever has closed it is being committed.
        Effect.zipRight(restore(answered)),
        Effect.ensuring(Effect.sync(() => inputs.leave(inputId)))
      )
    })
  )

/** Closes a question that is not waited for any more, if it was asked. */
const withdraw = ({ inputs, job }: InputContext, known: Known): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { inputId } = known.about
    return inputId === undefined ||
      !isOpenInput(known) ||
      inputs.current(inputId)?.taken === true ||
      job.ended
      ? Effect.void
      : Effect.ignore(inputs.close(inputId, known, { reason: "cancelled" }))
  })

/** Returns what takes an answer as the handler wants it: with no more than its JSON Schema tells of. */
const decoding = <A, I>({ schema }: InputOptions<A, I>) => {
  const decode = schema === undefined ? undefined : decodeUnknown(schema, { onExcessProperty: "error" })
  return (value: unknown): Effect.Effect<A, InvalidRequest> =>
    decode === undefined
      ? Effect.succeed(value as A)
      : Effect.mapError(
          decode(value),
          ({ issue }) => new InvalidRequest({ message: describe(issue, "payload.value") })
        )
}

/** Asks, or finds what was asked, and waits for what it comes to. */
const wait = <A, I>(
  context: InputContext,
  known: Known,
  within: RunningStep | undefined,
  options: InputOptions<A, I>
): Effect.Effect<A, InputExpired | InternalError> =>
  Effect.gen(function* () {
    const { inputs, journal } = context
    const { key } = known
    const question = yield* written(context, key, options)
    const decode = decoding(options)
    for (;;) {
      yield* same(question, known)
      if (known.size === undefined) {
        yield* Steps.afterFound(journal)
        // It may have been answered meanwhile.
        if (known.size === undefined && !isOpenInput(known))
          yield* ask(context, known, within, question, options)
        yield* Steps.committed(context)
      }
      const inputId = known.about.inputId as string
      const text =
        known.size === undefined || inputs.current(inputId) !== undefined
          ? yield* outcomeOf(context, known, inputId, (value) => Effect.asVoid(decode(value)))
          : yield* Steps.handedOut(context, known)
      const outcome = JSON.parse(text) as InputOutcome
      if ("expired" in outcome)
        return yield* new InputExpired({ message: `nobody has answered ${key} in time`, key, inputId })
      const answer = yield* Effect.either(decode(outcome.ok))
      if (Either.isRight(answer)) return answer.right
      if (known.about.checked === true)
        return yield* nondeterministic(`${key} does not take the answer that it took`, [key])
      // It came when the handler did not wait, and was only held to what JSON Schema says: whoever answers is asked again.
      journal.forget(known)
    }
  })

/** Returns `input` of a job. */
export const make =
  (context: InputContext): AskInput =>
  (key, options) =>
    Steps.keyed(context, "input", key, (known, within) =>
      // Wherever that comes: it may have its place, and not be committed, or have been asked by an earlier run.
      Effect.onInterrupt(wait(context, known, within, options), () => withdraw(context, known))
    )
