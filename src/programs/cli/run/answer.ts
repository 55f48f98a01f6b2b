/** What `arcp answer` does: answers what a job asks, from elsewhere. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { inputRequest } from "../../../layers/client/typed.js"
import { InvalidRequest } from "../../../protocol/Errors.js"
import * as Vendor from "../../../protocol/Vendor.js"
import type { InputRequest, JobEvent, JobHandle } from "../../../services/client/ArcpClient.js"
import { ask, isAttended } from "../asking.js"
import { connect, passing } from "../client.js"
import type { AnswerFlags } from "../commands.js"
import { attended } from "../lost.js"
import { inputOf } from "../parseInput.js"
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

/** What a job waits for, and what could be read of what it has asked. */
export interface Waiting {
  readonly ids: ReadonlyArray<string>
  /** The questions by their ids, the closed ones too. */
  readonly asked: ReadonlyMap<string, InputRequest>
  /** Whether it has asked something else before, or may have: not all that it did is retained. */
  readonly hasAskedBefore: boolean
}

/** Reads the questions with these ids, as far as their events are retained, and finds out which are closed. */
export const questions = (
  job: Pick<JobHandle, "events">,
  ids: ReadonlyArray<string>
): Effect.Effect<Waiting> =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    const live = yield* Deferred.make<void>()
    const waiting = new Set(ids)
    const asked = new Map<string, InputRequest>()
    let isWhole = true
    const take = (event: JobEvent) => {
      if (event.kind === "gap") isWhole = false
      else if (event.kind === Vendor.inputClosed) waiting.delete(Object(event.body).input_id)
      else if (event.kind === Vendor.inputRequest) {
        const request = inputRequest(event.body, "")
        if (request !== undefined) asked.set(request.input_id, request)
      }
    }
    const isAllRead = () => [...waiting].every((id) => asked.has(id))
    if (!isAllRead())
      yield* job.events.pipe(
        Stream.tap((event) => {
          take(event)
          // A gap is of this client, and may come first.
          return event.kind !== "gap" && Date.parse(event.ts) > began
            ? Deferred.succeed(live, undefined)
            : Effect.void
        }),
        Stream.timeout(quiet),
        Stream.interruptWhen(Effect.zipRight(Deferred.await(live), Effect.sleep(quiet))),
        Stream.interruptAfter(longest),
        Stream.takeUntil(isAllRead),
        Stream.runDrain,
        Effect.ignore
      )
    return {
      ids: [...waiting],
      asked,
      hasAskedBefore: !isWhole || [...asked.keys()].some((id) => !waiting.has(id))
    }
  })

/** Picks the question that is meant. */
export const pick = (
  { asked, ids, jobId }: Waiting & { readonly jobId: string },
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
  if (more.length > 0) {
    const listed = [first, ...more].map(
      (id) => `  ${inLine(id)}  ${inLine(asked.get(id)?.prompt ?? "(the question cannot be read any more)")}`
    )
    return new UsageError({
      message: `${jobId} waits for several answers; say which:\n${listed.join("\n")}`
    })
  }
  const request = asked.get(first)
  return request === undefined
    ? new UsageError({
        message: `${jobId} waits for ${first}, whose question cannot be read any more: arcp answer ${jobId} ${first} --value JSON`
      })
    : Effect.succeed(request)
}

/**
 * Refuses an answer that does not say which question it is to, when the job has asked another one before: the command that
 * gave the answer to that one would, when it is run again, answer this one, which nobody has seen.
 */
export const unmistaken = (
  { hasAskedBefore, jobId }: Pick<Waiting, "hasAskedBefore"> & { readonly jobId: string },
  request: InputRequest
): Effect.Effect<void, UsageError> =>
  hasAskedBefore
    ? new UsageError({
        message:
          `${jobId} has asked before; say that --value is the answer to this one: ` +
          `arcp answer ${jobId} ${inLine(request.input_id)} ${exampleValue(request)}\n${lines(request).join("\n")}`
      })
    : Effect.void

export const run = (flags: AnswerFlags, jobId: string, input?: string) =>
  Effect.gen(function* () {
    const given = yield* Option.match(flags.value, {
      onNone: () => Effect.succeed(undefined),
      onSome: (text) => Effect.map(inputOf("--value", text, "true"), (value) => ({ value }))
    })
    const client = yield* connect(flags, passing)
    const look = (of: (waiting: ReadonlyArray<string>) => ReadonlyArray<string>) =>
      Effect.gen(function* () {
        const job = yield* client.subscribe(jobId, { history: true }).pipe(attended(client, flags))
        return { jobId, ...(yield* questions(job, of(job.subscribed.waiting_for ?? []))) }
      }).pipe(Effect.scoped)
    const answer = (inputId: string, value: unknown, request: InputRequest | undefined) =>
      client
        .answer(jobId, inputId, value, {
          about: Option.getOrElse(flags.about, () => request?.about?.sha256)
        })
        .pipe(attended(client, flags), Effect.as({ inputId, request }))
    const lacksAbout = (error: unknown) =>
      Option.isNone(flags.about) && error instanceof InvalidRequest && error.details?.["reason"] === "about"
    const answered =
      given !== undefined && input !== undefined
        ? // The question is read only where the answer has to say what that is about, also when it is given again.
          Effect.catchIf(answer(input, given.value, undefined), lacksAbout, (error) =>
            Effect.flatMap(
              look(() => [input]),
              ({ asked }) => {
                const request = asked.get(input)
                return request?.about === undefined ? Effect.fail(error) : answer(input, given.value, request)
              }
            )
          )
        : Effect.gen(function* () {
            const waiting = yield* look((ids) =>
              input === undefined ? ids : ids.filter((id) => id === input)
            )
            const request = yield* pick(waiting, input)
            if (given !== undefined) yield* unmistaken(waiting, request)
            else if (!isAttended())
              return yield* new UsageError({
                message: `--value JSON is missing, and there is no terminal to ask on: ${exampleValue(request)}\n${lines(request).join("\n")}`
              })
            const written = given ?? (yield* ask(Screen.make(), request))
            if (written === undefined) return yield* new UsageError({ message: "nothing was answered" })
            return yield* answer(request.input_id, written.value, request)
          })
    const { inputId, request } = yield* answered
    yield* Console.log(
      flags.json
        ? json({ job_id: jobId, input_id: inputId, prompt: request?.prompt, answered: true })
        : inLine(`${inputId} is answered${request === undefined ? "" : `: ${request.prompt}`}`)
    )
  }).pipe(Effect.scoped)
