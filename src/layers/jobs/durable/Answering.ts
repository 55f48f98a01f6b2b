/**
 * Answers to what durable jobs ask (§12.2 of the protocol page): who may give one, whether it is one, and which of two
 * counts. What is decided here is stored by Inputs.ts, in one commit.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as CanonicalJson from "../../../protocol/CanonicalJson.js"
import { type ArcpError, InternalError, InvalidRequest, JobNotFound } from "../../../protocol/Errors.js"
import * as JsonSchemaCheck from "../../../protocol/JsonSchemaCheck.js"
import { byteLength } from "../../../protocol/Utf8.js"
import * as Vendor from "../../../protocol/Vendor.js"
import { denied } from "../../../services/auth/Policy.js"
import { isOurs } from "../../../services/cluster/Cluster.js"
import type { AnswerRequest, JobSession } from "../../../services/jobs/Jobs.js"
import { inTurns } from "../../../services/runtime/inTurns.js"
import { dueAt } from "../../../services/store/dueAt.js"
import type { JobRecord } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import { maxEventBytes } from "../fitting.js"
import type { JobParts } from "../JobParts.js"
import type { Lookup } from "../Lookup.js"
import type { AnswerWant } from "../wishes/Want.js"
import { Inputs, type StoredRequest } from "./Inputs.js"
import { Journal } from "./Journal.js"

/** Why an answer is refused. */
type RefusalReason = "unknown_input" | "expired" | "already_answered" | "value" | "about"

const refuse = (reason: RefusalReason, message: string) =>
  new InvalidRequest({ message, details: { reason } })

/** How much of a question's choices a refusal names. */
const maxNamed = 300

const named = (choices: ReadonlyArray<string>): string => {
  const all = choices.join(", ")
  return all.length > maxNamed ? "" : `, which are ${all}`
}

const unknownInput = () => refuse("unknown_input", "payload.input_id: the job does not ask for such an input")
const aboutAnother = (given: string | undefined, digest: string | undefined) =>
  refuse(
    "about",
    `payload.about_sha256: ${
      given === undefined
        ? "is missing: the question says what it is about, and this is about.sha256 of its event"
        : digest === undefined
          ? "the question is not about anything; leave it out"
          : "not the SHA-256 of what the question is about"
    }`
  )
const expired = () => refuse("expired", "payload.input_id: the time to answer is over")
const notStoredYet = new InternalError({
  message: "the store has not taken the answer yet; give it again",
  details: { reason: "storage" }
})
const notFound = new JobNotFound({ message: "no such job" })

/** An answer, on its way. */
interface Reply extends Pick<AnswerRequest, "jobId" | "payload"> {
  /** The principal that gives it. */
  readonly by: string
  /** Canonical JSON. */
  readonly text: string
  /** Called when it is stored, before anything that follows from it can be read. */
  readonly accept: () => void
}

/** Checks that the session may answer what the job asks; without a word of what there is when it may not be listed. */
const authorized = (
  { policy }: JobParts,
  lookup: Lookup,
  session: JobSession,
  jobId: string
): Effect.Effect<JobRecord, ArcpError> =>
  Effect.gen(function* () {
    const record = yield* lookup.job(jobId, { settled: true })
    if (record === undefined) return yield* notFound
    const decision = yield* policy.mayAnswer(session.identity, record)
    if (decision === true) return record
    return yield* (yield* lookup.mayList(session, record))
      ? denied(decision, "this job's inputs are not this session's to answer")
      : notFound
  })

/** Returns the question as it is stored. */
const request = ({ store }: JobParts, { jobId, payload }: Reply) =>
  Effect.map(Faults.storage(store.journalValue(jobId, "request", payload.input_id)), (text) =>
    text === undefined ? undefined : (JSON.parse(text) as StoredRequest)
  )

/** Tells a session that its answer is stored. */
const accepted = (session: JobSession, { id, jobId, payload }: AnswerRequest): void =>
  session.send({
    type: Vendor.jobInputAccepted,
    jobId,
    payload: { request_id: id, input_id: payload.input_id }
  })

/** Answers what is closed: the same answer is accepted again. */
const decideClosed = (
  { store }: JobParts,
  answer: Reply,
  { closed, digest, key }: StoredRequest
): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    if (closed === "expired") return yield* expired()
    if (closed !== "answered") return yield* unknownInput()
    if (answer.payload.about_sha256 !== digest)
      return yield* aboutAnother(answer.payload.about_sha256, digest)
    const outcome = yield* Faults.storage(store.journalValue(answer.jobId, "input", key))
    if (outcome !== `{"ok":${answer.text}}`)
      return yield* refuse("already_answered", "payload.input_id: another answer has been given")
    answer.accept()
  })

/** Checks an answer by what is known of the question: the handler's own schema when it waits, else what that says of itself. */
const check = (
  inputs: Inputs,
  { payload, text }: Reply,
  { choices, digest, schema }: StoredRequest
): Effect.Effect<{ readonly checked: boolean }, ArcpError> =>
  Effect.gen(function* () {
    if (payload.about_sha256 !== digest) return yield* aboutAnother(payload.about_sha256, digest)
    if (choices !== undefined && !choices.includes(text))
      return yield* refuse("value", `payload.value: none of the choices${named(choices)}`)
    const own = inputs.current(payload.input_id)?.check
    if (own !== undefined) {
      yield* Effect.suspend(() => own(payload.value)).pipe(
        Effect.mapError(({ message }) => refuse("value", message)),
        // Its cause may repeat the value, which is nobody's to read.
        Effect.catchAllDefect(() => new InternalError({ message: "the schema of this input has failed" }))
      )
      return { checked: true }
    }
    const problem =
      schema === undefined ? undefined : JsonSchemaCheck.problem(schema, payload.value, "payload.value")
    return problem === undefined ? { checked: false } : yield* refuse("value", problem)
  })

/** Waits until something is stored: not for as long as a job does, which the store may keep waiting for hours. */
const patiently = <A>(
  { options }: JobParts,
  { rests }: Inputs,
  storing: Effect.Effect<A, InternalError>
): Effect.Effect<A, InternalError> =>
  rests
    ? storing
    : Effect.timeoutFail(storing, { duration: options.storagePatience, onTimeout: () => notStoredYet })

/** Answers a question of a job whose journal is in memory. */
const decide = (parts: JobParts, inputs: Inputs, answer: Reply): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    const { accept, by, payload, text } = answer
    const inputId = payload.input_id
    for (;;) {
      const taken = inputs.current(inputId)
      // Whatever closes it is being committed, and is the answer to this one.
      if (taken?.taken === true) yield* patiently(parts, inputs, Deferred.await(taken.outcome))
      const asked = yield* request(parts, answer)
      if (asked === undefined) return yield* unknownInput()
      if (asked.closed !== undefined) return yield* decideClosed(parts, answer, asked)
      if (asked.until !== undefined && parts.now() >= asked.until) return yield* expired()
      const { checked } = yield* check(inputs, answer, asked)
      const tooLarge = inputs.journal.overLimit(asked.key, byteLength(text))
      if (tooLarge !== undefined) return yield* tooLarge
      const closing = {
        reason: "answered",
        by,
        value: text,
        checked,
        tellValue: asked.tellValue === true
      } as const
      let isWaiting = true
      // A request has one answer: whoever was told that it is not stored yet is not told that it is.
      const tell = () => {
        if (isWaiting) accept()
      }
      const said = Effect.annotateLogs(Effect.logInfo("input answered"), {
        job: answer.jobId,
        input: inputId,
        by
      })
      const storing = Effect.suspend(() => {
        const known = inputs.known(inputId, asked.key)
        return known === undefined || inputs.current(inputId)?.taken === true
          ? Effect.succeed(false)
          : Effect.as(Effect.zipRight(inputs.close(inputId, known, closing, tell), said), true)
      })
      // Whoever answers may go: it is stored all the same. Or somebody was faster.
      const stored = Fiber.join(yield* parts.underway.start(storing))
      const isStored = yield* Effect.tapError(patiently(parts, inputs, stored), () =>
        Effect.sync(() => {
          isWaiting = false
        })
      )
      if (isStored) return
    }
  })

/** Answers what a job asks that has ended. */
const decideEnded = (parts: JobParts, answer: Reply): Effect.Effect<void, ArcpError> =>
  Effect.flatMap(request(parts, answer), (stored) =>
    stored === undefined ? unknownInput() : decideClosed(parts, answer, stored)
  )

/** Answers what a job asks of which nothing runs; with the answer it is due. Returns whether there is such a job. */
const decideUnloaded = (parts: JobParts, answer: Reply): Effect.Effect<boolean, ArcpError> => {
  const { cluster, hooks, log, now, options, running, store, turn, waits } = parts
  const { jobId } = answer
  // Whoever answers may go: until it is decided nobody loads the job all the same.
  return waits.locked(
    jobId,
    Effect.uninterruptible(
      Effect.gen(function* () {
        const live = running.get(jobId)?.live
        if (live !== undefined && live.rests === undefined) return false
        const record = live?.record ?? (yield* Faults.storage(store.job(jobId)))
        const isTheirs = record !== undefined && record.endedAt === undefined && !isOurs(cluster, record)
        if (isTheirs) return yield* Faults.left
        if (record === undefined || dueAt(record) === undefined) {
          if (record?.endedAt === undefined && running.stopping) return yield* Faults.left
          return yield* Effect.as(decideEnded(parts, answer), true)
        }
        const journal = yield* Faults.storage(Journal.load(jobId, store, turn, options))
        yield* log.holding(record, (job) =>
          decide(
            parts,
            new Inputs({
              log,
              job,
              journal,
              now,
              hooks,
              holder: live ?? { record },
              maxEventBytes: maxEventBytes(options),
              rests: true
            }),
            answer
          )
        )
        waits.due(now())
        return true
      })
    )
  )
}

/** Answers what a job asks, whether it is in memory or not. */
const decideOpen = (parts: JobParts, answer: Reply): Effect.Effect<void, ArcpError> =>
  Effect.suspend(() => {
    const { running } = parts
    const live = running.get(answer.jobId)?.live
    const isLoaded = () => live?.rests === undefined && live?.ending?._tag !== "Unload"
    const again = Effect.flatMap(decideUnloaded(parts, answer), (isDone) =>
      isDone ? Effect.void : decideOpen(parts, answer)
    )
    if (live === undefined || !isLoaded()) return again
    if (live.inputs === undefined) return decideEnded(parts, answer)
    // It may have been unloaded meanwhile, with its log closed to the answer.
    return Effect.catchIf(
      decide(parts, live.inputs, answer),
      ({ _tag }) => _tag === "InternalError" && !isLoaded(),
      () => again
    )
  })

/** Returns what answers the questions of jobs. */
export const make = (parts: JobParts, lookup: Lookup) => {
  const { asking } = parts
  /** Answers what a job of this node asks, or one that has ended. */
  const answerHere = (answer: Omit<Reply, "text">): Effect.Effect<void, ArcpError> =>
    Effect.gen(function* () {
      const record = yield* lookup.job(answer.jobId, { settled: true })
      if (record === undefined) return yield* notFound
      const text = yield* inTurns(() => CanonicalJson.stringifying(answer.payload.value))
      const reply: Reply = { ...answer, text }
      if (record.endedAt === undefined) yield* decideOpen(parts, reply)
      else yield* decideEnded(parts, reply)
    })
  return {
    answer: (session: JobSession, asked: AnswerRequest): Effect.Effect<void, ArcpError> =>
      Effect.gen(function* () {
        const { jobId, payload } = asked
        const record = yield* authorized(parts, lookup, session, jobId)
        const by = session.identity.principal
        const accept = () => accepted(session, asked)
        const here = answerHere({ jobId, payload, by, accept })
        if (!asking.isElsewhere(record)) return yield* here
        asking.later(
          "an answer was given to a job of another node",
          Effect.flatMap(asking.ask(record, { kind: "answer", by, payload }, by), (outcome) =>
            outcome === "done" ? Effect.sync(accept) : here
          ),
          asked.refused
        )
      }),
    /** Does what another node wants. */
    grant: (jobId: string, { by, payload }: AnswerWant): Effect.Effect<void, ArcpError> =>
      answerHere({ jobId, payload, by, accept: () => {} })
  }
}
