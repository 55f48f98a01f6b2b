/** `arcp replay`: what is stored of a session or a job, as JSON lines, without a runtime. */
import * as Command from "./Command.js"
import { logLevel } from "./client-flags.js"
import { dbFlag } from "./db-flags.js"
import * as CliOptions from "./Flags.js"
import { pgFlag } from "./pg-flag.js"

const options = {
  db: dbFlag("also while that runs"),
  pg: pgFlag,
  session: CliOptions.text("session").pipe(
    CliOptions.withDescription("frames of this session"),
    CliOptions.shownAs("SESSION"),
    CliOptions.optional
  ),
  job: CliOptions.text("job").pipe(
    CliOptions.withDescription("events of this job"),
    CliOptions.shownAs("JOB"),
    CliOptions.optional
  ),
  steps: CliOptions.boolean("steps").pipe(
    CliOptions.withDescription("of a durable job: its steps, their attempts, and what people were asked")
  ),
  tree: CliOptions.boolean("tree").pipe(
    CliOptions.withDescription("the job and those that it has delegated to")
  ),
  after: CliOptions.integer("after").pipe(
    CliOptions.withDescription("only what comes after this number"),
    CliOptions.withDefault(0)
  ),
  json: CliOptions.boolean("json").pipe(
    CliOptions.withDescription("one JSON value per line, which is what there is but with --steps and --tree"),
    CliOptions.inGroup("Output")
  ),
  logLevel
}

export type ReplayFlags = CliOptions.Values<typeof options>

export const replay = Command.make(
  {
    name: "replay",
    summary: "Print a stored session or job as JSON lines, or what a job has done",
    flags: options,
    onlys: [
      {
        flags: ["after"],
        where: (written) => !Command.isOn(written, "steps") && !Command.isOn(written, "tree"),
        why: "is for events: --steps and --tree tell of the whole job"
      }
    ],
    examples: [
      "arcp replay --job JOB",
      "arcp replay --job JOB --steps",
      "arcp replay --job JOB --tree --json",
      "arcp replay --db .arcp/arcp.db --session SESSION --after 100"
    ]
  },
  () => import("./run/replay.js")
)
