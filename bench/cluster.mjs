/**
 * `node bench/cluster.mjs`: what several nodes on one Postgres cost and how soon they know of each other, as a table: how long after
 * it was made an event is seen on another node; the processor time of a node for each frame that its clients receive, with three
 * nodes against one; and what is waited for after `kill -9`. Uses the Postgres that `ARCP_BENCH_PG` names, or else a cluster of its
 * own, which syncs. Needs a build; Linux (it reads `/proc`). Events/s of one node are told by `node bench/postgres.mjs`.
 *
 *   node bench/cluster.mjs [--rounds 3] [--events 400] [--seconds 6] [--jobs 4,12] [--kills 3]
 */

import { tmpdir } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { parseArgs } from "node:util"
import { ownCluster } from "./ownCluster.mjs"
import { startServer, stopAll } from "./processes.mjs"
import { Session } from "./session.mjs"
import { median, percentiles } from "./stats.mjs"

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    events: { type: "string", default: "400" },
    seconds: { type: "string", default: "6" },
    jobs: { type: "string", default: "4,12" },
    kills: { type: "string", default: "3" }
  }
})
const [rounds, events, seconds, kills] = [flags.rounds, flags.events, flags.seconds, flags.kills].map(Number)

const cluster = process.env.ARCP_BENCH_PG === undefined ? await ownCluster() : undefined
process.env.ARCP_BENCH_PG ??= cluster.url

const start = (name) =>
  startServer({ kind: "arcp", store: "postgres", base: tmpdir(), flags: ["--cluster", "--node", name] })

/** Whatever breaks ends the run, but for connections to a node that is killed. */
let isKilling = false
const fail = (error) => {
  if (isKilling) return
  console.error(error)
  stopAll()
  process.exit(1)
}
const open = (node) => Session.open(node.target, fail)

/** Submits, and resolves with the job's id and what resolves with its end. */
const submitted = (session, agent, input, onEvent) =>
  new Promise((resolve) => {
    const ended = new Promise((over) => {
      const onAccepted = (jobId) => resolve({ jobId, ended })
      session.submit(agent, input, { onAccepted, onEvent, onResult: over })
    })
  })

/** Subscribes, and returns what resolves with the job's end. */
const watched = (session, jobId, onEvent) =>
  new Promise((onResult) => {
    void session.subscribe(jobId, { onEvent, onResult })
  })

/** Milliseconds from when events were made until sessions on these nodes had them. */
const seen = async (from, others) => {
  const own = await open(from)
  const late = (samples) => (frame) => {
    if (frame.payload.kind === "log") samples.push(Date.now() - Date.parse(frame.payload.ts))
  }
  const here = []
  const there = []
  const input = { count: events, delayMs: 20, startDelayMs: 1_500 }
  const { ended, jobId } = await submitted(own, "emit", input, late(here))
  const watching = []
  for (const node of others) {
    const session = await open(node)
    watching.push({ session, over: watched(session, jobId, late(there)) })
  }
  await ended
  await Promise.all(watching.map(({ over }) => over))
  await Promise.all([own, ...watching.map(({ session }) => session)].map((session) => session.close()))
  return { here: percentiles(here), there: percentiles(there) }
}

/** Sessions that watch each job. */
const watchersOfEach = 6

/**
 * Microseconds of processor time of a node for each frame that its clients receive, for some seconds while its jobs emit at most fifty
 * events a second each. `at` tells which node has a watcher.
 */
const cost = async (nodes, jobsOfEach, at) => {
  let frames = 0
  const count = () => frames++
  const sessions = []
  const jobs = []
  const ends = []
  /** What a session does with a job that is cancelled in the end. */
  const handlers = () => {
    let onError
    ends.push(
      new Promise((resolve) => {
        onError = resolve
      })
    )
    return { onEvent: count, onCancelled: () => undefined, onError }
  }
  for (const [n, node] of nodes.entries())
    for (let i = 0; i < jobsOfEach; i++) {
      const session = await open(node)
      sessions.push(session)
      const jobId = await new Promise((onAccepted) =>
        session.submit("emit", { count: 1_000_000, delayMs: 20 }, { ...handlers(), onAccepted })
      )
      jobs.push({ jobId, n, session })
    }
  for (const { jobId, n } of jobs)
    for (let w = 0; w < watchersOfEach; w++) {
      const session = await open(at(n, w))
      sessions.push(session)
      await session.subscribe(jobId, handlers())
    }
  await sleep(1_000)
  const before = nodes.map((node) => node.cpuNs())
  frames = 0
  await sleep(1_000 * seconds)
  const used = nodes.reduce((sum, node, i) => sum + node.cpuNs() - before[i], 0)
  const received = frames
  for (const { jobId, session } of jobs) session.cancel(jobId)
  await Promise.all(ends)
  await Promise.all(sessions.map((session) => session.close()))
  return used / received / 1_000
}

/** Kills a node with jobs and sessions on it; they go on on another. */
const killed = async (node, other) => {
  isKilling = true
  const sessions = []
  const recovered = []
  for (let i = 0; i < 10; i++) {
    const session = await open(node)
    const recoveredAt = new Promise((resolve) => {
      const onEvent = ({ payload }) => {
        if (payload.kind === "status" && payload.body.phase === "recovered") resolve(performance.now())
      }
      void submitted(session, "steps", { count: 200, ms: 100 }, onEvent)
    })
    sessions.push(session)
    recovered.push(recoveredAt)
  }
  await sleep(1_000)
  const at = performance.now()
  await node.stop()
  const resumed = await Promise.all(
    sessions.map(async (session) => {
      const dialled = performance.now()
      await session.resume(other.target, { from: session.seq })
      return performance.now() - dialled
    })
  )
  const elsewhere = (await Promise.all(recovered)).map((when) => when - at)
  await Promise.all(sessions.map((session) => session.close()))
  isKilling = false
  return { elsewhere, resumed }
}

const line = (cells) => console.log(`| ${cells.join(" | ")} |`)
const ms = (value) => `${Math.round(value)} ms`

const nodes = new Map()
for (const name of ["a", "b", "c"]) nodes.set(name, await start(name))
const all = () => [...nodes.values()]

line(["what", "aim", "measured"])
line(["---", "---", "---"])

const [a, b, c] = all()
await seen(a, [b, c])
const { here, there } = await seen(a, [b, c])
line(["event seen on its own node", "", `p50 ${ms(here.p50)}, p99 ${ms(here.p99)}`])
line([
  "event seen on another node",
  "p50 ≤ 15 ms, p99 ≤ 150 ms",
  `p50 ${ms(there.p50)}, p99 ${ms(there.p99)}`
])

const us = (values) => `${median(values).toFixed(1)} µs`
// What a look at other nodes costs is shared by all that has come since the one before: it is most with little to do.
for (const jobsOfEach of flags.jobs.split(",").map(Number)) {
  const pairs = []
  for (let round = 0; round <= rounds; round++) {
    const one = await cost([a], jobsOfEach, () => a)
    const three = await cost(all(), jobsOfEach, (n, w) => all()[(n + w) % 3])
    if (round > 0) pairs.push({ one, three })
  }
  line([
    `processor time of a node for each frame received, ${jobsOfEach} jobs on each: one node; each of three, two thirds of the watchers on others`,
    "≤ 1.3 ×",
    `${us(pairs.map(({ one }) => one))}; ${us(pairs.map(({ three }) => three))}; ${median(pairs.map(({ one, three }) => three / one)).toFixed(2)} ×`
  ])
}

const elsewhere = []
const resumed = []
for (let i = 0; i < kills; i++) {
  const [name, next] = i % 2 === 0 ? ["a", "b"] : ["b", "a"]
  const result = await killed(nodes.get(name), nodes.get(next))
  elsewhere.push(...result.elsewhere)
  resumed.push(...result.resumed)
  nodes.set(name, await start(name))
}
const spread = ({ max, p50 }) => `p50 ${ms(p50)}, at most ${ms(max)}`
line(["`kill -9` → a job runs elsewhere", "≤ 10 s", spread(percentiles(elsewhere))])
line(["a session resumes elsewhere, from the dial", "≤ 1 s", spread(percentiles(resumed))])
stopAll()
cluster?.stop()
