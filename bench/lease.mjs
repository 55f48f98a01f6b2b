/**
 * `npm run bench:lease`: what leases cost. Checks per second in this process, how a check grows with its pattern,
 * and events per second of jobs with a lease against the same jobs without one, alternately in one server.
 */
import { tmpdir } from "node:os"
import { parseArgs } from "node:util"
import * as Lease from "../dist/protocol/Lease.js"
import * as Pattern from "../dist/protocol/Pattern.js"
import { startClient, startServer, stopAll } from "./processes.mjs"
import { median } from "./stats.mjs"

const { values: flags } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    /** memory, FULL, NORMAL */
    store: { type: "string", default: "memory" }
  }
})
const runs = Number(flags.runs)

/** Nanoseconds of one call, the median of several measurements of about 100 ms. */
const nanos = (call) => {
  let n = 1_000
  for (;;) {
    const from = performance.now()
    for (let i = 0; i < n; i++) call(i)
    if (performance.now() - from > 20) break
    n *= 4
  }
  const samples = Array.from({ length: runs }, () => {
    const from = performance.now()
    for (let i = 0; i < 4 * n; i++) call(i)
    return ((performance.now() - from) * 1e6) / (4 * n)
  })
  return median(samples)
}

const rate = (ns) => `${Math.round(1e9 / ns).toLocaleString("en")}/s`

const lease = {
  "fs.read": ["/work/src/**", "/work/docs/*.md"],
  "net.fetch": ["https://*.example.com/v1/**"],
  "tool.call": ["search.*", "mcp:files/*"]
}
const targets = {
  "fs.read": (i) => `/work/src/module-${i % 500}/index.ts`,
  "net.fetch": (i) => `https://api.example.com/v1/items/${i % 500}`,
  "tool.call": (i) => `search.${i % 500}`
}

console.log("| check | same 500 targets | every target new |\n|---|---|---|")
for (const [capability, target] of Object.entries(targets)) {
  const known = Array.from({ length: 500 }, (_, i) => target(i))
  const warm = Lease.compile(lease)
  const fresh = Array.from({ length: 200_000 }, (_, i) => `${known[i % 500]}${i}`)
  const cold = Lease.compile(lease)
  console.log(
    `| ${capability} | ${rate(nanos((i) => warm.permits(capability, known[i % 500])))} | ${rate(
      nanos((i) => cold.permits(capability, fresh[i % fresh.length]))
    )} |`
  )
}

console.log(
  "\n| pattern length | `*`-free | `**` and `*` | worst case: `*a*a…b` on `aaa…` |\n|---|---|---|---|"
)
for (const length of [16, 64, 256, 1024]) {
  const literal = `/${"a".repeat(length - 1)}`
  const wild = `/${"*a/".repeat(length / 4)}**`
  const wildTarget = `/${"ba/".repeat(length / 4)}c`
  const worst = `/${"*a".repeat(length / 2 - 1)}b`
  const worstTarget = `/${"a".repeat(256)}`
  const cells = [
    [literal, literal],
    [wild, wildTarget],
    [worst, worstTarget]
  ].map(([pattern, target]) => {
    const compiled = Pattern.compile("path", pattern)
    return `${Math.round(nanos(() => compiled.matches(target)))} ns`
  })
  console.log(`| ${length} | ${cells.join(" | ")} |`)
}

const server = await startServer({ kind: "arcp", store: flags.store, base: tmpdir() })
const client = startClient({ deadlineMs: 120_000 })
const measure = async (leased) => {
  const { values } = await client.run(server, "emit", {
    count: 20_000,
    jobs: 1,
    batch: 64,
    size: 100,
    ...(leased ? { lease: { ...lease, "cost.budget": ["USD:5"] } } : {})
  })
  return values.rate
}
try {
  for (let i = 0; i < 3; i++) await measure(i % 2 === 0)
  const ratios = []
  for (let i = 0; i < runs * 2; i++) {
    const order = i % 2 === 0 ? [false, true] : [true, false]
    const rates = new Map()
    for (const leased of order) rates.set(leased, await measure(leased))
    ratios.push(rates.get(true) / rates.get(false))
  }
  console.log(
    `\nevents/s with a lease : without, ${flags.store}, batch 64, ${ratios.length} pairs: median ${median(ratios).toFixed(3)} (${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)})`
  )
} finally {
  await client.stop()
  await server.stop()
  stopAll()
}
