/**
 * The client process: runs one scenario at a time against the server that `main.mjs` names, and answers
 * over IPC. The same process measures the floor and the runtime, so its own cost is in both.
 */
import { setTimeout as pause } from "node:timers/promises"
import { Session } from "./session.mjs"
import { percentiles } from "./stats.mjs"

const input = { message: "x".repeat(100) }
const now = () => performance.now()

/** Sessions that outlive one scenario: the idle ones, and the one that is flooded. */
let held = []
let heldError
let flood

const hold = async ({ target, fail }) => {
  const at = held.push(undefined) - 1
  held[at] = await Session.open(target, (error) => {
    heldError ??= error
    fail(error)
  })
  return held[at]
}

/** Runs `measure` and tells how busy this process was meanwhile (1 = one core). */
const timed = async (measure) => {
  const cpu = process.cpuUsage()
  const from = now()
  await measure()
  const ms = now() - from
  const used = process.cpuUsage(cpu)
  return { ms, busy: (used.user + used.system) / 1000 / ms }
}

/** `jobs` emitting jobs in one session. */
const emit = async ({ open, count, jobs, batch, size, lease }) => {
  const session = await open()
  const before = session.bytes
  const { ms, busy } = await timed(
    () =>
      new Promise((resolve) => {
        let running = jobs
        const onResult = () => --running === 0 && resolve()
        for (let i = 0; i < jobs; i++) session.submit("emit", { count, size, batch }, { onResult }, lease)
      })
  )
  const events = count * jobs
  if (session.seq < events) throw new Error(`${session.seq} frames for ${events} events`)
  return {
    values: { rate: (events / ms) * 1000 },
    units: events,
    busy,
    frameBytes: (session.bytes - before) / session.seq
  }
}

/** One echo job after the other. */
const echo = async ({ open, count }) => {
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
const pipeline = async ({ open, count, inFlight }) => {
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

/** One job, `subscribers` sessions besides its own; counts the frames of the subscribers. */
const fanout = async ({ open, count, subscribers, batch, size, startDelayMs }) => {
  const owner = await open()
  const sessions = await Promise.all(Array.from({ length: subscribers }, () => open()))
  const jobId = await new Promise((onAccepted) =>
    owner.submit("emit", { count, size, batch, startDelayMs }, { onAccepted })
  )
  let from = 0
  let cpu
  let logs = 0
  const onEvent = (frame) => {
    if (frame.payload.kind !== "log") return
    if (logs++ > 0) return
    from = now()
    cpu = process.cpuUsage()
  }
  const ends = []
  for (const session of sessions)
    ends.push(
      new Promise((onResult) => {
        void session.subscribe(jobId, { onEvent, onResult })
      })
    )
  await Promise.all(ends)
  const ms = now() - from
  const used = process.cpuUsage(cpu)
  if (logs !== count * subscribers)
    throw new Error(`${logs} events for ${subscribers} subscribers of ${count}`)
  return {
    values: { rate: (logs / ms) * 1000 },
    units: logs,
    busy: (used.user + used.system) / 1000 / ms
  }
}

/** A session with `count` events resumes from the first of them, `times` times. */
const replay = async ({ open, target, count, times, size }) => {
  const session = await open({ ack: false })
  await new Promise((onResult) => session.submit("emit", { count, size, batch: 64 }, { onResult }))
  const last = session.seq
  let ms = 0
  for (let i = 0; i < times; i++) {
    let from = 0
    const reached = session.reach(last)
    void session.resume(target, () => {
      from = now()
    })
    await reached
    ms += now() - from
  }
  return { values: { rate: ((last * times) / ms) * 1000 }, units: last * times }
}

/** Sleeping jobs, cancelled one after the other: how long until acknowledged, how long until ended. */
const cancel = async ({ open, count }) => {
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

/** Opens idle sessions until there are `total`; they stay open. */
const idle = async ({ total, ...context }) => {
  const opener = async () => {
    while (held.length < total) await hold(context)
  }
  await Promise.all(Array.from({ length: 32 }, opener))
  return {}
}

/** Starts a job that emits until `unflood`. */
const startFlood = async ({ batch, size, ...context }) => {
  const session = await hold(context)
  flood = { session, jobId: undefined, ended: undefined }
  await new Promise((started) => {
    flood.ended = new Promise((onError) => {
      session.submit(
        "emit",
        { count: 100_000_000, size, batch },
        {
          onAccepted: (id) => {
            flood.jobId = id
          },
          onEvent: () => session.seq > 5_000 && started(),
          onCancelled: () => {},
          onError
        }
      )
    })
  })
  flood.from = now()
  flood.seq = session.seq
  return {}
}

/** Ends the flood; tells how fast its events arrived, and how many were still to come when it was cancelled. */
const unflood = async () => {
  const { seq } = flood.session
  const rate = ((seq - flood.seq) / (now() - flood.from)) * 1000
  flood.session.cancel(flood.jobId)
  await flood.ended
  const behind = flood.session.seq - seq
  await release()
  return { rate, behind }
}

/** Three sessions beside the flood, each measuring one thing for `ms` milliseconds. */
const probe = async ({ open, ms }) => {
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

const release = async () => {
  const sessions = held
  held = []
  await Promise.all(sessions.map((session) => session?.close()))
  if (heldError !== undefined) throw heldError
  return {}
}

const scenarios = {
  emit,
  echo,
  pipeline,
  fanout,
  replay,
  cancel,
  idle,
  flood: startFlood,
  unflood,
  probe,
  release
}

const run = async ({ scenario, target, params, deadlineMs }) => {
  globalThis.gc?.()
  const opened = []
  let fail
  const failure = new Promise((_, reject) => {
    fail = reject
  })
  failure.catch(() => {})
  const timer = setTimeout(() => fail(new Error(`${scenario} took longer than ${deadlineMs} ms`)), deadlineMs)
  const open = async (options) => {
    const session = await Session.open(target, fail, options)
    opened.push(session)
    return session
  }
  try {
    return await Promise.race([scenarios[scenario]({ ...params, target, open, fail }), failure])
  } finally {
    clearTimeout(timer)
    await Promise.all(opened.map((session) => session.close()))
  }
}

process.on("message", (request) => {
  run(request).then(
    (value) => process.send({ value }),
    (error) => process.send({ error: error.message })
  )
})
process.on("disconnect", () => process.exit(0))
