/** Scenarios about many sessions: idle, and all coming back at once. */
import { setTimeout as pause } from "node:timers/promises"
import { Session } from "../session.mjs"
import { heldCount, hold, inParallel, now } from "./common.mjs"

/** Opens idle sessions until there are `total`; they stay open. */
export const idle = async ({ total, ...context }) => {
  const opener = async () => {
    while (heldCount() < total) await hold(context)
  }
  await Promise.all(Array.from({ length: 32 }, opener))
  return {}
}

/** `count` sessions are opened and closed again, 32 at a time. */
export const connect = async ({ count, open }) => {
  await inParallel(count, 32, async () => {
    const session = await open()
    await session.close()
  })
  return { values: {}, units: count }
}

/**
 * `total` sessions, each with a job that has ended, lose their transports and come back all at once, each asking for the
 * job's end again. Measured until the last of them has it. A connection that is refused is made again after 50 ms, as
 * clients do; how many were is a figure too.
 */
export const storm = async ({ total, target, fail }) => {
  const sessions = []
  let refused = 0
  const opener = async () => {
    while (sessions.length < total) {
      const at = sessions.push(undefined) - 1
      const session = await Session.open(target, fail)
      await new Promise((onResult) => session.submit("echo", { n: at }, { onResult }))
      sessions[at] = session
    }
  }
  await Promise.all(Array.from({ length: 32 }, opener))
  for (const session of sessions) session.drop()
  // Until the server has noticed: it is the coming back that is measured.
  await pause(1_000)
  const comeBack = (session) =>
    new Promise((resolve) => {
      const last = session.seq
      const attempt = () => {
        void session.reach(last).then(resolve)
        void session.resume(target, {
          from: last - 1,
          onRefused: () => {
            refused++
            setTimeout(attempt, 50)
          }
        })
      }
      attempt()
    })
  const from = now()
  await Promise.all(sessions.map(comeBack))
  const ms = now() - from
  await Promise.all(sessions.map((session) => session.close()))
  return { values: { seconds: ms / 1000, refused }, units: total }
}
