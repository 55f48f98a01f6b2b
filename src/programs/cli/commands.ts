/** The commands of `arcp`: what they take. What they do is in `run`, and loaded when it is asked for. */
import { jobStatuses } from "../../protocol/JobStatus.js"
import { backup, restore } from "./backup.js"
import * as Command from "./Command.js"
import { clientFlags } from "./client-flags.js"
import { context } from "./context.js"
import { credentials } from "./credentials.js"
import { db, jobsDelete } from "./db.js"
import { dev } from "./dev.js"
import { doctor } from "./doctor.js"
import * as Flags from "./Flags.js"
import { nodes, sessions, top } from "./observe.js"
import { replay } from "./replay.js"
import { serve } from "./serve.js"

const exitCodes = [
  "0 success   1 the job or the request failed   2 a mistake in the command",
  "3 cancelled   4 timed out   5 no runtime to be reached   130 interrupted",
  "6 the output could not be written   141 nobody reads it any more"
]

const optional = (name: string, value: string, description: string) =>
  Flags.text(name).pipe(Flags.withDescription(description), Flags.shownAs(value), Flags.optional)

const leaseFlags = {
  lease: Flags.text("lease").pipe(
    Flags.withDescription("what the job may use, e.g. 'fs.read=/src/**'"),
    Flags.shownAs("CAPABILITY=PATTERN", "Lease"),
    Flags.repeated
  ),
  budget: Flags.text("budget").pipe(
    Flags.withDescription("what the job may spend, e.g. USD:5"),
    Flags.shownAs("CURRENCY:AMOUNT", "Lease"),
    Flags.repeated
  ),
  expiresIn: Flags.text("expires-in").pipe(
    Flags.withDescription("how long the lease holds: 30s, 10m, 2h or 1d"),
    Flags.shownAs("DURATION", "Lease"),
    Flags.optional
  ),
  leaseFile: Flags.text("lease-file").pipe(
    Flags.withDescription(
      "JSON file with a lease, or with lease_request and lease_constraints; adds to --lease"
    ),
    Flags.shownAs("FILE", "Lease"),
    Flags.optional
  )
}

/** What a command takes that starts a job and watches it. */
const startFlags = {
  key: Flags.text("key").pipe(
    Flags.withDescription("idempotency key: the same key starts one job"),
    Flags.shownAs("KEY", "Job"),
    Flags.optional
  ),
  timeoutSec: Flags.integer("timeout-sec").pipe(
    Flags.withDescription("end the job after so many seconds"),
    Flags.shownAs("N", "Job"),
    Flags.optional
  ),
  delay: Flags.text("delay").pipe(
    Flags.withDescription("accept the job now, and begin it after so long: 30s, 10m, 2h or 1d"),
    Flags.shownAs("DURATION", "Job"),
    Flags.optional
  ),
  startAt: Flags.text("start-at").pipe(
    Flags.withDescription(
      "accept the job now, and begin it at this time: 2026-01-31T12:00:00+01:00, or without an offset by this machine's clock"
    ),
    Flags.shownAs("TIME", "Job"),
    Flags.optional
  ),
  detach: Flags.boolean("detach").pipe(
    Flags.withDescription("print the job id and leave; the job goes on"),
    Flags.inGroup("Job")
  ),
  ...leaseFlags,
  ...clientFlags
}
export type StartFlags = Flags.Values<typeof startFlags>

const input = Flags.text("input").pipe(
  Flags.withDescription("what the agent gets: JSON, @FILE, or - for stdin"),
  Flags.shownAs("JSON", "Job")
)

const submitFlags = { input: input.pipe(Flags.withDefault("{}")), ...startFlags }
export type SubmitFlags = Flags.Values<typeof submitFlags>

const submit = Command.make(
  {
    name: "submit",
    summary: "Submit a job and watch it",
    arguments: [{ name: "AGENT", description: "name, or name@version", optional: false }],
    flags: submitFlags,
    examples: [
      `arcp submit survey --input '{"root":"."}' --lease 'fs.read=./**'`,
      "arcp submit build@2.0.0 --input @input.json --timeout-sec 600",
      "arcp submit build --key nightly-2026-01-31 --budget USD:5 --detach"
    ],
    more: { "Exit codes": exitCodes }
  },
  async () => (await import("./run/clients.js")).submit
)

const job = { name: "JOB", description: "a job id, job_…", optional: false }

/** What is left out is as it was in the other job. */
const againFlags = {
  input: input.pipe(
    Flags.withDescription("another input than that job's: JSON, @FILE, or - for stdin"),
    Flags.optional
  ),
  agent: Flags.text("agent").pipe(
    Flags.withDescription("another version of its agent, name@version"),
    Flags.shownAs("AGENT", "Job"),
    Flags.optional
  ),
  ...startFlags
}
const forkFlags = {
  at: Flags.text("at").pipe(
    Flags.withDescription("take over what was committed before this step, and go on with it"),
    Flags.shownAs("STEP", "Job"),
    Flags.optional
  ),
  ...againFlags
}
export type ForkFlags = Flags.Values<typeof forkFlags>
export type RetryFlags = Flags.Values<typeof againFlags>

const fork = Command.make(
  {
    name: "fork",
    summary: "Go on from a step of another job, without doing the earlier ones again",
    arguments: [job],
    flags: forkFlags,
    examples: [
      "arcp fork JOB --at 'roll db-2'",
      "arcp fork JOB --at report --input @input.json --budget USD:5",
      "arcp replay --job JOB --steps   # which steps there are"
    ],
    more: { "Exit codes": exitCodes }
  },
  async () => (await import("./run/clients.js")).fork
)

const retry = Command.make(
  {
    name: "retry",
    summary: "Start a job again: the same input, lease and limits",
    arguments: [job],
    flags: againFlags,
    examples: ["arcp retry JOB", "arcp retry JOB --budget USD:20 --expires-in 2h --detach"],
    more: { "Exit codes": exitCodes }
  },
  async () => (await import("./run/clients.js")).retry
)

const watchFlags = {
  noHistory: Flags.boolean("no-history").pipe(Flags.withDescription("only what happens from now on")),
  ...clientFlags
}
export type WatchFlags = Flags.Values<typeof watchFlags>

const watch = Command.make(
  {
    name: "watch",
    summary: "Watch a job from elsewhere, from its beginning",
    arguments: [job],
    flags: watchFlags,
    examples: ["arcp watch job_01J9ABCDEFGHJKMNPQRSTVWXYZ", "arcp watch JOB --no-history --json"],
    more: { "Exit codes": exitCodes }
  },
  async () => (await import("./run/clients.js")).watch
)

/** What a listing shows as the status of a job: `waiting` is one that runs and waits for an answer. */
const shownStatuses = [...jobStatuses, "waiting"] as const

const jobsFlags = {
  status: Flags.choice("status", shownStatuses).pipe(
    Flags.withDescription(`only jobs of this status: ${shownStatuses.join(", ")}`),
    Flags.shownAs("STATUS"),
    Flags.repeated
  ),
  waiting: Flags.boolean("waiting").pipe(
    Flags.withDescription("only jobs that wait for an answer, as --status waiting")
  ),
  agent: optional("agent", "AGENT", "only jobs of this agent, name or name@version"),
  after: optional(
    "created-after",
    "TIME",
    "only jobs created after this time: 1h (ago), 2026-01-31, or 2026-01-31T12:00:00+01:00"
  ),
  before: optional("created-before", "TIME", "only jobs created before this time"),
  limit: Flags.integer("limit").pipe(
    Flags.withDescription("how many of the newest; 0 is all (default 20; with --json all, oldest first)"),
    Flags.shownAs("N"),
    Flags.optional
  ),
  ...clientFlags
}
export type JobsFlags = Flags.Values<typeof jobsFlags>

const listJobs = Command.make(
  {
    name: "jobs",
    summary: "List jobs, newest first",
    flags: jobsFlags,
    examples: [
      "arcp jobs",
      "arcp jobs --status error --status timed_out --created-after 1d",
      "arcp jobs --waiting",
      "arcp jobs --agent survey --json"
    ]
  },
  async () => (await import("./run/clients.js")).jobs
)

const jobs: Command.Group = {
  name: "jobs",
  summary: listJobs.summary,
  alone: listJobs,
  commands: [jobsDelete],
  examples: [],
  more: {}
}

const cancelFlags = {
  reason: optional("reason", "TEXT", "why, for the record"),
  ...clientFlags
}
export type CancelFlags = Flags.Values<typeof cancelFlags>

const cancel = Command.make(
  {
    name: "cancel",
    summary: "Cancel a job: one submitted with --detach from here, or one the runtime lets you",
    arguments: [job],
    flags: cancelFlags,
    examples: ["arcp cancel JOB --reason 'no longer needed'"]
  },
  async () => (await import("./run/clients.js")).cancel
)

const answerFlags = {
  value: optional("value", "JSON", "the answer; without it you are asked on the terminal"),
  about: optional(
    "about",
    "SHA256",
    "of what was seen, when the question is about something that may have changed"
  ),
  ...clientFlags
}
export type AnswerFlags = Flags.Values<typeof answerFlags>

const answer = Command.make(
  {
    name: "answer",
    summary: "Answer what a job asks",
    arguments: [
      job,
      { name: "INPUT", description: "which question, when it has asked several", optional: true }
    ],
    flags: answerFlags,
    examples: ["arcp jobs --waiting", "arcp answer JOB", "arcp answer JOB INPUT --value true"]
  },
  async () => (await import("./run/clients.js")).answer
)

const agents = Command.make(
  {
    name: "agents",
    summary: "List the agents that you may use, or say what one takes",
    arguments: [
      { name: "NAME", description: "an agent, or one version of it: name@version", optional: true }
    ],
    flags: clientFlags,
    examples: ["arcp agents", "arcp agents survey", "arcp agents survey@1.0.0 --json"]
  },
  async () => (await import("./run/clients.js")).agents
)

/** What may come after `arcp`. */
export const entries: ReadonlyArray<Command.Command | Command.Group> = [
  serve,
  dev,
  submit,
  watch,
  jobs,
  cancel,
  answer,
  fork,
  retry,
  agents,
  context,
  credentials,
  replay,
  backup,
  restore,
  db,
  doctor,
  sessions,
  nodes,
  top
]

export const commands: ReadonlyArray<Command.Command> = Command.allOf(entries)
