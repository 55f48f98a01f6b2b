/** What `arcp jobs delete` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Finding from "../../../layers/log/retention/finding.js"
import { forget } from "../../../layers/runtime/atRest/forget.js"
import { CredentialStore } from "../../../services/credentials/CredentialStore.js"
import { type JobRecord, Store } from "../../../services/store/Store.js"
import type { Surroundings } from "../Command.js"
import type { DeleteFlags } from "../db.js"
import { count } from "../quantity.js"
import { inLine, json } from "../text.js"
import { UsageError } from "../UsageError.js"
import { deleteRunning } from "./deleteRunning.js"
import { type Stored, storedOf } from "./stored.js"

const whoseOf = (
  { principal }: DeleteFlags,
  job: string | undefined
): Effect.Effect<Finding.Whose, UsageError> => {
  if (Option.isSome(principal) && job !== undefined)
    return Effect.fail(new UsageError({ message: "choose a job or --principal, not both" }))
  if (Option.isSome(principal)) return Effect.succeed({ principal: principal.value })
  return job === undefined
    ? Effect.fail(new UsageError({ message: "arcp jobs delete needs a job, or --principal PRINCIPAL" }))
    : Effect.succeed({ jobIds: [job] })
}

/** Refuses jobs that have not ended, by name. */
const ended = (unfinished: ReadonlyArray<JobRecord>, flags: DeleteFlags) => {
  const [first] = unfinished
  return first === undefined || flags.cancel
    ? Effect.void
    : new Finding.NotForgotten({
        message:
          `${first.jobId}${unfinished.length === 1 ? "" : ` and ${unfinished.length - 1} more`} ` +
          `(${first.status}) would go on at the next start; cancel first, or add --cancel to delete unfinished jobs too`
      })
}

/** How many records of credentials there are of these jobs. They stay: they say what is still to be revoked. */
const credentialsOf = ({ credentials }: Stored, jobs: ReadonlyArray<Finding.FoundJob>) =>
  Effect.suspend(() => {
    if (credentials === undefined) return Effect.succeed(0)
    const ids = new Set(jobs.map(({ jobId }) => jobId))
    return Effect.flatMap(CredentialStore, (store) => store.list).pipe(
      Effect.map((records) => records.filter(({ jobId }) => ids.has(jobId)).length),
      Effect.provide(credentials)
    )
  })

/** Returns how a job is told, or a submit that began none: it was refused, or answered with a job that there was. */
const stateOf = ({ answeredWith, rejected, status }: Finding.FoundJob) =>
  answeredWith !== undefined
    ? { status: "repeated", said: `repeat of ${answeredWith}`, of: answeredWith }
    : { status: rejected ? "refused" : status, said: rejected ? "refused" : status, of: undefined }

/** Returns how many jobs these are, and how many submits that began none. */
const counted = (found: ReadonlyArray<Finding.FoundJob>): ReadonlyArray<string> => {
  const jobs = found.filter(({ rejected }) => !rejected).length
  const none = found.length - jobs
  return [count(jobs, "job"), ...(none === 0 ? [] : [`${count(none, "submit")} that began none`])]
}

/** Deletes from what no runtime has. */
const atRest = (flags: DeleteFlags, whose: Finding.Whose) =>
  Effect.gen(function* () {
    const stored = yield* storedOf(flags)
    const { flag, layer, name, owning } = stored
    const found = yield* (
      flags.dryRun
        ? Effect.flatMap(Store, (store) => Finding.find(store, whose)).pipe(Effect.provide(layer))
        : owning((store) =>
            Effect.gen(function* () {
              const found = yield* Finding.find(store, whose)
              yield* ended(found.unfinished, flags)
              const jobIds = found.jobs.map(({ jobId }) => jobId)
              yield* forget(store, { jobIds, sessionIds: found.sessions }, "drop")
              return found
            })
          )
    ).pipe(
      Effect.catchIf(
        (error) => error instanceof Finding.NotForgotten && error.isGone === true,
        () =>
          new Finding.NotForgotten({
            message: `${flag} ${name} has no such job; ${flag} names another, and --running asks the server that runs`
          })
      )
    )
    const credentials = yield* credentialsOf(stored, found.jobs)
    const verb = flags.dryRun ? "would be deleted" : "deleted"
    for (const job of found.jobs) {
      const { agent, jobId, principal } = job
      const { of, said, status } = stateOf(job)
      yield* Console.log(
        flags.json
          ? json({ job_id: jobId, agent, principal, status, repeats: of, deleted: !flags.dryRun })
          : inLine(`${jobId}  ${said}  ${agent}  ${verb}`)
      )
    }
    if (flags.json)
      for (const sessionId of found.sessions)
        yield* Console.log(json({ session_id: sessionId, deleted: !flags.dryRun }))
    else
      yield* Console.error(
        `${counted(found.jobs).join(", ")} and ${count(found.sessions.length, "session")} ${verb}`
      )
    const open = found.unfinished.length
    if (flags.dryRun && open > 0 && !flags.cancel)
      yield* Console.error(
        `${count(open, "job")} of them ${open === 1 ? "has" : "have"} not ended: that takes --cancel`
      )
    if (credentials > 0)
      yield* Console.error(
        `${count(credentials, "credential")} of them may still be good upstream: arcp credentials --revoke, after which the records go`
      )
  })

export const run = (flags: DeleteFlags, job?: string): Effect.Effect<void, unknown, Surroundings> =>
  Effect.gen(function* () {
    const whose = yield* whoseOf(flags, job)
    if (flags.running) yield* deleteRunning(flags, whose)
    else yield* atRest(flags, whose)
  })
