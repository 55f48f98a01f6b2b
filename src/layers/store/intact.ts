/**
 * What is read from a database is what a store has written, unless something else wrote there: a disk that fails, an editor, a
 * program of another version. What it is then is found out here, where it is read, and said with the name of what is damaged;
 * whoever goes on with it would fail somewhere else, or never end.
 */

import * as Effect from "effect/Effect"
import * as Argument from "../../protocol/Argument.js"
import { readJson } from "../../protocol/Json.js"
import { JobStatus } from "../../protocol/Message.js"
import { withArticle } from "../../protocol/Text.js"
import type { StoredCall } from "../../services/jobs/StoredCall.js"
import type {
  JobRecord,
  JournalIndexEntry,
  SessionRecord,
  StoredEvent,
  StoreError,
  ViewEvent
} from "../../services/store/Store.js"
import { damage } from "./damage.js"
import { eventProblem } from "./intactEvent.js"
import type { RecordRow } from "./query.js"

const mostMillis = 8_640_000_000_000_000

/** Epoch milliseconds that a date can have. */
const time = Argument.that("a time", (value) => typeof value === "number" && Math.abs(value) <= mostMillis)
/** JSON has no infinity: it is written as `null`. */
const number = Argument.that("a number", (value) => typeof value === "number" || value === null)

/** An object, each of whose members is as the rule says. */
const eachOf =
  (rule: Argument.Rule): Argument.Rule =>
  (value, name) =>
    Argument.object(value, name) ??
    Object.values(Object(value)).reduce<string | undefined>(
      (problem, one) => problem ?? rule(one, `a member of ${name}`),
      undefined
    )

const lease = eachOf(Argument.listOf(Argument.string))

/** Whose authority a job has that begins, or is run again, without its session. */
const authority = {
  identity: Argument.fields({
    expiresAt: Argument.maybe(number),
    scopes: Argument.maybe(Argument.listOf(Argument.string)),
    agents: Argument.maybe(Argument.listOf(Argument.string)),
    leaseCeiling: Argument.maybe(lease)
  }),
  features: Argument.listOf(Argument.string),
  parked: Argument.maybe(Argument.string)
}

const survival = Argument.fields({
  ...authority,
  restart: Argument.oneOf("steps", "rerun"),
  deadline: Argument.maybe(number),
  attempt: Argument.count,
  deaths: Argument.count,
  progress: number,
  left: Argument.maybe(Argument.boolean),
  ended: Argument.maybe(
    Argument.fields({
      status: Argument.oneOf(...JobStatus.literals),
      payload: Argument.string,
      keyFreed: Argument.boolean,
      unstored: Argument.maybe(Argument.listOf(Argument.string))
    })
  ),
  waiting: Argument.maybe(Argument.fields({ sleepingUntil: Argument.maybe(number), dueAt: number }))
})

/** The record of a job. */
const job: Argument.Rule = Argument.fields({
  jobId: Argument.text,
  sessionId: Argument.string,
  submitId: Argument.string,
  principal: Argument.string,
  agent: Argument.string,
  status: Argument.oneOf(...JobStatus.literals),
  rejected: Argument.boolean,
  lease,
  leaseConstraints: Argument.maybe(Argument.object),
  budget: Argument.maybe(eachOf(Argument.string)),
  budgetAbove: Argument.maybe(Argument.listOf(Argument.string)),
  anyModel: Argument.maybe(Argument.boolean),
  traceId: Argument.string,
  parentSpan: Argument.maybe(Argument.object),
  createdAt: time,
  endedAt: Argument.maybe(time),
  parentJobId: Argument.maybe(Argument.string),
  delegateId: Argument.maybe(Argument.string),
  node: Argument.maybe(Argument.string),
  maxRuntimeSec: Argument.maybe(number),
  idempotencyKey: Argument.maybe(Argument.string),
  paramsDigest: Argument.maybe(Argument.string),
  inputDigest: Argument.maybe(Argument.string),
  keyFreed: Argument.maybe(Argument.boolean),
  cancelRequested: Argument.maybe(Argument.fields({ reason: Argument.maybe(Argument.string), at: number })),
  survival: Argument.maybe(survival),
  queued: Argument.maybe(
    Argument.fields({
      ...authority,
      startAt: Argument.maybe(number),
      forked: Argument.maybe(Argument.object)
    })
  ),
  waitingFor: Argument.maybe(Argument.listOf(Argument.string)),
  answeredWith: Argument.maybe(Argument.string),
  lastEventSeq: Argument.count,
  epoch: Argument.maybe(Argument.count)
})

/** The record of a session. */
const session: Argument.Rule = Argument.fields({
  sessionId: Argument.text,
  principal: Argument.string,
  version: Argument.string,
  features: Argument.listOf(Argument.string),
  createdAt: time,
  lastSeenAt: time,
  attached: Argument.boolean,
  tokenDigest: Argument.string,
  node: Argument.maybe(Argument.string),
  issuedTokenDigests: Argument.maybe(Argument.listOf(Argument.string)),
  acked: Argument.count,
  epoch: Argument.maybe(Argument.count)
})

const called = {
  at: time,
  agent: Argument.string,
  principal: Argument.string,
  traceId: Argument.string,
  parentJobId: Argument.maybe(Argument.string)
}

/** What is stored of a call of a hook that is owed. */
const hookCall = Argument.either(
  Argument.fields({
    ...called,
    kind: Argument.oneOf("ended"),
    status: Argument.oneOf(...JobStatus.literals),
    code: Argument.maybe(Argument.string),
    createdAt: time
  }),
  Argument.fields({
    ...called,
    kind: Argument.oneOf("waiting"),
    inputId: Argument.string,
    expiresAt: Argument.maybe(time)
  }),
  Argument.fields({ ...called, kind: Argument.oneOf("parked"), reason: Argument.string })
)

/** What is known of an entry of a journal, whatever its kind. */
const about = Argument.fields({
  within: Argument.maybe(Argument.string),
  attempt: Argument.maybe(Argument.count),
  count: Argument.maybe(Argument.count),
  jobId: Argument.maybe(Argument.string),
  inputId: Argument.maybe(Argument.string)
})

/** Reads what is stored of a call of a hook; nothing, when that is damaged. */
export const storedCall = (text: string): StoredCall | undefined => {
  const value = readJson(text)
  return hookCall(value, "call") === undefined ? (value as StoredCall) : undefined
}

/** What a record says that it is, for whoever has to look for it: an id, which has nothing in it that would have to be escaped. */
const idIn = (text: unknown): string | undefined =>
  /"(?:jobId|sessionId)":"([\w-]{1,100})"/.exec(String(text))?.[1]

/** Damages of which the log has said something. */
const mostSaid = 100

/** What reads the rows of a database, as far as they are what a store has written. */
export interface Intact {
  readonly job: (row: RecordRow) => Effect.Effect<JobRecord, StoreError>
  readonly session: (row: RecordRow) => Effect.Effect<SessionRecord, StoreError>
  /** Returns the events of a job from a number on. They ascend, so whoever reads page by page comes to an end. */
  readonly events: (
    jobId: string,
    from: number,
    events: ReadonlyArray<StoredEvent>
  ) => Effect.Effect<ReadonlyArray<StoredEvent>, StoreError>
  /** Returns the events of a view, each that is damaged with why: those of other jobs go on. */
  readonly page: (events: ReadonlyArray<ViewEvent>) => Effect.Effect<ReadonlyArray<ViewEvent>>
  readonly journal: (
    jobId: string,
    entries: ReadonlyArray<JournalIndexEntry>
  ) => Effect.Effect<ReadonlyArray<JournalIndexEntry>, StoreError>
  /** Returns what is JSON text, of which `what` says where it belongs. */
  readonly json: (
    jobId: string,
    what: string,
    text: string | undefined
  ) => Effect.Effect<string | undefined, StoreError>
}

/** Returns what reads the rows of a database that is called `name`. What is damaged is said once to the operator. */
export const make = (name: string): Intact => {
  const said = new Set<string>()
  const say = <E extends StoreError>(what: string, error: E): Effect.Effect<E> => {
    if (said.has(what) || said.size >= mostSaid) return Effect.succeed(error)
    said.add(what)
    return Effect.as(Effect.logError(error.message), error)
  }
  const damaged = (what: string, why: string, of?: StoreError["damaged"]) =>
    say(what, damage(name, what, why, of))
  const fail = (...args: Parameters<typeof damaged>) => Effect.flip(damaged(...args))
  const record = <A>(kind: string, rule: Argument.Rule, text: string): Effect.Effect<A, StoreError> => {
    const value = readJson(text)
    const problem = value === undefined ? "it is no JSON" : rule(value, "record")
    return problem === undefined
      ? Effect.succeed(value as A)
      : fail(`the record of ${idIn(text) ?? withArticle(kind)}`, problem)
  }
  const eventDamage = (jobId: string, seq: number, problem: string) =>
    damaged(`event ${seq} of ${jobId}`, problem, { jobId, seq })
  return {
    job: (row) => record("job", job, row.record),
    session: (row) => record("session", session, row.record),
    events: (jobId, from, events) => {
      let before = from - 1
      for (const event of events) {
        if (!(event.seq > before))
          return fail(`the log of ${jobId}`, `what follows its event ${before} is no event`, { jobId })
        const problem = eventProblem(event)
        if (problem !== undefined) return Effect.flip(eventDamage(jobId, event.seq, problem))
        before = event.seq
      }
      return Effect.succeed(events)
    },
    page: (events) =>
      events.some(({ event }) => eventProblem(event) !== undefined)
        ? Effect.forEach(events, (one) => {
            const problem = eventProblem(one.event)
            return problem === undefined
              ? Effect.succeed(one)
              : Effect.map(eventDamage(one.job.jobId, one.event.seq, problem), (damage) => ({
                  ...one,
                  damage
                }))
          })
        : Effect.succeed(events),
    journal: (jobId, entries) => {
      for (const entry of entries) {
        const value = readJson(entry.about)
        const problem = value === undefined ? "it is no JSON" : about(value, "entry")
        if (problem !== undefined) return fail(`the journal of ${jobId}`, problem, { jobId })
      }
      return Effect.succeed(entries)
    },
    json: (jobId, what, text) =>
      text === undefined || readJson(text) !== undefined
        ? Effect.succeed(text)
        : fail(`${what} of ${jobId}`, "it is no JSON", { jobId })
  }
}
