/** What `arcp answer` does: answers what a job asks, from elsewhere. */
import * as Chunk from "effect/Chunk"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
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

/** Milliseconds without an event after which the history is taken to be read: nothing of the protocol says that it is. */
const quiet = 5_000

/** Reads the questions with these ids, as far as their events are retained. */
export const questions = (
  job: Pick<JobHandle, "events" | "inputs">,
  ids: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<InputRequest>, never, Scope> =>
  Effect.gen(function* () {
    let events = 0
    yield* Effect.forkScoped(
      Effect.ignore(
        Stream.runForEach(job.events, () =>
          Effect.sync(() => {
            events++
          })
        )
      )
    )
    const untilQuiet = Effect.sync(() => events).pipe(
      Effect.zipLeft(Effect.sleep(quiet)),
      Effect.repeat({ until: (before) => before === events })
    )
    const found = yield* job.inputs.pipe(
      Stream.filter(({ input_id }) => ids.includes(input_id)),
      Stream.take(ids.length),
      Stream.interruptWhen(untilQuiet),
      Stream.runCollect
    )
    return Chunk.toReadonlyArray(found)
  })

/** What a job waits for, and what of that could be read. */
interface Waiting {
  readonly jobId: string
  readonly ids: ReadonlyArray<string>
  readonly open: ReadonlyArray<InputRequest>
}

/** Picks the question that is meant. */
export const pick = (
  { ids, jobId, open }: Waiting,
  input: string | undefined
): Effect.Effect<InputRequest, UsageError> => {
  const [first, ...more] = input === undefined ? ids : ids.filter((id) => id === input)
  if (first === undefined)
    return new UsageError({
      message:
        input === undefined
          ? `${jobId} waits for no answer; arcp jobs --waiting lists those that do`
          : `${jobId} does not wait for an answer to ${input}`
    })
  const questionOf = (id: string) => open.find(({ input_id }) => input_id === id)
  if (more.length > 0) {
    const listed = [first, ...more].map(
      (id) => `  ${inLine(id)}  ${inLine(questionOf(id)?.prompt ?? "(the question cannot be read any more)")}`
    )
    return new UsageError({
      message: `${jobId} waits for several answers; say which:\n${listed.join("\n")}`
    })
  }
  const request = questionOf(first)
  return request === undefined
    ? new UsageError({
        message: `${jobId} waits for ${first}, whose question cannot be read any more: arcp answer ${jobId} ${first} --value JSON`
      })
    : Effect.succeed(request)
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
    const ids = job.subscribed.waiting_for ?? []
    const open = yield* questions(job, ids)
    // One that is open no more is the runtime's to speak of.
    const gone =
      input !== undefined && given !== undefined && !open.some(({ input_id }) => input_id === input)
    const request = gone ? { input_id: input, prompt: "" } : yield* pick({ jobId, ids, open }, input)
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
