/**
 * The client process: runs one scenario at a time against the server that `main.mjs` names, and answers
 * over IPC. The same process measures the floor and the runtime, so its own cost is in both.
 */
import * as common from "./scenarios/common.mjs"
import * as events from "./scenarios/events.mjs"
import * as jobs from "./scenarios/jobs.mjs"
import * as sessions from "./scenarios/sessions.mjs"
import { Session } from "./session.mjs"

/** Loaded when first asked for: it is the client of this package, with Effect. */
const readers = (name) => async (context) => (await import("./scenarios/readers.mjs"))[name](context)

const scenarios = {
  ...events,
  ...jobs,
  ...sessions,
  release: common.release,
  read: readers("read"),
  download: readers("download")
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
