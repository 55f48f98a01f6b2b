/** Figures about small jobs, and about what others notice of a large one. */
import { atLeastWithin, p50Within, p99AtMost, p99WithinPong } from "../targets.mjs"
import { latency, rate, size } from "./common.mjs"

const echo = (store, full, more) => ({
  name: "echo",
  title: "echo round trip",
  store,
  metrics: latency({ roundTrip: "submit → result" }, { roundTrip: p50Within(2.5) }),
  measure: ({ client, server }) => client.run(server, "echo", { count: full ? 2_000 : 300 }),
  ...more
})

const pipeline = (store, full, target, more) => ({
  name: "jobs",
  title: "echo, 64 in flight",
  store,
  metrics: rate("jobs/s", target),
  measure: ({ client, server }) =>
    client.run(server, "pipeline", { count: full ? 5_000 : 1_000, inFlight: 64 }),
  ...more
})

const cancel = (store, full) => ({
  name: "cancel",
  title: "cancel",
  store,
  metrics: latency({ acknowledged: "job.cancel → job.cancelled", ended: "job.cancel → job.error" }),
  measure: ({ client, server }) => client.run(server, "cancel", { count: full ? 500 : 100 })
})

const fairness = (store, full, more) => ({
  name: "fairness",
  title: "beside a job that emits flat out, batch 1",
  store,
  warmups: 0,
  metrics: {
    flood: { unit: "events/s", better: "higher", label: "the emitting job, delivered" },
    behind: { unit: "events", better: "lower", label: "the emitting job, not yet delivered when cancelled" },
    ...latency(
      {
        pong: "ping → pong",
        accept: "submit → accepted",
        cancelled: "cancel → job.cancelled",
        ended: "cancel → job.error"
      },
      {
        pong: p99WithinPong(0),
        accept: p99AtMost(20),
        cancelled: p99AtMost(20),
        ended: p99WithinPong(store === "memory" ? 1 : 2)
      }
    )
  },
  measure: async ({ client, otherClient, server }) => {
    await client.run(server, "flood", { batch: 1, size })
    const { values } = await otherClient.run(server, "probe", { ms: full ? 3_000 : 1_000 })
    const { rate: flood, behind } = await client.run(server, "unflood")
    return { values: { flood, behind, ...values } }
  },
  ...more
})

const onlyLong = { long: true }

/** All figures about jobs, in the order of the report. */
export const jobs = ({ full }) => [
  echo("memory", full),
  echo("FULL", full),
  echo("NORMAL", full, onlyLong),
  pipeline("memory", full, atLeastWithin(0.4, 120)),
  pipeline("FULL", full, atLeastWithin(0.3, 120)),
  pipeline("NORMAL", full, undefined, onlyLong),
  cancel("memory", full),
  cancel("FULL", full),
  fairness("memory", full),
  fairness("FULL", full),
  fairness("NORMAL", full, onlyLong)
]
