/** Scenarios about small jobs, cancels, and what others notice of a job that emits flat out. */
import { setTimeout as pause } from "node:timers/promises"
import { percentiles } from "../stats.mjs"
import { hold, now, release, timed } from "./common.mjs"

const input = { message: "x".repeat(100) }

/** One echo job after the other. */
export const echo = async ({ open, count }) => {
  const session = await open()
  const samples = []
  for (let i = 0; i < count; i++) {
    const from = now()
    await new Promise((onResult) => session.submit("echo", input, { onResult }))
    samples.push(now() - from)
  }
  return { values: { roundTrip: percentiles(samples) }, units: count }
}

/** Echo jobs with `inFlight` of them at any time. */
export const pipeline = async ({ open, count, inFlight }) => {
  const session = await open()
  const { ms, busy } = await timed(
    () =>
      new Promise((resolve) => {
        let submitted = 0
        let ended = 0
        const next = () => {
          if (submitted < count) session.submit("echo", input, { onResult })
          submitted++
        }
        const onResult = () => {
          if (++ended === count) return resolve()
          next()
        }
        for (let i = 0; i < inFlight; i++) next()
      })
  )
  return { values: { rate: (count / ms) * 1000 }, units: count, busy }
}

/** Sleeping jobs, cancelled one after the other: how long until acknowledged, how long until ended. */
export const cancel = async ({ open, count }) => {
  const session = await open()
  const acknowledged = []
  const ended = []
  for (let i = 0; i < count; i++) {
    const times = await cancelOne(session)
    acknowledged.push(times.acknowledged)
    ended.push(times.ended)
  }
  return { values: { acknowledged: percentiles(acknowledged), ended: percentiles(ended) }, units: count }
}

/** Submits a sleeping job, cancels it as soon as it runs. */
const cancelOne = (session) =>
  new Promise((resolve) => {
    let jobId
    let from
    let acknowledged
    session.submit(
      "sleep",
      { ms: 600_000 },
      {
        onAccepted: (id) => {
          jobId = id
        },
        onEvent: () => {
          if (from !== undefined) return
          from = now()
          session.cancel(jobId)
        },
        onCancelled: () => {
          acknowledged = now() - from
        },
        onError: () => resolve({ acknowledged, ended: now() - from })
      }
    )
  })

let flooding

/** Starts a job that emits until `unflood`. */
export const flood = async ({ batch, size, ...context }) => {
  const session = await hold(context)
  flooding = { session, jobId: undefined, ended: undefined }
  await new Promise((started) => {
    flooding.ended = new Promise((onError) => {
      session.submit(
        "emit",
        { count: 100_000_000, size, batch },
        {
          onAccepted: (id) => {
            flooding.jobId = id
          },
          onEvent: () => session.seq > 5_000 && started(),
          onCancelled: () => {},
          onError
        }
      )
    })
  })
  flooding.from = now()
  flooding.seq = session.seq
  return {}
}

/**
 * Ends the flood; tells how fast its events arrived, how many were still to come when it was cancelled, and how long its
 * end took.
 */
export const unflood = async () => {
  const { seq } = flooding.session
  const from = now()
  const rate = ((seq - flooding.seq) / (from - flooding.from)) * 1000
  flooding.session.cancel(flooding.jobId)
  await flooding.ended
  const behind = flooding.session.seq - seq
  await release()
  return { rate, behind, endMs: now() - from }
}

/** Three sessions beside the flood, each measuring one thing for `ms` milliseconds. */
export const probe = async ({ open, ms }) => {
  const pingSession = await open()
  const acceptSession = await open()
  const cancelSession = await open()
  const until = now() + ms
  const repeat = async (sample) => {
    const samples = []
    while (now() < until) {
      samples.push(await sample())
      await pause(2)
    }
    return percentiles(samples)
  }
  const acknowledged = []
  const [pong, accept, ended] = await Promise.all([
    repeat(async () => {
      const from = now()
      await pingSession.ping()
      return now() - from
    }),
    repeat(() => {
      const from = now()
      let accepted
      return new Promise((resolve) =>
        acceptSession.submit("echo", input, {
          onAccepted: () => {
            accepted = now() - from
          },
          onResult: () => resolve(accepted)
        })
      )
    }),
    repeat(async () => {
      const times = await cancelOne(cancelSession)
      acknowledged.push(times.acknowledged)
      return times.ended
    })
  ])
  return { values: { pong, accept, cancelled: percentiles(acknowledged), ended } }
}
