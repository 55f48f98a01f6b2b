/** What `arcp answer` does: answers what a job asks, from elsewhere. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../../../protocol/Errors.js"
import { whereNoJson } from "../../../protocol/Json.js"
import * as Vendor from "../../../protocol/Vendor.js"
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

/**
 * After so long without an event the history is taken to be read: nothing of the protocol says that it is. So it is as long after the
 * first event that is newer than the subscription, whose time is by another clock than this one; and after the longest, where that clock
 * is behind.
 */
const quiet = "5 seconds"
const longest = "60 seconds"

/** What a job waits for, and what of that could be read. */
export interface Waiting {
  readonly ids: ReadonlyArray<string>
  readonly open: ReadonlyArray<InputRequest>
}

/** Reads the questions with these ids, as far as their events are retained, and leaves out what is closed meanwhile. */
export const questions = (
  job: Pick<JobHandle, "events" | "inputs">,
  ids: ReadonlyArray<string>
): Effect.Effect<Waiting> =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    const live = yield* Deferred.make<void>()
    const waiting = new Set(ids)
    const open = new Map<string, InputRequest>()
    const events = Stream.tap(job.events, (event) =>
      Effect.suspend(() => {
        if (event.kind === Vendor.inputClosed) waiting.delete(Object(event.body).input_id)
        // A gap is of this client, and may come first.
        return event.kind !== "gap" && Date.parse(event.ts) > began
          ? Deferred.succeed(live, undefined)
          : Effect.void
      })
    )
    const inputs = Stream.tap(job.inputs, (request) => Effect.sync(() => open.set(request.input_id, request)))
    const isAllRead = () => [...waiting].every((id) => open.has(id))
    if (!isAllRead())
      yield* Stream.merge(events, inputs).pipe(
        Stream.timeout(quiet),
        Stream.interruptWhen(Effect.zipRight(Deferred.await(live), Effect.sleep(quiet))),
        Stream.interruptAfter(longest),
        Stream.takeUntil(isAllRead),
        Stream.runDrain,
        Effect.ignore
      )
    const left = [...waiting]
    return { ids: left, open: left.flatMap((id) => open.get(id) ?? []) }
  })

/** Picks the question that is meant. */
export const pick = (
  { ids, jobId, open }: Waiting & { readonly jobId: string },
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
    const look = Effect.gen(function* () {
      const job = yield* client.subscribe(jobId, { history: true }).pipe(attended(client, flags))
      const waiting = job.subscribed.waiting_for ?? []
      const ids = input === undefined ? waiting : waiting.filter((id) => id === input)
      return { jobId, ...(yield* questions(job, ids)) }
    }).pipe(Effect.scoped)
    const answer = (inputId: string, value: unknown, about: string | undefined) =>
      client
        .answer(jobId, inputId, value, { about: Option.getOrElse(flags.about, () => about) })
        .pipe(attended(client, flags), Effect.as(inputId))
    const lacksAbout = (error: unknown) =>
      Option.isNone(flags.about) && error instanceof InvalidRequest && error.details?.["reason"] === "about"
    const answered =
      given !== undefined && input !== undefined
        ? // The question is read only where the answer has to say what that is about.
          Effect.catchIf(answer(input, given.value, undefined), lacksAbout, (error) =>
            Effect.flatMap(look, ({ open: [request] }) =>
              request?.about === undefined
                ? Effect.fail(error)
                : answer(input, given.value, request.about.sha256)
            )
          )
        : Effect.gen(function* () {
            const request = yield* pick(yield* look, input)
            if (given === undefined && !isAttended())
              return yield* new UsageError({
                message: `--value JSON is missing, and there is no terminal to ask on: ${exampleValue(request)}\n${lines(request).join("\n")}`
              })
            const written = given ?? (yield* ask(Screen.make(), request))
            if (written === undefined) return yield* new UsageError({ message: "nothing was answered" })
            return yield* answer(request.input_id, written.value, request.about?.sha256)
          })
    const inputId = yield* answered
    yield* Console.log(
      flags.json
        ? json({ job_id: jobId, input_id: inputId, answered: true })
        : inLine(`${inputId} is answered`)
    )
  }).pipe(Effect.scoped)
