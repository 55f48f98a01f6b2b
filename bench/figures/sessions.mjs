/** Figures about sessions: what an idle one holds, and how long it takes them all to come back. */
import { setTimeout as pause } from "node:timers/promises"
import { atMost, atMostMore } from "../targets.mjs"
import { grouped } from "./common.mjs"

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

/** 12 kB, in KiB. */
const idleTarget = atMostMore(11.7, "KiB", 5.9)

const idleAt = ({ steps, ...figure }) => ({
  store: "memory",
  freshServers: true,
  needsRss: true,
  warmups: 0,
  metrics: Object.fromEntries(
    steps.map((n, i) => [
      `at${n}`,
      {
        unit: "KiB",
        better: "lower",
        label: `${grouped(n)} sessions`,
        target: i === steps.length - 1 ? idleTarget : undefined
      }
    ])
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
  },
  ...figure
})

const storm = (store, full, seconds) => {
  const total = full ? 5_000 : 500
  return {
    name: "storm",
    title: `${grouped(total)} sessions come back and resume at once`,
    store,
    freshServers: true,
    warmups: 0,
    maxRuns: 1,
    metrics: {
      seconds: {
        unit: "s",
        better: "lower",
        label: "until the last has its result again",
        target: atMost(seconds, "s")
      },
      refused: { unit: "connections", better: "lower", label: "refused, and made again" }
    },
    measure: ({ client, server }) => client.run(server, "storm", { total })
  }
}

/** All figures about sessions, in the order of the report. */
export const sessions = ({ full }) => [
  idleAt({
    name: "sessions",
    title: "resident memory per idle session",
    maxRuns: 2,
    steps: full ? [1_000, 5_000] : [200, 1_000]
  }),
  idleAt({
    name: "curve-sessions",
    title: "resident memory per idle session, more steps",
    long: true,
    steps: full ? [500, 1_000, 2_000, 3_000, 5_000, 8_000] : [200, 1_000]
  }),
  storm("memory", full, 4),
  storm("FULL", full, 6)
]
