/** What is forgotten, or due to be, in sentences. */
import type { Cut, Swept, SweptJob } from "../../../layers/runtime/atRest/sweep.js"
import { count } from "../quantity.js"
import { age } from "../time.js"

const whys: Readonly<Record<SweptJob["why"], string>> = {
  jobRetention: "that ended longer ago than jobRetention",
  maxRetainedJobs: "of principals with more than maxRetainedJobs",
  maxRetainedJobsInAll: "of more than maxRetainedJobsInAll"
}

type Line = readonly [n: number, one: string, which: string]

const cutLines = (cuts: ReadonlyArray<Cut>, one: string, of: string): ReadonlyArray<Line> =>
  (["maxRetainedEvents", "maxRetainedBytes"] as const).map((why) => {
    const those = cuts.filter((cut) => cut.why === why)
    const events = those.reduce((sum, cut) => sum + cut.events, 0)
    return [events, "event", `${of} ${count(those.length, one)} with more than ${why}`]
  })

/** Returns what is forgotten, or `due` to be, and why the rest is kept. */
export const sweptLines = (swept: Swept, now: number, what: "due" | "forgotten"): ReadonlyArray<string> => {
  const { kept } = swept
  const jobs = (Object.keys(whys) as ReadonlyArray<SweptJob["why"]>).map(
    (why): Line => [swept.jobs.filter((job) => job.why === why).length, "job", whys[why]]
  )
  const next =
    swept.nextAt === undefined || swept.nextAt <= now ? "" : `; the next is due in ${age(swept.nextAt - now)}`
  const lines = (label: string, parts: ReadonlyArray<Line>) =>
    parts.flatMap(([n, one, which]) => (n === 0 ? [] : [`${label}: ${count(n, one)} ${which}`]))
  const gone = lines(what, [
    ...jobs,
    ...cutLines(swept.logs, "job", "of"),
    [swept.sessions.length, "session", "that can no longer be resumed"],
    ...cutLines(swept.views, "session", "for")
  ])
  return [
    ...(gone.length === 0 ? [`${what}: nothing`] : gone),
    ...lines("kept", [
      [kept.recent, "job", `that ended less than jobRetention ago${next}`],
      [kept.needed, "job", "of which a session that can be resumed has not read everything"],
      [kept.over, "job", "over maxRetainedEvents or maxRetainedBytes, until a session has read it"],
      [kept.unfinished, "job", "not ended"],
      [kept.sessions, "session", "that can be resumed"]
    ])
  ]
}
