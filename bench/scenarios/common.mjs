/** What scenarios share: the time, how busy this process is, and sessions that outlive one scenario. */
import { Session } from "../session.mjs"

export const now = () => performance.now()

/** Runs `measure` and tells how long it took and how busy this process was meanwhile (1 = one core). */
export const timed = async (measure) => {
  const stop = stopwatch()
  await measure()
  return stop()
}

/** Starts a measurement; the function returned ends it. */
export const stopwatch = () => {
  const cpu = process.cpuUsage()
  const from = now()
  return () => {
    const ms = now() - from
    const { system, user } = process.cpuUsage(cpu)
    return { ms, cpuUs: user + system, busy: (user + system) / 1000 / ms }
  }
}

let held = []
let heldError

/** Opens a session that stays open until `release`. */
export const hold = async ({ target, fail }, options) => {
  const at = held.push(undefined) - 1
  const session = await Session.open(
    target,
    (error) => {
      heldError ??= error
      fail(error)
    },
    options
  )
  held[at] = session
  return session
}

/** How many sessions are held. */
export const heldCount = () => held.length

/** Closes every session that is held. */
export const release = async () => {
  const sessions = held
  held = []
  await Promise.all(sessions.map((session) => session?.close()))
  if (heldError !== undefined) throw heldError
  return {}
}

/** Calls `each` with 0 to `count - 1`, `width` of them at a time. */
export const inParallel = async (count, width, each) => {
  let next = 0
  const worker = async () => {
    while (next < count) await each(next++)
  }
  await Promise.all(Array.from({ length: Math.min(width, count) }, worker))
}
