/** Every limit and interval of a runtime, with its default and unit (§4.8 of the protocol page). */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { count, countOrNone, duration, positiveDuration, withDefault } from "./optionSchemas.js"

const MiB = 1024 * 1024

/** What an outbound frame must be able to hold, in bytes: an envelope, and something in it. */
const smallestFrame = 16 * 1024

/** Checks the options of a runtime and fills in what is left out. Durations are given in any form that Effect takes. */
export const RuntimeOptionsSchema = Schema.Struct({
  /** Name and version sent in `session.welcome`. */
  name: withDefault(Schema.NonEmptyString, "effect-arcp"),
  version: withDefault(Schema.NonEmptyString, "0.1.0"),

  /** How long a session outlives its last message. */
  resumeWindow: withDefault(positiveDuration, Duration.minutes(10)),
  /** Time between heartbeats. */
  heartbeatInterval: withDefault(positiveDuration, Duration.seconds(30)),
  /** What an interrupted job gets before it is disowned. */
  cancelGrace: withDefault(duration, Duration.seconds(30)),
  /** What running jobs get to finish when the runtime shuts down. */
  shutdownGrace: withDefault(duration, Duration.seconds(5)),
  /** Cancel a session's jobs on `session.bye`, as ARCP 1.0 runtimes did. */
  cancelOnBye: withDefault(Schema.Boolean, false),

  /**
   * What becomes of a session whose token has ended, of a client that cannot renew it: `finish` refuses its requests and
   * lets it see the end of its jobs, `close` closes its transport.
   */
  tokenExpiry: withDefault(Schema.Literal("finish", "close"), "finish"),

  /** Bytes of one inbound frame, and of one before welcome. */
  maxFrameBytes: withDefault(count, MiB),
  maxHelloFrameBytes: withDefault(count, 64 * 1024),
  /** Bytes of one outbound frame, whatever it says: at least 16 KiB. */
  maxOutboundFrameBytes: withDefault(
    count.pipe(
      Schema.greaterThanOrEqualTo(smallestFrame, { description: `at least ${smallestFrame} bytes` })
    ),
    2 * MiB
  ),
  /**
   * Bytes of answers, accepts and pongs that wait for a peer that does not read; then its frames are not read either.
   * Events are not among them: they wait in the log.
   */
  maxUnsentBytes: withDefault(count, MiB),
  /** Time within which a connection must say hello, and how many may be waiting. */
  helloTimeout: withDefault(positiveDuration, Duration.seconds(10)),
  maxPendingHellos: withDefault(count, 1_000),
  /**
   * Failed logins of one address that are answered at once, and the time between the answers to further ones. More than
   * wait for an answer are not looked at.
   */
  failedLoginsAtOnce: withDefault(count, 5),
  failedLoginInterval: withDefault(duration, Duration.seconds(1)),
  /** More malformed frames than this within the window close the transport. */
  maxMalformedFrames: withDefault(count, 20),
  malformedWindow: withDefault(positiveDuration, Duration.seconds(10)),

  maxSessionsPerPrincipal: withDefault(count, 100),
  maxJobsPerSession: withDefault(count, 100),
  maxJobsPerPrincipal: withDefault(count, 1_000),
  /**
   * Jobs that one principal has submitted and that run at once: what is above waits as `pending`, where `maxJobsPerPrincipal`
   * refuses. 0: as many as that.
   */
  concurrencyPerPrincipal: withDefault(countOrNone, 0),
  /** Jobs that wait as `pending`, for a place or for their time, of one principal and in all; more are refused. */
  maxPendingJobsPerPrincipal: withDefault(count, 10_000),
  maxPendingJobs: withDefault(count, 100_000),
  /** Submits of one principal within a window; beyond them it is told when to come again. 0: any number. */
  submitsPerPrincipal: withDefault(countOrNone, 0),
  submitWindow: withDefault(positiveDuration, Duration.minutes(1)),
  /** Jobs above a delegated job, and delegated jobs of one job that run at once. */
  maxDelegationDepth: withDefault(count, 16),
  maxChildrenPerJob: withDefault(count, 100),
  maxSubscriptionsPerSession: withDefault(count, 1_000),
  /** Patterns of a lease, all capabilities together, and UTF-8 bytes with their names; more is refused. */
  maxLeasePatterns: withDefault(count, 2_000),
  maxLeaseBytes: withDefault(count, MiB),
  /** Steps of comparing a lease with a ceiling or a parent's, some 20 million a second; more is refused. */
  maxLeaseSteps: withDefault(count, 2_000_000),
  /** What one session (and one job's log) retains. An in-memory log keeps a sixteenth of both. */
  maxRetainedEvents: withDefault(count, 1_000_000),
  maxRetainedBytes: withDefault(count, 256 * MiB),
  /** Bytes of one result chunk, and of one streamed result in memory and on disk. */
  maxChunkBytes: withDefault(count, MiB),
  maxStreamedBytesMemory: withDefault(count, 256 * MiB),
  maxStreamedBytesDisk: withDefault(count, 16 * 1024 * MiB),
  /** Unacknowledged events at which a session is told of back-pressure. */
  backPressureLag: withDefault(count, 1_000),
  /** Bytes of recent events kept in memory for all jobs together; older ones come from the store. */
  tailBytes: withDefault(count, 32 * MiB),

  /** Let every emit wait until its event is committed, as those of agents do that say so (`Agent.make`). */
  awaitEmits: withDefault(Schema.Boolean, false),
  /** Events, and bytes, that a job has emitted and that are not committed, before its emits wait. */
  maxUncommittedEvents: withDefault(count, 256),
  maxUncommittedBytes: withDefault(count, 256 * 1024),
  /** The same for all jobs together, in bytes. */
  maxUncommittedBytesInAll: withDefault(count, 16 * MiB),
  /** How long events that the store does not take are tried again, before the jobs that emitted them end. */
  storagePatience: withDefault(duration, Duration.seconds(5)),

  /** Directory that relative paths of leased file systems start from; empty: the process's own. */
  workspace: withDefault(Schema.String, ""),
  /** Bytes of the body of a response, as the handler gets them, and the time of a request to its last byte, for a job's `HttpClient`. */
  maxFetchBytes: withDefault(count, 64 * MiB),
  fetchTimeout: withDefault(positiveDuration, Duration.minutes(10)),
  /** Send the trace of a job to every host that it fetches from. */
  fetchTraceHeaders: withDefault(Schema.Boolean, false),
  /** Let jobs whose lease has no `model.use` use any model. */
  allowModelsWithoutLease: withDefault(Schema.Boolean, false),

  /**
   * Tell clients the message of an undeclared failure of an agent. Otherwise it is in the log only, with its stack: it may
   * hold anything.
   */
  revealFailures: withDefault(Schema.Boolean, false),

  /** Bytes of what one step of a durable job comes to, and of all that its steps come to. */
  maxStepOutcomeBytes: withDefault(count, 2 * MiB),
  maxJournalBytes: withDefault(count, 256 * MiB),
  /** Characters of what the steps came to that a fork of a durable job takes over. */
  maxForkBytes: withDefault(count, 16 * MiB),
  /**
   * How often the process may die in one job that gets no further before the job ends (`crash_loop`), and the pause before
   * it is run for the third time after such deaths; it doubles each time, up to a minute.
   */
  maxAttempts: withDefault(count, 5),
  attemptPause: withDefault(duration, Duration.seconds(1)),

  /** How long a durable job only waits, for a sleep or an input, before it is taken out of memory. */
  unloadAfter: withDefault(duration, Duration.seconds(30)),
  /** Jobs of a principal that wait out of memory; of more, those that wait stay in it. */
  maxWaitingJobsPerPrincipal: withDefault(count, 100_000),
  /** Jobs that have waited out of memory and are in it again, at the most; others that are due take their turn. */
  maxWokenJobs: withDefault(count, 1_000),
  /** Calls of hooks that may be owed (`Hooks`); beyond them the oldest are given up. How long one is repeated. */
  maxHookEvents: withDefault(count, 10_000),
  hookPatience: withDefault(positiveDuration, Duration.days(3)),

  /** Store every job's input with it: up to 1 MiB as JSON text, else its SHA-256 digest. */
  storeInputs: withDefault(Schema.Boolean, true),

  /** How long an idempotency key is kept. */
  idempotencyWindow: withDefault(positiveDuration, Duration.days(1)),
  /** How long a finished job is kept, and with it its events and its place in listings. */
  jobRetention: withDefault(positiveDuration, Duration.days(1)),
  /** Finished jobs kept per principal, and in all, at the most; a sixteenth of it in memory. The oldest go first. */
  maxRetainedJobs: withDefault(count, 1_000_000),
  maxRetainedJobsInAll: withDefault(count, 4_000_000),
  /** Bytes that a log in memory holds at the most, for all jobs and sessions together. */
  maxMemoryLogBytes: withDefault(count, 256 * MiB)
})

/** All options with their defaults filled in. */
export type Options = Schema.Schema.Type<typeof RuntimeOptionsSchema>
/** What a caller gives: any subset. */
export type Input = Schema.Schema.Encoded<typeof RuntimeOptionsSchema>

/** The options of the runtime in whose context this runs. */
export class RuntimeOptions extends Context.Tag("arcp/services/RuntimeOptions")<RuntimeOptions, Options>() {}

/** Fills the defaults in and checks the values. Throws `ParseError` on a bad one. */
export const make: (input?: Input) => Options = (input = {}) => Schema.decodeSync(RuntimeOptionsSchema)(input)
