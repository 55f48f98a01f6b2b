/** `arcp jobs delete --running`: a server deletes, for one of its operators. */

import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Whose } from "../../../layers/log/retention/finding.js"
import { membersOf, readJson } from "../../../protocol/Json.js"
import type { DeleteFlags } from "../db.js"
import { count } from "../quantity.js"
import { targetOf } from "../target.js"
import { inLine, json } from "../text.js"
import { UsageError } from "../UsageError.js"
import { fetched, why } from "./fetching.js"

/** The server did not delete it; the message says why. */
class NotDeleted extends Data.TaggedError("NotDeleted")<{ readonly message: string }> {}

/** What the server may take; its answer names each job of a principal. */
const bounds = { timeout: 120_000, maxBytes: 16 * 1024 * 1024 }

/** Returns where a server deletes that is spoken to at this address. */
const addressOf = (url: string, whose: Whose, cancel: boolean): Effect.Effect<URL, UsageError> => {
  const base = URL.parse(url)
  if (base === null || !/^wss?:$/.test(base.protocol))
    return Effect.fail(new UsageError({ message: `--running takes a server on ws:// or wss://, not ${url}` }))
  const at = new URL("/v1/jobs", url.replace(/^ws/, "http"))
  if ("principal" in whose) at.searchParams.set("principal", whose.principal)
  else at.pathname += `/${encodeURIComponent(whose.jobIds[0] ?? "")}`
  if (cancel) at.searchParams.set("cancel", "true")
  return Effect.succeed(at)
}

const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined)

const asked = (at: URL, token: string) =>
  Effect.tryPromise({
    try: async () => {
      const headers = { authorization: `Bearer ${token}`, accept: "application/json" }
      const { status, text } = await fetched(at, { method: "DELETE", headers }, bounds)
      return { status, body: readJson(text) }
    },
    catch: (cause) =>
      new NotDeleted({
        message: `${at.origin} does not answer as a runtime does: ${why(cause, bounds)}; what it has deleted is gone, asking again deletes the rest`
      })
  })

export const deleteRunning = (flags: DeleteFlags, whose: Whose) =>
  Effect.gen(function* () {
    if (flags.dryRun)
      return yield* new UsageError({
        message: "--dry-run reads the file, also while its server runs: leave --running out"
      })
    const target = yield* targetOf({ ...flags, giveUpAfter: "10m" })
    const token = Effect.isEffect(target.token) ? yield* target.token : target.token
    const at = yield* addressOf(target.url, whose, flags.cancel)
    const { body, status } = yield* asked(at, Redacted.value(token))
    const jobs = membersOf(body)["jobs"]
    if (status !== 200 || !Array.isArray(jobs))
      return yield* new NotDeleted({
        message:
          `${at.origin}: ${textOf(membersOf(body)["detail"]) ?? `answered ${status}, as no runtime that deletes jobs does`}` +
          (membersOf(membersOf(body)["details"])["reason"] === "not_ended" ? " (--cancel)" : "")
      })
    for (const job of jobs)
      yield* Console.log(flags.json ? json({ job_id: job, deleted: true }) : inLine(`${job}  deleted`))
    const sessions = Number(membersOf(body)["sessions"] ?? 0)
    yield* Console.error(`${count(jobs.length, "job")} and ${count(sessions, "session")} deleted`)
  })
