/** `arcp replay`: what is stored of a session or a job, as JSON lines, without a runtime. */
import * as Command from "@effect/cli/Command"
import * as CliOptions from "@effect/cli/Options"
import * as Effect from "effect/Effect"

const options = {
  db: CliOptions.text("db").pipe(
    CliOptions.withDescription("SQLite file of a runtime, also while that runs")
  ),
  session: CliOptions.text("session").pipe(
    CliOptions.withDescription("frames of this session"),
    CliOptions.optional
  ),
  job: CliOptions.text("job").pipe(CliOptions.withDescription("events of this job"), CliOptions.optional),
  after: CliOptions.integer("after").pipe(
    CliOptions.withDescription("only what comes after this number"),
    CliOptions.withDefault(0)
  ),
  json: CliOptions.boolean("json").pipe(
    CliOptions.withDescription("one JSON value per line, which is what there is")
  )
}

export type ReplayFlags = Command.Command.ParseConfig<typeof options>

export const replay = Command.make("replay", options, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./run/replay.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription("Print a stored session or job as JSON lines"))
