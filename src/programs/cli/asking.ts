/** Asks a person on a terminal what a job asks, and hands the answer on. */
import { createInterface } from "node:readline"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../../protocol/Errors.js"
import { membersOf } from "../../protocol/Json.js"
import * as Vendor from "../../protocol/Vendor.js"
import type {
  ArcpClientService,
  ClientError,
  InputRequest,
  JobEvent,
  JobHandle
} from "../../services/client/ArcpClient.js"
import { inWords } from "./exit.js"
import * as Question from "./question.js"
import * as Screen from "./screen.js"
import { safe } from "./text.js"

/** Is there a person who can be asked? */
export const isAttended = (): boolean => process.stdin.isTTY === true && process.stderr.isTTY === true

/** Reads a line; the terminal stays as it is, so that Ctrl-C is the signal that it is everywhere. */
const line: Effect.Effect<string | undefined> = Effect.async((resume) => {
  const reader = createInterface({ input: process.stdin, terminal: false })
  reader.once("line", (text) => {
    // First, since the interface says within `close` that it is closed.
    resume(Effect.succeed(text))
    reader.close()
  })
  reader.once("close", () => resume(Effect.succeed(undefined)))
  return Effect.sync(() => reader.close())
})

/** What was written, if anybody is there. */
type Written = { readonly value: unknown } | undefined

/** Asks for a line until it is one that can be read. */
const untilRead = (
  screen: Screen.Screen,
  mark: string,
  read: (text: string) => Question.ReadAnswer
): Effect.Effect<Written> =>
  Effect.gen(function* () {
    for (;;) {
      screen.ask(mark)
      const text = yield* line
      if (text === undefined) return undefined
      screen.answered()
      const written = read(text)
      if ("value" in written) return written
      screen.print(`  ${safe(written.problem)}`)
    }
  }).pipe(Effect.ensuring(Effect.sync(screen.unasked)))

/** What stands for a member that is left out. */
const nothing = Symbol("nothing")

/** A line that is the whole answer, and not that of its first member. */
class Whole {
  constructor(readonly value: unknown) {}
}

/** Asks for one member after the other; for the first one the whole answer may be written as JSON. */
const askMembers = (
  screen: Screen.Screen,
  request: InputRequest,
  members: ReadonlyArray<Question.Member>
): Effect.Effect<Written> =>
  Effect.gen(function* () {
    for (;;) {
      const answer: Record<string, unknown> = {}
      for (const [i, member] of members.entries()) {
        const written = yield* untilRead(screen, Question.memberMark(member), (text) => {
          const whole = i === 0 && text.trim().startsWith("{") ? Question.read(request, text) : undefined
          if (whole !== undefined && "value" in whole) return { value: new Whole(whole.value) }
          if (text.trim() === "" && !member.isRequired) return { value: nothing }
          return Question.read(member.question, text)
        })
        if (written === undefined) return undefined
        if (written.value instanceof Whole) return written.value
        if (written.value !== nothing) answer[member.name] = written.value
      }
      const checked = Question.checked(request, answer)
      if ("value" in checked) return checked
      screen.print(`  ${safe(checked.problem)}`)
    }
  })

/** Asks until there is an answer that may be one; `undefined` when nobody is there any more. */
export const ask = (screen: Screen.Screen, request: InputRequest): Effect.Effect<Written> =>
  Effect.gen(function* () {
    screen.print(Question.lines(request).join("\n"))
    const members = Question.membersOf(request)
    return members === undefined
      ? yield* untilRead(screen, Question.mark(request), (text) => Question.read(request, text))
      : yield* askMembers(screen, request, members)
  })

/** Asks, and answers; again when the runtime does not take the value. */
const settle = (
  screen: Screen.Screen,
  client: ArcpClientService,
  jobId: string,
  request: InputRequest
): Effect.Effect<void, ClientError> =>
  Effect.gen(function* () {
    for (;;) {
      const written = yield* ask(screen, request)
      if (written === undefined) return
      const sent = yield* Effect.either(
        client.answer(jobId, request.input_id, written.value, { about: request.about?.sha256 })
      )
      if (sent._tag === "Right") return
      const error = sent.left
      screen.print(`  ${safe(error instanceof InvalidRequest ? inWords(error) : error.message)}`)
      if (!(error instanceof InvalidRequest) || error.details?.["reason"] !== "value") return
    }
  })

/** What asks for a job that is shown. */
interface Asker {
  /** Asks one question after the other, for as long as the job runs. */
  readonly run: Effect.Effect<void>
  /** A question that is closed is asked no more. */
  readonly seen: (event: JobEvent) => void
  /** Is a person being asked? Then leaving leaves the job as it is. */
  readonly isAsking: () => boolean
}

/** Returns what asks on the terminal. */
const make = (
  screen: Screen.Screen,
  client: ArcpClientService,
  job: Pick<JobHandle, "inputs" | "jobId">
): Asker => {
  let asking: { readonly id: string; readonly closed: Deferred.Deferred<void> } | undefined
  return {
    run: Stream.runForEach(job.inputs, (request) =>
      Effect.gen(function* () {
        const closed = yield* Deferred.make<void>()
        asking = { id: request.input_id, closed }
        yield* Effect.raceFirst(
          Effect.ignore(settle(screen, client, job.jobId, request)),
          Deferred.await(closed)
        )
        asking = undefined
      })
    ),
    seen: (event) => {
      if (asking === undefined || event.kind !== Vendor.inputClosed) return
      const { input_id } = membersOf(event.body)
      if (input_id === asking.id) Deferred.unsafeDone(asking.closed, Effect.void)
    },
    isAsking: () => asking !== undefined
  }
}

/** Runs what shows a job while a person, if there is one, is asked what it asks. */
export const whileAsked = <A, E, R>(
  client: ArcpClientService,
  job: Pick<JobHandle, "inputs" | "jobId">,
  flags: { readonly json: boolean },
  show: (options: {
    readonly screen: Screen.Screen
    readonly asks: boolean
    readonly each: (event: JobEvent) => Effect.Effect<void>
    readonly isAsking: () => boolean
  }) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  const screen = Screen.make()
  if (flags.json || !isAttended())
    return show({ screen, asks: false, each: () => Effect.void, isAsking: () => false })
  const { isAsking, run, seen } = make(screen, client, job)
  const shown = show({ screen, asks: true, each: (event) => Effect.sync(() => seen(event)), isAsking })
  return Effect.scoped(Effect.zipRight(Effect.forkScoped(run), shown))
}
