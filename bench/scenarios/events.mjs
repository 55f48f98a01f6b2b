/** Scenarios about events: emitted, fanned out, replayed. */
import { percentiles } from "../stats.mjs"
import { hold, inParallel, now, stopwatch, timed } from "./common.mjs"

/** `jobs` emitting jobs, in one session or in one session each. */
export const emit = async ({ open, count, jobs, batch, size, lease, apart = false }) => {
  const sessions = []
  for (let i = 0; i < (apart ? jobs : 1); i++) sessions.push(await open())
  const bytes = () => sessions.reduce((sum, session) => sum + session.bytes, 0)
  const before = bytes()
  const { ms, busy } = await timed(
    () =>
      new Promise((resolve) => {
        let running = jobs
        const onResult = () => --running === 0 && resolve()
        for (let i = 0; i < jobs; i++)
          sessions[i % sessions.length].submit("emit", { count, size, batch }, { onResult }, lease)
      })
  )
  const events = count * jobs
  const frames = sessions.reduce((sum, session) => sum + session.seq, 0)
  if (frames < events) throw new Error(`${frames} frames for ${events} events`)
  return {
    values: { rate: (events / ms) * 1000 },
    units: events,
    busy,
    frameBytes: (bytes() - before) / frames
  }
}

/** Leaves `count` events behind, in jobs of `perJob` that have ended, and measures nothing. */
export const fill = async ({ open, count, perJob, size }) => {
  let left = count
  await inParallel(Math.ceil(count / perJob), 4, async () => {
    const events = Math.min(left, perJob)
    left -= events
    const session = await open()
    await new Promise((onResult) => session.submit("emit", { count: events, size, batch: 64 }, { onResult }))
  })
  return {}
}

/** Opens `count` jobs more that do nothing and stay open, `perSession` in each session. */
export const openJobs = async ({ count, perSession, ...context }) => {
  await inParallel(Math.ceil(count / perSession), 4, async (i) => {
    const session = await hold(context)
    await inParallel(
      Math.min(perSession, count - i * perSession),
      16,
      () =>
        new Promise((resolve) =>
          session.submit(
            "sleep",
            { ms: 3_600_000 },
            // Whatever ends it is not its end that is measured here.
            { onAccepted: resolve, onCancelled: () => {} }
          )
        )
    )
  })
  return {}
}

const subscribersOf = async ({ open, subscribers }) => {
  const sessions = []
  await inParallel(subscribers, 32, async () => {
    sessions.push(await open())
  })
  return sessions
}

/** Subscribes all, and resolves when each has the result. */
const everyResult = (sessions, jobId, onEvent) =>
  Promise.all(
    sessions.map(
      (session) =>
        new Promise((onResult) => {
          void session.subscribe(jobId, { onEvent, onResult })
        })
    )
  )

/** One job, `subscribers` sessions besides its own; counts the frames of the subscribers. */
export const fanout = async ({ open, count, subscribers, batch, size, startDelayMs }) => {
  const owner = await open()
  const sessions = await subscribersOf({ open, subscribers })
  const jobId = await new Promise((onAccepted) =>
    owner.submit("emit", { count, size, batch, startDelayMs }, { onAccepted })
  )
  let stop
  let logs = 0
  await everyResult(sessions, jobId, (frame) => {
    if (frame.payload.kind !== "log") return
    if (logs++ === 0) stop = stopwatch()
  })
  const { busy, ms } = stop()
  if (logs !== count * subscribers)
    throw new Error(`${logs} events for ${subscribers} subscribers of ${count}`)
  return { values: { rate: (logs / ms) * 1000 }, units: logs, busy }
}

/**
 * One job that emits every `delayMs`, and `subscribers`: how long after it was made each event came to each. The time at
 * which it was made is its own (`payload.ts`, in milliseconds, by the same clock).
 */
export const lag = async ({ open, count, subscribers, delayMs, size, startDelayMs }) => {
  const owner = await open()
  const sessions = await subscribersOf({ open, subscribers })
  const jobId = await new Promise((onAccepted) =>
    owner.submit("emit", { count, size, batch: 1, delayMs, startDelayMs }, { onAccepted })
  )
  const samples = new Float64Array(count * subscribers)
  let logs = 0
  await everyResult(sessions, jobId, ({ payload }) => {
    if (payload.kind === "log") samples[logs++] = Date.now() - Date.parse(payload.ts)
  })
  if (logs !== samples.length) throw new Error(`${logs} events for ${subscribers} subscribers of ${count}`)
  return { values: { lag: percentiles(samples) } }
}

/** A session that has received `count` events, for `replayHeld`. */
let replayed

export const fillReplay = async ({ count, size, ...context }) => {
  replayed = await hold(context, { ack: false })
  await new Promise((onResult) => replayed.submit("emit", { count, size, batch: 64 }, { onResult }))
  return {}
}

/** The session resumes from its first event. */
export const replayHeld = async ({ target }) => {
  const last = replayed.seq
  let from = 0
  const reached = replayed.reach(last)
  void replayed.resume(target, {
    onHello: () => {
      from = now()
    }
  })
  await reached
  return { values: { rate: (last / (now() - from)) * 1000 }, units: last }
}

/** A session with `count` events resumes from the first of them, `times` times. */
export const replay = async ({ open, target, count, times, size }) => {
  const session = await open({ ack: false })
  await new Promise((onResult) => session.submit("emit", { count, size, batch: 64 }, { onResult }))
  const last = session.seq
  let ms = 0
  for (let i = 0; i < times; i++) {
    let from = 0
    const reached = session.reach(last)
    void session.resume(target, {
      onHello: () => {
        from = now()
      }
    })
    await reached
    ms += now() - from
  }
  return { values: { rate: ((last * times) / ms) * 1000 }, units: last * times }
}
