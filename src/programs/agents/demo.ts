/** `survey`: what is in a directory tree. The agent to try a runtime with. */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Agent from "../../services/agents/Agent.js"
import { Job, type JobService } from "../../services/jobs/Job.js"
import { Secrets } from "../../services/runtime/Secrets.js"
import { pieces, report } from "./survey/report.js"
import { type Options, survey } from "./survey/survey.js"
import { SurveyRootError } from "./survey/walk.js"

export { SurveyRootError }

/** What both versions take. */
export const SurveyInput = Schema.Struct({
  /** The directory; a relative one is below the runtime's working directory. */
  root: Schema.NonEmptyString,
  /** Patterns in `.gitignore` syntax, of which a file must match one. */
  include: Schema.optional(Schema.Union(Schema.NonEmptyString, Schema.Array(Schema.NonEmptyString))),
  maxFiles: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, 1_000_000)), { default: () => 100_000 })
})

const options = (input: typeof SurveyInput.Type): Options => ({
  ...input,
  include: typeof input.include === "string" ? [input.include] : input.include
})

const observed = (job: JobService, input: typeof SurveyInput.Type) =>
  survey(options(input), {
    step: job.step,
    walked: (files) => job.status("scanning", { message: `${files} files` }),
    progress: (current, total) => job.progress({ current, total, units: "files" })
  })

/** The first form: totals, inline. */
export const SurveyV1 = Agent.make("survey", {
  version: "1.0.0",
  description: "Says what is in a directory tree: the totals of each language.",
  examples: [{ root: "." }],
  input: SurveyInput,
  output: Schema.Struct({
    root: Schema.String,
    files: Schema.Int,
    lines: Schema.Int,
    bytes: Schema.Int,
    languages: Schema.Array(
      Schema.Struct({ language: Schema.String, files: Schema.Int, lines: Schema.Int, bytes: Schema.Int })
    )
  }),
  error: SurveyRootError,
  durable: true
})

/** A Markdown report, streamed, with metrics and the report's digest. */
export const SurveyV2 = Agent.make("survey", {
  version: "2.0.0",
  description:
    "Says what is in a directory tree: files, lines and bytes of each language, as a Markdown report.",
  examples: [{ root: "." }, { root: ".", include: ["*.ts"], maxFiles: 1000 }],
  default: true,
  input: SurveyInput,
  error: SurveyRootError,
  durable: true
})

const surveyV1 = Agent.handle(SurveyV1, (input) =>
  Effect.gen(function* () {
    const job = yield* Job
    yield* job.status("walking")
    return yield* observed(job, input)
  })
)

const pieceSize = 16 * 1024

const surveyV2 = Agent.handle(SurveyV2, (input) =>
  Effect.gen(function* () {
    const job = yield* Job
    const secrets = yield* Secrets
    yield* job.status("walking")
    const found = yield* observed(job, input)
    if (found.unreadable > 0)
      yield* job.log("warn", `${found.unreadable} files or directories could not be read`)
    if (found.truncated) yield* job.log("warn", `stopped after maxFiles, ${input.maxFiles} files`)

    yield* job.status("reporting")
    const parts = [...pieces(report(found), pieceSize)]
    const whole = parts.join("")
    const result = yield* job.openResult("utf8")
    yield* job.artifact({
      uri: `arcp:${job.jobId}/${result.resultId}`,
      content_type: "text/markdown; charset=utf-8",
      byte_size: new TextEncoder().encode(whole).length,
      sha256: yield* secrets.digest(whole)
    })
    for (const part of parts.slice(0, -1)) yield* result.write(part)
    yield* result.end(parts[parts.length - 1] ?? "")

    const metric = (name: string, value: number, unit: string) =>
      job.metric({ name: `survey.${name}`, value, unit })
    yield* metric("files", found.files, "files")
    yield* metric("lines", found.lines, "lines")
    yield* metric("bytes", found.bytes, "bytes")
    yield* metric("duration", (yield* Clock.currentTimeMillis) - found.startedAt, "ms")
  })
)

export const agents: ReadonlyArray<Agent.Registered<FileSystem.FileSystem | Path.Path | Secrets>> = [
  surveyV1,
  surveyV2
]
