/** What `arcp replay` does. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { untilDamage } from "../../../layers/store/untilDamage.js"
import { eventFrames } from "../../../protocol/Codec.js"
import { eventIds } from "../../../protocol/Ids.js"
import { type JobRecord, Store, type StoredEvent, type StoreError } from "../../../services/store/Store.js"
import { columnsOf } from "../columns.js"
import type { ReplayFlags } from "../replay.js"
import { inLine, json, safeJson } from "../text.js"
import { UsageError } from "../UsageError.js"
import * as Steps from "./replaySteps.js"
import * as Tree from "./replayTree.js"
import { storedOf } from "./stored.js"

const page = 500

/** Events of a job from a `seq` on, read page by page. */
const eventsOf = (jobId: string, from: number) =>
  Stream.unwrap(
    Effect.map(Store, (store) =>
      Stream.paginateEffect(from, (seq) =>
        Effect.map(untilDamage(store, jobId, seq)(store.events(jobId, seq, page)), (events) => {
          const last = events[events.length - 1]
          return [events, last === undefined ? Option.none<number>() : Option.some(last.seq + 1)] as const
        })
      ).pipe(Stream.mapConcat((events): ReadonlyArray<StoredEvent> => events))
    )
  )

/** What was asked for is not there. */
class NotStored extends Data.TaggedError("NotStored")<{ readonly id: string; readonly why: string }> {}

const jobOf = (jobId: string): Effect.Effect<JobRecord, NotStored | StoreError, Store> =>
  Effect.flatMap(Store, (store) => store.job(jobId)).pipe(
    Effect.filterOrFail(
      (job): job is JobRecord => job !== undefined,
      () => new NotStored({ id: jobId, why: "it may no longer be retained" })
    )
  )

/** A job's events as they are stored: numbered within the job. */
const replayJob = (jobId: string, after: number) =>
  Effect.gen(function* () {
    const job = yield* jobOf(jobId)
    yield* Stream.runForEach(eventsOf(jobId, after + 1), (event) =>
      Console.log(
        safeJson(
          `{"job_id":"${job.jobId}","seq":${event.seq},"type":"${event.type}","payload":${event.payload}}`
        )
      )
    )
  })

/** The frames of a session as it got, or would get, them. */
const replaySession = (sessionId: string, after: number) =>
  Effect.gen(function* () {
    const store = yield* Store
    const session = yield* store.session(sessionId)
    if (session === undefined)
      return yield* new NotStored({ id: sessionId, why: "its window may have passed" })
    const idOf = eventIds(sessionId)
    let from = after + 1
    for (;;) {
      const runs = yield* store.runs(sessionId, from, page)
      if (runs.length === 0) return
      for (const run of runs) {
        const job = yield* jobOf(run.jobId)
        const frame = eventFrames({
          version: session.version,
          sessionId,
          jobId: run.jobId,
          traceId: job.traceId
        })
        const skipped = Math.max(0, from - run.eventSeq)
        yield* eventsOf(run.jobId, run.jobSeq + skipped).pipe(
          Stream.take(run.count - skipped),
          Stream.runForEach((event) => {
            const seq = run.eventSeq + (event.seq - run.jobSeq)
            return Console.log(safeJson(frame(event.type, idOf(seq), seq, event.payload)))
          })
        )
        from = run.eventSeq + run.count
      }
    }
  })

const columns = () => columnsOf(process.stdout)

/** What a durable job has done, asked and waited for. */
const replaySteps = (jobId: string, asJson: boolean) =>
  Effect.gen(function* () {
    const job = yield* jobOf(jobId)
    const rows = yield* Steps.rowsOf(job, eventsOf(jobId, 1))
    if (asJson)
      return yield* Effect.forEach(rows, (row) => Console.log(json({ job_id: jobId, ...row })), {
        discard: true
      })
    const parked = job.survival?.parked
    yield* Console.error(
      inLine(
        `${job.agent} ${jobId} ${job.status}${parked === undefined || job.endedAt !== undefined ? "" : `, parked: ${parked}`}`
      )
    )
    if (rows.length === 0)
      return yield* Console.error(
        job.survival?.restart === "steps" ? "no steps yet" : "no steps: its agent is not durable"
      )
    for (const line of Steps.table(rows, columns())) yield* Console.log(line)
  })

/** A job, and what it has delegated to. */
const replayTree = (jobId: string, asJson: boolean) =>
  Effect.gen(function* () {
    const rows = yield* Tree.rowsOf(yield* jobOf(jobId))
    if (asJson) yield* Effect.forEach(rows, (row) => Console.log(json(Tree.value(row))), { discard: true })
    else {
      const now = yield* Clock.currentTimeMillis
      for (const line of Tree.lines(rows, now, columns())) yield* Console.log(line)
    }
    if (rows.length === Tree.maxRows)
      yield* Console.error(`the first ${Tree.maxRows} jobs; --job with one of them shows what is below it`)
  })

const replayOf = ({ after, job, json, session, steps, tree }: ReplayFlags) =>
  Option.isSome(job) && Option.isNone(session)
    ? steps
      ? replaySteps(job.value, json)
      : tree
        ? replayTree(job.value, json)
        : replayJob(job.value, after)
    : Option.isSome(session) && Option.isNone(job) && !steps && !tree
      ? replaySession(session.value, after)
      : undefined

export const run = (flags: ReplayFlags) =>
  Effect.gen(function* () {
    if (flags.steps && flags.tree)
      return yield* new UsageError({ message: "choose --steps or --tree, one of them" })
    if ((flags.steps || flags.tree) && Option.isNone(flags.job))
      return yield* new UsageError({ message: "--steps and --tree are of a job: --job JOB" })
    const replay = replayOf(flags)
    if (replay === undefined)
      return yield* new UsageError({ message: "choose --session SESSION or --job JOB, one of them" })
    const stored = yield* storedOf(flags)
    yield* replay.pipe(
      Effect.catchTag(
        "NotStored",
        ({ id, why }) =>
          new UsageError({ message: `${id} is not in ${stored.name} (${stored.flag} names another); ${why}` })
      ),
      Effect.provide(stored.layer)
    )
  })
