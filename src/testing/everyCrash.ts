/** Runs a durable agent once without a crash, and once for each commit at which its process dies; it must come to the same. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as Registry from "../layers/agents/Registry.js"
import * as ArcpClient from "../layers/client/ArcpClient.js"
import { InternalError } from "../protocol/Errors.js"
import type { Event } from "../protocol/Event.js"
import type { Registered } from "../services/agents/Agent.js"
import { eventLoop } from "../services/runtime/Turn.js"
import type { Op } from "../services/store/Store.js"
import { CheckFailed, endedOnce } from "./Check.js"
import * as Crashable from "./Crashable.js"
import type { CrashPoint } from "./CrashStore.js"
import { numberedOnce } from "./framesInOrder.js"
import { IdleClock } from "./IdleClock.js"
import { type Died, Moves, Watch } from "./Process.js"
import type { Exact, Failures, Options, Requirements } from "./parts.js"
import { read, type StoredJob } from "./StoredJobs.js"
import { type Comparable, check, compare, type Differences } from "./sameJob.js"

/** A run of the agent, from its submit to its end. */
export interface CrashRun {
  /** Where its process died; empty for the first run. */
  readonly crashes: ReadonlyArray<CrashPoint>
  readonly jobId: string
  /** What it came to. */
  readonly result: Exit.Exit<unknown, unknown>
}

/** Options of `everyCrash`, beside those of a runtime for tests. */
export interface EveryCrashOptions extends Options {
  /** Other agents that the runtime hosts, such as those that it delegates to. */
  readonly agents?: ReadonlyArray<Registered<unknown>> | undefined
  /** How it is submitted: its lease, its budget. */
  readonly submit?: ArcpClient.SubmitOptions | undefined
  /** What is answered to what the agent asks (`Job.input`). */
  readonly answer?: ((request: ArcpClient.InputRequest) => unknown) | undefined
  /**
   * How many processes of a run die, 1 or 2: with 2, the next process dies too, at each of its commits, which are many runs.
   * Default: 1.
   */
  readonly crashes?: 1 | 2 | undefined
  /**
   * `test`, the default: a clock of its own, from 1970 on, which goes on to the next timer when nothing moves. `real`: time as
   * it passes, for agents that wait for something outside of the program.
   */
  readonly clock?: "test" | "real" | undefined
  /** How long a run may take, by that clock. Default: a day; with the real clock, a minute. */
  readonly within?: Duration.DurationInput | undefined
  /**
   * The agent is to end as `InternalError`: by a failure that it does not declare, or a defect. Otherwise a run that ends so without
   * a crash is a `CheckFailed`, since an agent that never works comes to the same after every crash. Default: false.
   */
  readonly mayFail?: boolean | undefined
  /** What is compared of an event; `undefined` leaves it out. Default: its kind and its body. */
  readonly comparable?: ((event: Event) => unknown) | undefined
  /** Called after each run, to look at what the agent has done outside, and to begin anew. */
  readonly each?: ((run: CrashRun) => Effect.Effect<void>) | undefined
}

/** What `everyCrash` has done. */
export interface CrashReport {
  /** What the run without a crash came to, and so each of the others. */
  readonly result: Exit.Exit<unknown, unknown>
  /** Commits of the run without a crash that change the job. */
  readonly commits: number
  /** Runs with a crash. */
  readonly runs: number
}

/** A run as it is looked at afterwards. */
interface Ended {
  readonly run: CrashRun
  readonly deaths: ReadonlyArray<Died>
  /** Commits of the last process. */
  readonly commits: number
  readonly job: StoredJob
  readonly wire: Differences
}

const operations = (batch: ReadonlyArray<Op>): string =>
  batch
    .flatMap((op) => {
      switch (op._tag) {
        case "PutJob":
          return [`job ${op.job.status}`]
        case "Append":
          return op.events.map(({ kind, payload, type }) =>
            type === "job.event" ? `${kind} ${JSON.stringify(JSON.parse(payload).body)}` : type
          )
        default:
          return []
      }
    })
    .join("; ")

const where = ({ at }: Died): string => {
  if (at === undefined) return "when it was told to"
  const what = operations(at.batch)
  return `${at.when} commit ${at.commit} (${what.length > 300 ? `${what.slice(0, 299)}…` : what})`
}

const story = (deaths: ReadonlyArray<Died>): string =>
  deaths.length === 0
    ? "without a crash"
    : `after a crash ${deaths.map(where).join(", and of the next process ")}`

const failed = (deaths: ReadonlyArray<Died>, differences: ReadonlyArray<string>): CheckFailed =>
  new CheckFailed(
    `expected the same ${story(deaths)}; came\n${differences.map((line) => `  ${line}`).join("\n")}`
  )

/** A run that has not ended in its time. */
const late = (within: Duration.Duration) =>
  new CheckFailed(
    `it did not end in time: a run has ${Duration.format(within)}, and more by the option \`within\``
  )

/** Turns of the event loop in which nothing has moved, after which everything waits for time to pass. */
const quietTurns = 8

/** Lets time go on whenever nothing moves: to the next timer. Dies when it has gone on for too long. */
const passTime = (
  clock: IdleClock,
  moves: Moves,
  isCommitting: () => boolean,
  within: Duration.Duration
): Effect.Effect<never> =>
  Effect.gen(function* () {
    const until = Duration.toMillis(within)
    let quiet = 0
    let seen = -1
    for (;;) {
      yield* eventLoop.next
      quiet = seen === moves.count && !isCommitting() ? quiet + 1 : 0
      seen = moves.count
      if (quiet < quietTurns) continue
      quiet = 0
      const { next } = clock
      if (next === Number.POSITIVE_INFINITY) continue
      if (next > until) return yield* Effect.die(late(within))
      clock.moveTo(next)
    }
  })

const defaultEvent: Comparable = ({ body, kind }) => ({ kind, body })

/** Answers what a job asks. An answer whose process dies is given again. */
const answering = (
  client: ArcpClient.ArcpClientService,
  job: ArcpClient.JobHandle<unknown, unknown>,
  answer: NonNullable<EveryCrashOptions["answer"]>
): Effect.Effect<void> =>
  Stream.runForEach(job.inputs, (request) =>
    client
      .answer(job.jobId, request.input_id, answer(request), { about: request.about?.sha256 })
      .pipe(Effect.retry({ while: ArcpClient.isRetryable, times: 8 }), Effect.ignore)
  )

/** Runs the agent to its end, over the crashes that are planned, as far as they come. */
const runOnce = (
  agent: Registered<unknown>,
  input: unknown,
  options: EveryCrashOptions,
  plan: ReadonlyArray<CrashPoint>
): Effect.Effect<Ended, unknown, unknown> => {
  const clock = options.clock === "real" ? Clock.make() : new IdleClock()
  const within = Duration.decode(
    options.within ?? (clock instanceof IdleClock ? Duration.days(1) : Duration.minutes(1))
  )
  const deaths: Array<Died> = []
  const running = Effect.gen(function* () {
    const moves = new Moves()
    const runtime = yield* Crashable.make([agent, ...(options.agents ?? [])], options, moves, plan[0])
    const ended = yield* Deferred.make<Omit<CrashRun, "crashes">, ArcpClient.ClientError>()
    const submitting = Effect.gen(function* () {
      const job = yield* runtime.client.submit(`${agent.name}@${agent.version}`, input, options.submit)
      if (options.answer !== undefined) yield* Effect.fork(answering(runtime.client, job, options.answer))
      yield* Deferred.succeed(ended, { jobId: job.jobId, result: yield* Effect.exit(job.result) })
    })
    yield* Effect.supervised(
      Effect.forkScoped(Effect.onError(submitting, (cause) => Deferred.failCause(ended, cause))),
      new Watch(moves)
    )
    const crashing = Effect.gen(function* () {
      for (;;) {
        deaths.push(yield* runtime.crashed)
        yield* runtime.crashAt(plan[deaths.length])
        yield* runtime.restart
      }
    })
    yield* Effect.forkScoped(crashing)
    const time =
      clock instanceof IdleClock
        ? passTime(clock, moves, runtime.isCommitting, within)
        : Effect.zipRight(Effect.sleep(within), Effect.die(late(within)))
    const { jobId, result } = yield* Effect.orDie(Effect.raceFirst(Deferred.await(ended), time))
    const job = yield* read(runtime.store, jobId)
    if (job === undefined) return yield* Effect.die(new CheckFailed("the job is not stored"))
    const wire: Differences = []
    numberedOnce(yield* runtime.faults.frames, wire)
    endedOnce(yield* runtime.faults.frames, jobId)
    return {
      run: { crashes: plan.slice(0, deaths.length), jobId, result },
      deaths,
      commits: yield* runtime.commits,
      job,
      wire
    }
  }).pipe(Effect.scoped)
  return running.pipe(
    Effect.withClock(clock),
    Effect.catchAllDefect((defect) =>
      Effect.die(defect instanceof CheckFailed ? failed(deaths, [defect.message]) : defect)
    )
  )
}

/** The plans that follow from a run: its last process dies at each of its commits. */
const further = ({ commits, run }: Ended): ReadonlyArray<ReadonlyArray<CrashPoint>> =>
  Array.from({ length: commits }, (_, i) =>
    (["before", "after"] as const).map((when) => [...run.crashes, { commit: i + 1, when }])
  ).flat()

/** Checks that a run without a crash has come to something that crashes can be held against. */
const checkWorks = ({ run: { result } }: Ended): Effect.Effect<void> => {
  const failure = Exit.isFailure(result)
    ? Option.getOrUndefined(Cause.failureOption(result.cause))
    : undefined
  return failure instanceof InternalError
    ? Effect.die(
        new CheckFailed(
          `the agent fails without a crash, so nothing is tried: ${failure.message}; \`mayFail: true\` when it is to end so`
        )
      )
    : Effect.void
}

const everyPoint = (
  agent: Registered<unknown>,
  input: unknown,
  options: EveryCrashOptions
): Effect.Effect<CrashReport, unknown, unknown> =>
  Effect.gen(function* () {
    const { comparable = defaultEvent, crashes = 1, each = () => Effect.void } = options
    const judge = (ended: Ended, wanted: StoredJob) =>
      Effect.suspend(() => {
        const differences: Differences = [...ended.wire]
        check(ended.job, differences)
        compare(wanted, ended.job, comparable, differences)
        return differences.length === 0 ? each(ended.run) : Effect.die(failed(ended.deaths, differences))
      })
    const first = yield* runOnce(agent, input, options, [])
    if (options.mayFail !== true) yield* checkWorks(first)
    yield* judge(first, first.job)
    let runs = 0
    let plans = further(first)
    for (let depth = 1; depth <= crashes; depth++) {
      const next: Array<ReadonlyArray<CrashPoint>> = []
      for (const plan of plans) {
        const ended = yield* runOnce(agent, input, options, plan)
        runs++
        yield* judge(ended, first.job)
        if (ended.deaths.length === plan.length) next.push(...further(ended))
      }
      plans = next
    }
    return { result: first.run.result, commits: first.commits, runs }
  })

/**
 * Runs a job of a durable agent once without a crash, and then once for each commit and side of it at which its process
 * dies: before the commit reached the store, and after it did, before anybody was told. The next process goes on with what is
 * stored, and the job must come to the same: outcome, outcomes of steps, events but for those of attempts that were cut off,
 * one end, numbers without a gap, and a budget that says what the events say. Dies with a `CheckFailed` that names the
 * commit and what differs.
 *
 * The runtime of each run is new, in memory, with a clock of its own. What the agent's services do is outside of it, and
 * happens in each run: `each` can look at it.
 *
 * @example
 * const report = yield* TestRuntime.everyCrash(deploy, "staging", { submit: { leaseRequest } })
 */
export const everyCrash = <R, P extends EveryCrashOptions = Record<never, never>>(
  agent: Registered<R>,
  input: unknown,
  options?: P & Exact<EveryCrashOptions, P>
): Effect.Effect<CrashReport, Failures<P>, R | AgentsOf<P> | Requirements<P>> =>
  everyPoint(agent as Registered<unknown>, input, options ?? {}) as Effect.Effect<
    CrashReport,
    Failures<P>,
    R | AgentsOf<P> | Requirements<P>
  >

type AgentsOf<P> = P extends { readonly agents: infer Agents extends ReadonlyArray<Registered<unknown>> }
  ? Registry.Requirements<Agents>
  : never
