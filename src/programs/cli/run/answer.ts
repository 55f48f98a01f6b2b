/** What `arcp answer` does: answers what a job asks, from elsewhere. */
import * as Chunk from "effect/Chunk"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { whereNoJson } from "../../../protocol/Json.js"
import type { InputRequest, JobHandle } from "../../../services/client/ArcpClient.js"
import { ask, isAttended } from "../asking.js"
import { connect } from "../client.js"
import type { AnswerFlags } from "../commands.js"
import { attended } from "../lost.js"
import { parseInput } from "../parseInput.js"
import { exampleValue, lines } from "../question.js"
import * as Screen from "../screen.js"
import { inLine, json } from "../text.js"
import { UsageError } from "../UsageError.js"

/** What the events of open questions get to come, when they are retained. */
const patience = "10 seconds"

/** Reads the questions with these ids. */
const questions = (job: JobHandle, ids: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    yield* Effect.forkScoped(Effect.ignore(Stream.runDrain(job.events)))
    const found = yield* job.inputs.pipe(
      Stream.filter(({ input_id }) => ids.includes(input_id)),
      Stream.take(ids.length),
      Stream.interruptAfter(patience),
      Stream.runCollect
    )
    return Chunk.toReadonlyArray(found)
  })

/** Picks the question that is meant. */
const pick = (
  jobId: string,
  open: ReadonlyArray<InputRequest>,
  input: string | undefined
): Effect.Effect<InputRequest, UsageError> => {
  const [first, ...more] = input === undefined ? open : open.filter(({ input_id }) => input_id === input)
  if (first === undefined)
    return new UsageError({
      message:
        input === undefined
          ? `${jobId} waits for no answer; arcp jobs --waiting lists those that do`
          : `${jobId} does not wait for an answer to ${input}`
    })
  if (more.length === 0) return Effect.succeed(first)
  const listed = open.map(({ input_id, prompt }) => `  ${inLine(input_id)}  ${inLine(prompt)}`)
  return new UsageError({
    message: `${jobId} waits for several answers; say which:\n${listed.join("\n")}`
  })
}

const written = (value: string): Effect.Effect<unknown, UsageError> =>
  Effect.try({
    try: () => parseInput(value),
    catch: (cause) =>
      new UsageError({
        message: `--value must be JSON, for example true; a text is '"text"'${whereNoJson(cause)}`
      })
  })

export const run = (flags: AnswerFlags, jobId: string, input?: string) =>
  Effect.gen(function* () {
    const given = yield* Option.match(flags.value, {
      onNone: () => Effect.succeed(undefined),
      onSome: (text) => Effect.map(written(text), (value) => ({ value }))
    })
    const client = yield* connect(flags)
    const job = yield* client.subscribe(jobId, { history: true }).pipe(attended(client, flags))
    const open = yield* questions(job, job.subscribed.waiting_for ?? [])
    // One that is open no more is the runtime's to speak of.
    const gone =
      input !== undefined && given !== undefined && !open.some(({ input_id }) => input_id === input)
    const request = gone ? { input_id: input, prompt: "" } : yield* pick(jobId, open, input)
    if (given === undefined && !isAttended())
      return yield* new UsageError({
        message: `--value JSON is missing, and there is no terminal to ask on: ${exampleValue(request)}\n${lines(request).join("\n")}`
      })
    const answer = given ?? (yield* ask(Screen.make(), request))
    if (answer === undefined) return yield* new UsageError({ message: "nothing was answered" })
    const about = Option.getOrElse(flags.about, () => request.about?.sha256)
    yield* client.answer(jobId, request.input_id, answer.value, { about }).pipe(attended(client, flags))
    yield* Console.log(
      flags.json
        ? json({ job_id: jobId, input_id: request.input_id, answered: true })
        : inLine(`${request.input_id} is answered`)
    )
  }).pipe(Effect.scoped)
