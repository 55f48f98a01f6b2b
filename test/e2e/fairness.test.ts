import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers()

const median = (values: Array<number>) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]

describe.each(["memory", "sqlite"])("while one job emits flat out on %s", (store) => {
  it("others get their pongs, accepts and cancels promptly", { timeout: 60_000 }, async () => {
    verifies("fairness")
    const db = store === "sqlite" ? ["--db", join(own.directory(), "arcp.db")] : ["--memory"]
    const { url } = await own.start(...db)
    const noisy = await WireClient.open(url)
    const other = await WireClient.open(url, { token: "tok-b" })
    await other.run("echo", "warm")
    const emitting = new Set<string | undefined>()
    const emit = async () => emitting.add((await noisy.accept("emit", { count: 20_000 })).job_id)
    await emit()
    const pongs: Array<number> = []
    const accepts: Array<number> = []
    const cancels: Array<number> = []
    for (let round = 0; round < 20; round++) {
      const ended = noisy.frames.filter((frame) => frame.type === "job.result").length
      // The load must last as long as the measurement.
      if (ended >= emitting.size) await emit()
      pongs.push(await other.ping())
      const started = performance.now()
      const { job_id } = await other.accept("sleep", { ms: 60_000 })
      const accepted = performance.now()
      other.request("job.cancel", {}, { job_id })
      await other.nextOf("job.cancelled")
      cancels.push(performance.now() - accepted)
      accepts.push(accepted - started)
      await other.terminal(job_id)
    }
    expect(median(pongs)).toBeLessThan(100)
    expect(median(accepts)).toBeLessThan(100)
    expect(median(cancels)).toBeLessThan(100)
    // What is not emitted yet need not be waited for.
    for (const job_id of emitting) noisy.request("job.cancel", {}, { job_id })
    for (const job_id of emitting) await noisy.terminal(job_id, 30_000)
  })
})
