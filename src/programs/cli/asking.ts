/** Asks a person on a terminal what a job asks, and hands the answer on. */
import { createInterface } from "node:readline"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../../protocol/Errors.js"
import * as Vendor from "../../protocol/Vendor.js"
import type {
  ArcpClientService,
  ClientError,
  InputRequest,
  JobEvent,
  JobHandle
} from "../../services/client/ArcpClient.js"
import * as Question from "./question.js"
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

const write = (text: string) => Effect.sync(() => process.stderr.write(text))

/** Asks until there is an answer that may be one; `undefined` when nobody is there any more. */
export const ask = (request: InputRequest): Effect.Effect<{ readonly value: unknown } | undefined> =>
  Effect.gen(function* () {
    yield* write(`${Question.lines(request).join("\n")}\n`)
    for (;;) {
      yield* write(Question.mark(request))
      const text = yield* line
      if (text === undefined) return undefined
      const written = Question.read(request, text)
      if ("value" in written) return written
      yield* write(`  ${safe(written.problem)}\n`)
    }
  })

/** Asks, and answers; again when the runtime does not take the value. */
const settle = (
  client: ArcpClientService,
  jobId: string,
  request: InputRequest
): Effect.Effect<void, ClientError> =>
  Effect.gen(function* () {
    for (;;) {
      const written = yield* ask(request)
      if (written === undefined) return
      const sent = yield* Effect.either(
        client.answer(jobId, request.input_id, written.value, { about: request.about?.sha256 })
      )
      if (sent._tag === "Right") return
      const error = sent.left
      yield* write(`  ${safe(error.message)}\n`)
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
const make = (client: ArcpClientService, job: Pick<JobHandle, "inputs" | "jobId">): Asker => {
  let asking: { readonly id: string; readonly closed: Deferred.Deferred<void> } | undefined
  return {
    run: Stream.runForEach(job.inputs, (request) =>
      Effect.gen(function* () {
        const closed = yield* Deferred.make<void>()
        asking = { id: request.input_id, closed }
        yield* Effect.raceFirst(
          Effect.ignore(settle(client, job.jobId, request)),
          Effect.zipRight(Deferred.await(closed), write("\n"))
        )
        asking = undefined
      })
    ),
    seen: (event) => {
      if (asking === undefined || event.kind !== Vendor.inputClosed) return
      const { input_id } = (event.body ?? {}) as { readonly input_id?: unknown }
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
    readonly asks: boolean
    readonly each: (event: JobEvent) => Effect.Effect<void>
    readonly isAsking: () => boolean
  }) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  if (flags.json || !isAttended())
    return show({ asks: false, each: () => Effect.void, isAsking: () => false })
  const { isAsking, run, seen } = make(client, job)
  const shown = show({ asks: true, each: (event) => Effect.sync(() => seen(event)), isAsking })
  return Effect.scoped(Effect.zipRight(Effect.forkScoped(run), shown))
}
