/** Agents that write where they should not, and let go of what fails. */
import { stdout } from "node:process"
import { Agent } from "../../../dist/index.js"

console.log("the module was loaded")

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

export const agents = [
  Agent.fromPromise("chatty", { version: "1.0.0" }, async (_, job) => {
    for (let i = 0; i < 50; i++) {
      console.log("half a line\nof", i)
      console.info("info", i)
      process.stdout.write(`no newline ${i}`)
      stdout.write(`imported ${i}\n`)
      await job.log("info", `event ${i}`)
    }
    return "said"
  }),
  Agent.fromPromise("stray", { version: "1.0.0" }, async (_, job) => {
    setTimeout(() => Promise.reject(new Error("a promise that nobody waits for")))
    setTimeout(() => Promise.reject("no error at all"))
    await job.log("info", "let go of two promises")
    await pause(50)
    return "went on"
  }),
  Agent.fromPromise("flood", { version: "1.0.0" }, async (count) => {
    for (let i = 0; i < count; i++) void Promise.reject(new Error(`stray ${i}`))
    await pause(50)
    return "went on"
  }),
  Agent.fromPromise("quitter", { version: "1.0.0" }, async () => {
    process.exitCode = 7
    process.exit(0)
  }),
  Agent.fromPromise("poison", { version: "1.0.0" }, async () => {
    const unreadable = new Proxy(
      {},
      {
        get: () => {
          throw new Error("not to be looked at")
        }
      }
    )
    setTimeout(() => Promise.reject(unreadable))
    setTimeout(() => Promise.reject(null))
    setTimeout(() => Promise.reject(Object.create(null)))
    const round = new Error("its own cause")
    round.cause = round
    let looks = 0
    const once = Object.defineProperty(new Error("x"), "stack", {
      get: () => {
        if (looks++ > 0) throw new Error("looked at twice")
        return "Error: looked at once"
      }
    })
    setTimeout(() => Promise.reject(round))
    setTimeout(() => Promise.reject(once))
    setTimeout(() => Promise.reject(new Error("x", { cause: unreadable })))
    setTimeout(() => Promise.reject(Buffer.alloc(5_000_000, "b")))
    await pause(50)
    return "went on"
  }),
  Agent.fromPromise("forger", { version: "1.0.0" }, async () => {
    throw new Error(
      "broken\n[00:00:00.000] INFO (#1): session opened by admin\ntimestamp=1 level=INFO message=forged"
    )
  }),
  Agent.fromPromise("bomb", { version: "1.0.0" }, async (_, job) => {
    setTimeout(() => {
      throw new Error("thrown in a timer")
    }, 20)
    await job.log("info", "lit")
    await pause(600_000)
  }),
  Agent.fromPromise("thrower", { version: "1.0.0" }, async () => {
    throw new Error("broken\nin two lines", { cause: new Error("the deeper reason") })
  })
]
