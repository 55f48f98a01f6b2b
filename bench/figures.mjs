/**
 * What is measured. A figure is one scenario on one store; `measure` runs it once against one server and
 * returns `{ values, units?, busy?, frameBytes? }`: a value is a number or `{ p50, p99, max }` in
 * milliseconds, `units` is what the server's CPU time is divided by, `busy` the client's share of a core.
 */
import { setTimeout as pause } from "node:timers/promises"

const size = 100
const rate = (unit, aim) => ({ rate: { unit, better: "higher", ...(aim === undefined ? {} : { aim }) } })
const latency = (labels) =>
  Object.fromEntries(
    Object.entries(labels).map(([name, label]) => [name, { unit: "ms", better: "lower", label }])
  )

/** Stores as the report names them. */
export const storeName = { memory: "memory", FULL: "SQLite FULL", NORMAL: "SQLite NORMAL" }

const emit = (jobs, store, batch, aim, full) => ({
  name: `emit-${jobs}`,
  title: `${jobs === 1 ? "1 job" : `${jobs} jobs in one session`}, batch ${batch}`,
  store,
  metrics: rate("events/s", aim),
  count: full ? 20_000 : 4_000,
  jobs,
  // Each measurement is short: the servers' hot paths are compiled before it starts.
  warmups: full ? 3 : 1,
  measure: ({ client, server, count }) => client.run(server, "emit", { count, jobs, batch, size })
})

const echo = (store, full) => ({
  name: "echo",
  title: "echo round trip",
  store,
  metrics: latency({ roundTrip: "submit → result" }),
  measure: ({ client, server }) => client.run(server, "echo", { count: full ? 2_000 : 300 })
})

const pipeline = (store, full) => ({
  name: "jobs",
  title: "echo, 64 in flight",
  store,
  metrics: rate("jobs/s"),
  measure: ({ client, server }) =>
    client.run(server, "pipeline", { count: full ? 5_000 : 1_000, inFlight: 64 })
})

const fanout = (store, full) => ({
  name: "fanout",
  title: "1 job to 50 subscribers, batch 64",
  store,
  metrics: rate("frames/s", 1),
  measure: ({ client, server }) =>
    client.run(server, "fanout", {
      count: full ? 5_000 : 1_000,
      subscribers: 50,
      batch: 64,
      size,
      startDelayMs: 500
    })
})

const replay = (store, full, cold) => ({
  name: "replay",
  title: `replay of 10 000 events${cold ? ", none of them in memory" : ""}`,
  store,
  ...(cold ? { limits: ["tailBytes=1024"] } : {}),
  metrics: rate("frames/s"),
  measure: ({ client, server }) => client.run(server, "replay", { count: 10_000, times: full ? 3 : 1, size })
})

const cancel = (store, full) => ({
  name: "cancel",
  title: "cancel",
  store,
  metrics: latency({ acknowledged: "job.cancel → job.cancelled", ended: "job.cancel → job.error" }),
  measure: ({ client, server }) => client.run(server, "cancel", { count: full ? 500 : 100 })
})

const fairness = (store, full) => ({
  name: "fairness",
  title: "beside a job that emits flat out, batch 1",
  store,
  warmups: 0,
  metrics: {
    flood: { unit: "events/s", better: "higher", label: "the emitting job, delivered" },
    behind: { unit: "events", better: "lower", label: "the emitting job, not yet delivered when cancelled" },
    ...latency({
      pong: "ping → pong",
      accept: "submit → accepted",
      cancelled: "cancel → job.cancelled",
      ended: "cancel → job.error"
    })
  },
  aimP99Ms: 20,
  measure: async ({ client, otherClient, server }) => {
    await client.run(server, "flood", { batch: 1, size })
    const { values } = await otherClient.run(server, "probe", { ms: full ? 3_000 : 1_000 })
    const { rate: flood, behind } = await client.run(server, "unflood")
    return { values: { flood, behind, ...values } }
  }
})

/** Resident bytes once three readings in a row, a quarter of a second apart, are within 1 %; at most 5 s. */
const settled = async (server) => {
  let readings = []
  for (let i = 0; i < 20; i++) {
    readings = [...readings.slice(-2), server.rssBytes()]
    if (readings.length === 3 && Math.max(...readings) < 1.01 * Math.min(...readings)) break
    await pause(250)
  }
  return readings[readings.length - 1]
}

const sessions = (full) => {
  const steps = full ? [1_000, 5_000] : [200, 1_000]
  return {
    name: "sessions",
    title: "resident memory per idle session",
    store: "memory",
    freshServers: true,
    warmups: 0,
    metrics: Object.fromEntries(
      steps.map((n) => [`at${n}`, { unit: "KiB", better: "lower", label: `${n} sessions` }])
    ),
    measure: async ({ client, server }) => {
      await client.run(server, "idle", { total: 100 })
      await client.run(server, "release")
      const before = await settled(server)
      const values = {}
      for (const total of steps) {
        await client.run(server, "idle", { total })
        values[`at${total}`] = ((await settled(server)) - before) / total / 1024
      }
      await client.run(server, "release")
      return { values }
    }
  }
}

/** All figures, in the order of the report. */
export const figures = ({ full }) => [
  ...[1, 8].flatMap((jobs) =>
    [
      ["memory", 0.8],
      ["FULL", 0.4],
      ["NORMAL", undefined]
    ].flatMap(([store, aim]) => [emit(jobs, store, 1, undefined, full), emit(jobs, store, 64, aim, full)])
  ),
  ...["memory", "FULL", "NORMAL"].flatMap((store) => [echo(store, full), pipeline(store, full)]),
  fanout("memory", full),
  fanout("FULL", full),
  replay("memory", full, false),
  replay("FULL", full, false),
  replay("FULL", full, true),
  cancel("memory", full),
  cancel("FULL", full),
  fairness("memory", full),
  fairness("NORMAL", full),
  sessions(full)
]

/** One line about a figure. */
export const describe = (figure) => `${figure.name}: ${figure.title}, ${storeName[figure.store]}`
