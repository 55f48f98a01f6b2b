/**
 * `node bench/sync.mjs`: what waiting for commits costs one emitter, as a table: each emit awaited or not, in memory, without
 * syncs at each commit, and with them. `--write` puts it into docs/performance.md.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { environment } from "./environment.mjs"
import { grouped, size, storeName } from "./figures/common.mjs"
import { startClient, startServer, stopAll } from "./processes.mjs"
import { between } from "./section.mjs"
import { median } from "./stats.mjs"

const { values: flags } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    dir: { type: "string", default: tmpdir() },
    write: { type: "boolean", default: false }
  }
})

/** Events/s and CPU of the server for each event. */
const measure = async (store, awaitEmits) => {
  const extra = awaitEmits ? ["awaitEmits=true"] : []
  const server = await startServer({ kind: "arcp", store, extra, base: flags.dir })
  const client = startClient({ deadlineMs: 120_000 })
  const count = awaitEmits && store !== "memory" ? 1_000 : 20_000
  const once = () => client.run(server, "emit", { batch: 1, count, jobs: 1, size })
  try {
    for (let i = 0; i < 3; i++) await once()
    const before = server.cpuNs()
    const rates = []
    for (let i = 0; i < Number(flags.runs); i++) rates.push((await once()).values.rate)
    const us = (server.cpuNs() - before) / 1000 / count / rates.length
    return `${grouped(Math.round(median(rates)))}/s, ${us.toPrecision(3)} µs`
  } finally {
    await client.stop()
    await server.stop()
  }
}

const about = await environment(flags.dir)
const rows = []
for (const store of ["memory", "NORMAL", "FULL"])
  rows.push([storeName[store], await measure(store, false), await measure(store, true)])
const line = (cells) => `| ${cells.join(" | ")} |`
const text = [
  ...about.lines,
  "",
  "One job, events/s and the server's processor time for each:",
  "",
  line(["store", "emits are pipelined", "each emit waits for its commit"]),
  line(["---", "---", "---"]),
  ...rows.map(line)
].join("\n")
console.log(text)
if (flags.write) {
  const page = fileURLToPath(new URL("../docs/performance.md", import.meta.url))
  writeFileSync(page, between(readFileSync(page, "utf8"), "sync", text))
}
stopAll()
