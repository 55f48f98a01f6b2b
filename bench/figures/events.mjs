/** Figures about events. */

import { median } from "../stats.mjs"
import { atLeast, atMost, flat, p99AtMost } from "../targets.mjs"
import { grouped, keeping, latency, rate, size } from "./common.mjs"

const jobsText = { 1: "1 job", 8: "8 jobs in one session" }

const emit = ({ apart = false, awaitEmits = false, batch, jobs, name, store, target, ...more }, full) => ({
  name: name ?? `emit-${jobs}`,
  title: `${apart ? `${jobs} jobs in ${jobs} sessions` : jobsText[jobs]}, ${
    awaitEmits ? "each emit waits for its commit" : `batch ${batch}`
  }`,
  store,
  metrics: rate("events/s", target),
  ...(awaitEmits ? { limits: ["awaitEmits=true"] } : {}),
  count: (full ? 20_000 : 4_000) / (awaitEmits ? 10 : 1),
  jobs,
  // Each measurement is short: the servers' hot paths are compiled before it starts.
  warmups: full ? 3 : 1,
  measure: ({ client, server, count }) => client.run(server, "emit", { apart, count, jobs, batch, size }),
  ...more
})

const emits = (full) => [
  emit({ jobs: 1, batch: 1, store: "memory", target: atLeast(1, 1.5) }, full),
  emit({ jobs: 1, batch: 64, store: "memory", target: atLeast(0.8) }, full),
  emit({ jobs: 1, batch: 1, store: "FULL", target: atLeast(0.7, 1) }, full),
  emit({ jobs: 1, batch: 64, store: "FULL", target: atLeast(0.4) }, full),
  emit({ jobs: 1, batch: 1, store: "NORMAL", long: true }, full),
  emit({ jobs: 1, batch: 64, store: "NORMAL", long: true }, full),
  emit({ name: "durable", jobs: 1, batch: 1, awaitEmits: true, store: "FULL" }, full),
  emit({ name: "durable", jobs: 1, batch: 1, awaitEmits: true, store: "NORMAL", long: true }, full),
  emit({ name: "apart-8", jobs: 8, batch: 1, apart: true, store: "memory", target: atLeast(1.2) }, full),
  emit({ name: "apart-8", jobs: 8, batch: 1, apart: true, store: "FULL", target: atLeast(0.9) }, full),
  emit({ jobs: 8, batch: 1, store: "memory" }, full),
  emit({ jobs: 8, batch: 1, store: "FULL" }, full),
  emit({ jobs: 8, batch: 64, store: "memory", target: atLeast(0.8), long: true }, full),
  emit({ jobs: 8, batch: 64, store: "FULL", target: atLeast(0.4), long: true }, full),
  emit({ jobs: 8, batch: 1, store: "NORMAL", long: true }, full),
  emit({ jobs: 8, batch: 64, store: "NORMAL", long: true }, full)
]

/** Milliseconds in which so many must have subscribed before the first event; not part of what is measured. */
const timeToSubscribe = (subscribers) => 1_000 + 3 * subscribers

const fanout = (store, full, target) => ({
  name: "fanout-50",
  title: "1 job to 50 subscribers, batch 64",
  store,
  metrics: rate("frames/s", target),
  measure: ({ client, server }) =>
    client.run(server, "fanout", {
      count: full ? 5_000 : 1_000,
      subscribers: 50,
      batch: 64,
      size,
      startDelayMs: timeToSubscribe(50)
    })
})

const fanoutToMany = (full) => ({
  name: "fanout-1000",
  title: "1 job to 1 000 subscribers",
  store: "memory",
  maxRuns: 2,
  metrics: {
    ...rate("frames/s", atLeast(1.5), "flat out, batch 64"),
    ...latency({ lag: "50 events/s, made → received" }, { lag: p99AtMost(1_000) })
  },
  measure: async ({ client, server }) => {
    const params = { subscribers: 1_000, size, startDelayMs: timeToSubscribe(1_000) }
    const { values, ...rest } = await client.run(server, "fanout", {
      ...params,
      batch: 64,
      count: full ? 300 : 100
    })
    const lag = await client.run(server, "lag", { ...params, delayMs: 20, count: full ? 100 : 20 })
    return { ...rest, values: { ...values, ...lag.values } }
  }
})

/** Numbers of subscribers for the chart. */
const fanoutSteps = [1, 10, 50, 200, 1_000]

const fanoutCurve = (full) => ({
  name: "curve-subscribers",
  title: "frames/s over subscribers",
  store: "memory",
  long: true,
  maxRuns: 3,
  metrics: Object.fromEntries(
    fanoutSteps.map((n) => [`at${n}`, { unit: "frames/s", better: "higher", label: grouped(n) }])
  ),
  measure: async ({ client, server }) => {
    const values = {}
    for (const subscribers of fanoutSteps) {
      const count = Math.max(300, Math.floor((full ? 200_000 : 20_000) / subscribers / 2))
      const startDelayMs = timeToSubscribe(subscribers)
      const params = { batch: 64, count: Math.min(count, 20_000), size, startDelayMs, subscribers }
      values[`at${subscribers}`] = (await client.run(server, "fanout", params)).values.rate
    }
    return { values }
  }
})

const replay = (store, full, target, cold) => ({
  name: "replay-10k",
  title: `replay of 10 000 events${cold ? ", none of them in memory" : ""}`,
  store,
  ...(cold ? { limits: ["tailBytes=1024"] } : {}),
  metrics: rate("frames/s", target),
  measure: ({ client, server }) => client.run(server, "replay", { count: 10_000, times: full ? 3 : 1, size })
})

const replayLarge = (store, full, target) => {
  const count = full ? 1_000_000 : 20_000
  return {
    name: "replay-1M",
    title: `replay of ${grouped(count)} events`,
    store,
    limits: keeping(1_000_000),
    long: true,
    freshServers: true,
    warmups: 0,
    maxRuns: 1,
    metrics: {
      ...rate("frames/s", target),
      rss: {
        unit: "MiB",
        better: "lower",
        label: "growth of the server's memory meanwhile",
        target: atMost(64, "MiB")
      }
    },
    measure: async ({ client, server }) => {
      await client.run(server, "fillReplay", { count, size })
      // Twice: what the first needs of the heap stays there, and is not what a replay costs each time.
      await client.run(server, "replayHeld")
      const highest = server.watchRss()
      const result = await client.run(server, "replayHeld")
      return { ...result, values: { ...result.values, rss: highest() / 1024 ** 2 } }
    }
  }
}

/** Emits several times; returns the median rate, and the processor time of the server for each event in microseconds. */
const costOfEvents = async ({ client, server }, { count, times }) => {
  const rates = []
  const cpu = []
  for (let i = 0; i < times; i++) {
    const before = server.cpuNs()
    const { values } = await client.run(server, "emit", { batch: 64, count, jobs: 1, size })
    rates.push(values.rate)
    cpu.push((server.cpuNs() - before) / count / 1000)
  }
  return { rate: median(rates), cpu: median(cpu) }
}

/** A figure whose cost should be the same at each step. `reach` takes a server from one step to the next. */
const overSteps = ({ full, reach, steps, unit, ...figure }) => ({
  freshServers: true,
  warmups: 0,
  maxRuns: 1,
  needsCpu: true,
  metrics: {
    ...Object.fromEntries(
      steps.flatMap((n) => [
        [`rate${n}`, { unit: "events/s", better: "higher", label: `${grouped(n)} ${unit}` }],
        [`cpu${n}`, { unit: "µs", better: "lower", label: `${grouped(n)} ${unit}, server CPU each` }]
      ])
    ),
    flat: { unit: "×", better: "lower", label: "server CPU each, the last over the first", target: flat }
  },
  measure: async (context) => {
    const effort = full ? { count: 20_000, times: 5 } : { count: 4_000, times: 2 }
    await costOfEvents(context, effort)
    const values = {}
    let reached = 0
    for (const step of steps) {
      await reach(context, step - reached)
      reached = step
      const { cpu, rate: perSecond } = await costOfEvents(context, effort)
      values[`rate${step}`] = perSecond
      values[`cpu${step}`] = cpu
    }
    values.flat = values[`cpu${steps.at(-1)}`] / values[`cpu${steps[0]}`]
    return { values }
  },
  ...figure
})

const openJobs = (store, full) =>
  overSteps({
    full,
    name: "open-jobs",
    title: "1 job, batch 64, beside open jobs",
    store,
    steps: full ? [10, 100, 1_000, 10_000] : [10, 500],
    unit: "open jobs",
    reach: ({ client, server }, count) => client.run(server, "openJobs", { count, perSession: 500 })
  })

const retained = (store, full, most) => {
  const limit = store === "memory" ? Math.min(most, 1_000_000) : most
  const powers = [3, 4, 5, 6, 7].map((power) => 10 ** power)
  return overSteps({
    full,
    name: "retained",
    title: "1 job, batch 64, over a log",
    store,
    limits: keeping(limit),
    steps: powers.filter((events) => events <= (full ? limit : 10_000)),
    unit: "events retained",
    reach: async ({ client, server, side }, count) => {
      // The floor retains nothing, whatever it has sent.
      if (side.kind === "floor") return
      for (let left = count; left > 0; left -= 500_000)
        await client.run(server, "fill", { count: Math.min(left, 500_000), perJob: 100_000, size })
    }
  })
}

/** All figures about events, in the order of the report. */
export const events = ({ full, retained: most }) => [
  ...emits(full),
  fanout("memory", full, atLeast(3, 5)),
  fanout("FULL", full, atLeast(2)),
  fanoutToMany(full),
  fanoutCurve(full),
  replay("memory", full, atLeast(2), false),
  replay("FULL", full, atLeast(1.5), false),
  replay("FULL", full, undefined, true),
  replayLarge("memory", full, atLeast(2)),
  replayLarge("FULL", full, atLeast(1.5)),
  openJobs("memory", full),
  openJobs("FULL", full),
  retained("memory", full, most),
  retained("FULL", full, most)
]
