/** What is due to be forgotten, in sentences. */
import type { Due, DueJob } from "../../../layers/runtime/atRest/due.js"
import { count } from "../quantity.js"
import { age } from "../time.js"

const whys: Readonly<Record<DueJob["why"], string>> = {
  jobRetention: "that ended longer ago than jobRetention",
  maxRetainedJobs: "of principals with more than maxRetainedJobs",
  maxRetainedJobsInAll: "of more than maxRetainedJobsInAll"
}

/** Returns what is forgotten, or `due` to be, and why the rest is kept. */
export const dueLines = (due: Due, now: number, what: "due" | "forgotten"): ReadonlyArray<string> => {
  const { kept } = due
  const jobs = (Object.keys(whys) as ReadonlyArray<DueJob["why"]>).map(
    (why) => [due.jobs.filter((job) => job.why === why).length, "job", whys[why]] as const
  )
  const next =
    due.nextAt === undefined || due.nextAt <= now ? "" : `; the next is due in ${age(due.nextAt - now)}`
  const lines = (label: string, parts: ReadonlyArray<readonly [n: number, one: string, which: string]>) =>
    parts.flatMap(([n, one, which]) => (n === 0 ? [] : [`${label}: ${count(n, one)} ${which}`]))
  const gone = lines(what, [...jobs, [due.sessions.length, "session", "that can no longer be resumed"]])
  return [
    ...(gone.length === 0 ? [`${what}: nothing`] : gone),
    ...lines("kept", [
      [kept.recent, "job", `that ended less than jobRetention ago${next}`],
      [kept.needed, "job", "of which a session that can be resumed has not read everything"],
      [kept.unfinished, "job", "not ended"],
      [kept.sessions, "session", "that can be resumed"]
    ])
  ]
}
