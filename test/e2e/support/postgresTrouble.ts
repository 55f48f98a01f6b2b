/** A Postgres that fails all the time: its backends are ended and paused at random, and it crashes now and then. */
import pg from "pg"
import type { Cluster } from "../../testing/Postgres.js"
import { seeded } from "./random.js"

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const backends = `SELECT pid FROM pg_stat_activity
  WHERE application_name = 'effect-arcp' AND backend_type = 'client backend'`

/** What was done to it. */
export interface Troubled {
  ended: number
  paused: number
  crashed: number
}

/** Backends are processes of this machine only where the cluster is ours, and are paused on Linux. */
const pause = async (pids: ReadonlyArray<number>, ms: number) => {
  const signal = (name: NodeJS.Signals) => {
    for (const pid of pids)
      try {
        process.kill(pid, name)
      } catch {
        // It has ended.
      }
  }
  signal("SIGSTOP")
  try {
    await sleep(ms)
  } finally {
    signal("SIGCONT")
  }
}

/**
 * Troubles a cluster until it is told to stop. Every round ends each backend with even chances; every fourth pauses them for a
 * while first; every `crashEvery`th the server crashes, and is started again.
 */
export const trouble = (cluster: Cluster, seed: number, crashEvery: number) => {
  const done: Troubled = { ended: 0, paused: 0, crashed: 0 }
  const { next } = seeded(seed)
  let isOver = false
  const once = async (round: number) => {
    if (round % crashEvery === crashEvery - 1) {
      await cluster.command("kill")
      await sleep(100 + 400 * next())
      await cluster.command("start")
      done.crashed++
      return
    }
    const client = new pg.Client({ connectionString: cluster.url })
    client.on("error", () => undefined)
    await client.connect()
    try {
      const pids = (await client.query(backends)).rows.map(({ pid }) => Number(pid))
      const some = pids.filter(() => next() < 0.5)
      if (round % 4 === 3 && process.platform === "linux") {
        await pause(some, 500 * next())
        done.paused += some.length
      }
      await client.query("SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS p (pid)", [some])
      done.ended += some.length
    } finally {
      await client.end()
    }
  }
  const over = (async () => {
    for (let round = 0; !isOver; round++) {
      await once(round)
      await sleep(40 * next())
    }
  })()
  return {
    done,
    stop: async (): Promise<Troubled> => {
      isOver = true
      await over
      return done
    }
  }
}
