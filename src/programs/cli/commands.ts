/** `arcp watch`, `jobs`, `cancel` and `agents`. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as CliOptions from "@effect/cli/Options"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { JobStatus } from "../../protocol/Message.js"
import { type ClientFlags, clientOptions, connect, defaultUrl, optionalUrl } from "./client.js"
import * as Detached from "./detached.js"
import { inLine, json } from "./text.js"
import { show } from "./view.js"

const jobId = Args.text({ name: "JOB" }).pipe(Args.withDescription("a job id, job_…"))

export const watch = Command.make(
  "watch",
  {
    job: jobId,
    noHistory: CliOptions.boolean("no-history").pipe(
      CliOptions.withDescription("only what happens from now on")
    ),
    ...clientOptions
  },
  (flags) =>
    Effect.gen(function* () {
      const client = yield* connect(flags)
      const job = yield* client.subscribe(flags.job, { history: !flags.noHistory })
      if (!flags.json)
        yield* Console.error(inLine(`${job.agent} ${job.jobId} ${job.subscribed.current_status}`))
      yield* show(client, job, {
        ...flags,
        // With history the costs so far are among the events.
        left: flags.noHistory ? job.subscribed.budget : undefined
      })
    }).pipe(Effect.scoped)
).pipe(Command.withDescription("Watch a job from elsewhere, from its beginning"))

const statuses: ReadonlyArray<JobStatus> = [
  "pending",
  "running",
  "success",
  "error",
  "cancelled",
  "timed_out"
]
const optional = (name: string, description: string) =>
  CliOptions.text(name).pipe(CliOptions.withDescription(description), CliOptions.optional)

export const jobs = Command.make(
  "jobs",
  {
    status: CliOptions.choice("status", statuses).pipe(
      CliOptions.withDescription("only jobs of this status; repeatable"),
      CliOptions.repeated
    ),
    agent: optional("agent", "only jobs of this agent, name or name@version"),
    after: optional("created-after", "only jobs created after this time, like 2026-01-31T12:00:00Z"),
    before: optional("created-before", "only jobs created before this time"),
    ...clientOptions
  },
  (flags) =>
    Effect.gen(function* () {
      const client = yield* connect(flags)
      const filter = {
        ...(flags.status.length === 0 ? {} : { status: flags.status }),
        ...(Option.isNone(flags.agent) ? {} : { agent: flags.agent.value }),
        ...(Option.isNone(flags.after) ? {} : { created_after: flags.after.value }),
        ...(Option.isNone(flags.before) ? {} : { created_before: flags.before.value })
      }
      yield* client
        .list(filter)
        .pipe(
          Stream.runForEach((job) =>
            Console.log(
              flags.json
                ? json(job)
                : inLine(`${job.job_id}  ${job.status.padEnd(9)}  ${job.created_at}  ${job.agent}`)
            )
          )
        )
    }).pipe(Effect.scoped)
).pipe(Command.withDescription("List jobs, oldest first"))

/**
 * Opens the session that cancels a job: the one that submitted it when it is remembered here and still there, else one of
 * its own, which the runtime lets cancel when the job's session is gone, or to whom its policy allows it.
 */
const sessionFor = (flags: Omit<ClientFlags, "url"> & { job: string; url: Option.Option<string> }) =>
  Effect.gen(function* () {
    const state = yield* Detached.load(flags.job)
    const url = Option.getOrElse(flags.url, () => state?.url ?? defaultUrl)
    if (state === undefined) return yield* connect({ ...flags, url })
    return yield* connect({ ...flags, url }, state).pipe(
      // The session has a new token now; without this a second try would be refused.
      Effect.tap((client) =>
        Effect.flatMap(client.resumeState, (resume) => Detached.save(flags.job, { url, ...resume }))
      ),
      // It has gone, or is not this token's.
      Effect.catchTag("ResumeWindowExpired", () => connect({ ...flags, url }))
    )
  })

export const cancel = Command.make(
  "cancel",
  {
    job: jobId,
    reason: optional("reason", "why, for the record"),
    ...clientOptions,
    // The session is where the job was submitted.
    url: optionalUrl
  },
  (flags) =>
    Effect.gen(function* () {
      const client = yield* sessionFor(flags)
      yield* client.cancel(flags.job, Option.getOrUndefined(flags.reason))
      yield* Detached.forget(flags.job)
      yield* flags.json
        ? Console.log(json({ job_id: flags.job, cancelled: true }))
        : Console.log(`${flags.job} is being cancelled`)
    }).pipe(Effect.scoped)
).pipe(
  Command.withDescription("Cancel a job: one submitted with --detach from here, or one the runtime lets you")
)

export const agents = Command.make("agents", clientOptions, (flags) =>
  Effect.gen(function* () {
    const client = yield* connect(flags)
    for (const agent of yield* client.agents)
      yield* Console.log(
        flags.json
          ? json(agent)
          : inLine(
              `${agent.name}  ${agent.versions.map((version) => (version === agent.default ? `${version} (default)` : version)).join(", ")}`
            )
      )
  }).pipe(Effect.scoped)
).pipe(Command.withDescription("List the agents that you may use"))
