/**
 * `node bench/failover.mjs`: several nodes on one Postgres of its own, clients that move between them, and faults by a seed; then
 * everything that every client saw is held against everything else, and against what is stored. Needs a build, the packages of
 * development, and binaries of Postgres.
 */
import { appendFileSync, mkdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { createViteServer } from "vitest/node"

const usage = (faults) => `node bench/failover.mjs [options]
  --cycles N      end after so many faults (default 10)
  --seconds S     or after so many seconds (default: none)
  --seed N        draws the faults and what the clients do (default: of the clock); a seed gives the same faults, not the same moments
  --only FAULT    only this one; repeatable
  --nodes N       default 3
  --clients N     default 4
  --check N       hold everything against everything each so many faults (default 5)
  --logs FOLDER   what nodes say that end

Faults: ${faults.join(", ")}.
Exit code 1 when anything was lost, came twice, or ended as it must not.`

const options = {
  cycles: { type: "string", default: "10" },
  seconds: { type: "string", default: "Infinity" },
  seed: { type: "string", default: `${Date.now() % 1_000_000}` },
  only: { type: "string", multiple: true, default: [] },
  nodes: { type: "string", default: "3" },
  clients: { type: "string", default: "4" },
  check: { type: "string", default: "5" },
  logs: { type: "string" },
  help: { type: "boolean", default: false }
}

const fail = (message) => {
  console.error(message)
  process.exit(2)
}

const flags = (() => {
  try {
    return parseArgs({ options }).values
  } catch (error) {
    return fail(error.message)
  }
})()

const count = (name) => {
  const value = Number(flags[name])
  return value >= 1 ? value : fail(`--${name} takes a number from 1`)
}

// Nodes go with it, and so does Postgres, however it ends.
process.on("SIGINT", () => process.exit(130)).on("SIGTERM", () => process.exit(143))

// The trial is TypeScript, of the same parts as the tests.
const vite = await createViteServer({
  root: fileURLToPath(new URL("..", import.meta.url)),
  configFile: false,
  logLevel: "error",
  appType: "custom",
  server: { middlewareMode: true, hmr: false, ws: false, watch: null },
  optimizeDeps: { noDiscovery: true }
})
try {
  const { faultNames, run } = await vite.ssrLoadModule("/test/trial/main.ts")
  if (flags.help) {
    console.log(usage(faultNames))
  } else {
    for (const name of flags.only)
      if (!faultNames.includes(name)) fail(`${name} is none of ${faultNames.join(", ")}`)
    if (flags.logs !== undefined) mkdirSync(flags.logs, { recursive: true })
    const seed = Number(flags.seed)
    console.log(`seed ${seed}`)
    const { breaches, cycles, failovers, jobs } = await run({
      seed,
      cycles: count("cycles"),
      seconds: count("seconds"),
      nodes: count("nodes"),
      clients: count("clients"),
      checkEvery: count("check"),
      only: flags.only,
      say: (line) => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`),
      keep: (name, said) => {
        if (flags.logs !== undefined) appendFileSync(`${flags.logs}/${name}.log`, `${said}\n---\n`)
      }
    })
    console.log(
      `seed ${seed}: ${cycles} faults, ${failovers} failovers, ${jobs} submits, ${breaches.length} wrong`
    )
    if (breaches.length > 0) process.exitCode = 1
  }
} finally {
  await vite.close()
}
