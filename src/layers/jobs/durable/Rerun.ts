/**
 * Running a job again that was open when its process ended: from the start of its handler, over what its journal has. Its
 * attempt is counted where the handler begins, so that neither a pause nor a job that is parked counts as one.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as AgentRef from "../../../protocol/AgentRef.js"
import {
  AgentNotAvailable,
  type AgentVersionNotAvailable,
  type ArcpError,
  InternalError
} from "../../../protocol/Errors.js"
import { timestamp } from "../../../protocol/EventText.js"
import type { Registered } from "../../../services/agents/Agent.js"
import type { JobSession } from "../../../services/jobs/Jobs.js"
import type { JobLog, NewEvent } from "../../../services/log/EventLog.js"
import * as Tracing from "../../../services/runtime/Tracing.js"
import type { JobRecord, Survival } from "../../../services/store/Store.js"
import type { Candidate } from "../Candidate.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import * as Terminal from "../Terminal.js"
import { Journal } from "./Journal.js"
import type { Reopen } from "./Reopening.js"
import * as Survivals from "./Survival.js"

/** A job that survives. */
export type Survivor = JobRecord & { readonly survival: Survival }

/** The owner of a job as far as it is stored: nothing can be sent to it. */
export const absentOwner = (
  { log, store }: JobParts,
  { principal, sessionId }: JobRecord,
  { features, identity }: Pick<Survival, "features" | "identity">
): Effect.Effect<JobSession, InternalError> =>
  Effect.gen(function* () {
    const session = yield* Faults.storage(store.session(sessionId))
    return {
      sessionId,
      identity: { ...identity, principal },
      features,
      view: session === undefined ? log.goneView(sessionId, features) : yield* log.loadView(session),
      send: () => {},
      sendFrame: () => {}
    }
  })

const recovered = (at: number, attempt: number): NewEvent => ({
  type: "job.event",
  kind: "status",
  payload: JSON.stringify({ kind: "status", ts: timestamp(at), body: { phase: "recovered", attempt } })
})

/** Stores what has become of a job's survival, as often as it takes. */
const put = (parts: JobParts, job: JobLog, record: Survivor): Effect.Effect<void> =>
  Terminal.untilStored(
    Effect.suspend(() => {
      const live = parts.running.get(record.jobId)?.live
      const current = { ...(live?.record ?? record), survival: record.survival }
      if (live !== undefined) live.record = current
      return parts.log.amend(job, current, () => {})
    }),
    parts.running
  ).pipe(Effect.ignore)

/** What is run in the place of a handler that is not there: nothing, until the next start. */
const park = (parts: JobParts, job: JobLog, record: Survivor, why: ArcpError): Effect.Effect<never> =>
  put(parts, job, {
    ...record,
    survival: { ...record.survival, left: true, parked: why.code.toLowerCase() }
  }).pipe(Effect.zipRight(Effect.logWarning(`job parked: ${why.message}`)), Effect.zipRight(Effect.never))

/** Waits for what becomes of its children and for its pause, counts the attempt, says so, and decodes the input. */
const begin = (
  parts: JobParts,
  job: JobLog,
  record: Survivor,
  agent: Registered,
  progress: number,
  children: ReadonlyArray<string>
): Effect.Effect<Candidate["run"], ArcpError> =>
  Effect.gen(function* () {
    const { log, now, options, store } = parts
    const survival = Survivals.again(record.survival, progress, record.survival.left !== true)
    const loop = Survivals.crashLoop(survival, options)
    if (loop !== undefined) return yield* loop
    // Before the handler can end: nothing outlives its parent.
    yield* Effect.forEach(children, (jobId) => parts.unsettled.settled(jobId), { discard: true })
    yield* Effect.sleep(Survivals.pauseBefore(survival, options))
    yield* put(parts, job, { ...record, survival })
    yield* log.append(job, recovered(now(), survival.attempt))
    const input = yield* Faults.storage(store.input(record.jobId))
    if (input === undefined)
      return yield* new InternalError({ message: "the input of the job is not stored" })
    return yield* agent.prepare(JSON.parse(input))
  })

/** Returns the agent of a stored job. */
export const resolve = (
  registry: JobParts["registry"],
  agent: string
): Effect.Effect<Registered, AgentNotAvailable | AgentVersionNotAvailable> =>
  Option.match(AgentRef.parse(agent), {
    onNone: () => Effect.fail(new AgentNotAvailable({ message: `${agent} is no agent` })),
    onSome: registry.resolve
  })

/** Makes a job what it was, with the children that were open with it, and runs its handler again. */
export const rerun = (
  parts: JobParts,
  reopen: Reopen,
  record: Survivor,
  children: ReadonlyArray<string>
): Effect.Effect<void, InternalError> =>
  Effect.gen(function* () {
    const { log, options, owners, registry, running, store, turn } = parts
    const parent = record.parentJobId === undefined ? undefined : running.get(record.parentJobId)
    const job = yield* log.reopenJob(record, { parent: parent?.log })
    const session = owners.session(record.sessionId) ?? (yield* absentOwner(parts, record, record.survival))
    const journal = yield* Faults.storage(Journal.load(record.jobId, store, turn, options))
    const found = yield* Effect.either(resolve(registry, record.agent))
    const run = Either.match(found, {
      onLeft: (why): Candidate["run"] => park(parts, job, record, why),
      onRight: (agent) => Effect.flatten(begin(parts, job, record, agent, journal.lastOutcome, children))
    })
    yield* reopen({
      candidate: {
        session: owners.session(record.sessionId) ?? session,
        record,
        run,
        agent: Either.getOrElse(found, () => ({ awaitEmits: false, restart: record.survival.restart })),
        journal,
        input: undefined,
        parent,
        parentSpan: Tracing.submitter(record)
      },
      job,
      runs: Either.isRight(found)
    })
  })
