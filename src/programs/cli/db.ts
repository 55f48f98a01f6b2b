/** `arcp db`: what is in the file of a runtime, and what of it is due to be forgotten. */
import * as Command from "./Command.js"
import { clientFlags, logLevel } from "./client-flags.js"
import { dbFlag, jsonFlag } from "./db-flags.js"
import * as Flags from "./Flags.js"
import { pgFlag } from "./pg-flag.js"

const limit = Flags.text("limit").pipe(
  Flags.withDescription("an option of its arcp serve, such as jobRetention='7 days'"),
  Flags.shownAs("NAME=VALUE"),
  Flags.repeated
)

const statsFlags = { db: dbFlag("also while that runs"), pg: pgFlag, limit, json: jsonFlag, logLevel }
export type StatsFlags = Flags.Values<typeof statsFlags>

const stats = Command.make(
  {
    name: "db stats",
    summary: "Say what is in the file, whose it is, what takes the space, what is due",
    flags: statsFlags,
    examples: ["arcp db stats", "arcp db stats --limit jobRetention='7 days' --json"]
  },
  () => import("./run/dbStats.js")
)

const sweepFlags = {
  db: dbFlag("which must not run; with --dry-run it may"),
  pg: pgFlag,
  dryRun: Flags.boolean("dry-run").pipe(
    Flags.withDescription("only say what would be forgotten, and why not the rest")
  ),
  limit,
  json: jsonFlag,
  logLevel
}
export type SweepFlags = Flags.Values<typeof sweepFlags>

const sweep = Command.make(
  {
    name: "db sweep",
    summary: "Forget what a runtime would forget when it runs, and free its space",
    flags: sweepFlags,
    examples: [
      "arcp db sweep --dry-run",
      "arcp db sweep --dry-run --limit jobRetention='1 hour'",
      "arcp db sweep --db .arcp/arcp.db"
    ],
    more: {
      "Which limits": [
        "Those of arcp serve: jobRetention, maxRetainedJobs, maxRetainedJobsInAll,",
        "maxRetainedEvents and maxRetainedBytes of a job and of what a session has not",
        "read, resumeWindow for sessions. They are not in the file: what its server is",
        "told is to be said here, else the defaults hold. A runtime that runs sweeps itself."
      ]
    }
  },
  () => import("./run/dbSweep.js")
)

export const db: Command.Group = {
  name: "db",
  summary: "Say what is in the file of a runtime, and what of it is due to go",
  commands: [stats, sweep],
  examples: ["arcp db stats", "arcp db sweep --dry-run"],
  more: {}
}

const { context, insecure, token, url } = clientFlags
const deleteFlags = {
  db: dbFlag("which must not run; with --dry-run it may"),
  pg: pgFlag,
  running: Flags.boolean("running").pipe(
    Flags.withDescription("ask the server at --url, as one of its operators, in place of --db")
  ),
  context,
  url,
  token,
  insecure,
  principal: Flags.text("principal").pipe(
    Flags.withDescription("all jobs and sessions of this principal, in place of JOB"),
    Flags.shownAs("PRINCIPAL"),
    Flags.optional
  ),
  cancel: Flags.boolean("cancel").pipe(
    Flags.withDescription("also jobs that have not ended, which never will")
  ),
  dryRun: Flags.boolean("dry-run").pipe(Flags.withDescription("only say what would be deleted")),
  json: jsonFlag,
  logLevel
}
export type DeleteFlags = Flags.Values<typeof deleteFlags>

export const jobsDelete = Command.make(
  {
    name: "jobs delete",
    summary: "Delete a job, or all of a principal, from the file of a runtime, or while it runs",
    arguments: [{ name: "JOB", description: "a job id, job_…; or --principal", optional: true }],
    flags: deleteFlags,
    onlys: [
      {
        flags: ["url", "token", "context", "insecure"],
        where: (written) => Command.isOn(written, "running"),
        why: "is for --running, which asks a server; without it a file is worked on that no server has"
      },
      {
        flags: ["db", "pg"],
        where: (written) => !Command.isOn(written, "running"),
        why: "names what no server has; with --running the one at --url is asked, and works on its own"
      }
    ],
    examples: [
      "arcp jobs delete JOB --db .arcp/arcp.db",
      "arcp jobs delete --principal alice --dry-run",
      "arcp jobs delete --principal alice --running --cancel"
    ],
    more: {
      "While it runs": [
        "With --running the server deletes them, for whom it is told are its operators",
        "(arcp serve --operator), by DELETE /v1/jobs. Jobs that have not ended are",
        "cancelled with --cancel. What was deleted is overwritten soon after."
      ],
      "What goes": [
        "Events, input, journal, results, idempotency key, calls of hooks, and the jobs",
        "that it has delegated to. The file is written anew: nothing is left in free",
        "pages or in the log. It needs as much room again for that moment. A Postgres",
        "overwrites it in its own time, or by VACUUM FULL."
      ],
      "What does not": [
        "Backups, logs, files that agents or clients wrote, and what other jobs took",
        "over (arcp fork). Records of credentials that may still be good upstream stay",
        "until they are revoked: arcp credentials --revoke."
      ],
      "Exit codes": ["0 it is gone   1 it is not, and nothing has changed   2 a mistake"]
    }
  },
  () => import("./run/jobsDelete.js")
)
