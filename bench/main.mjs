/** `npm run bench`: measures the runtime and the floor alternately and prints a Markdown table. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { environment } from "./environment.mjs"
import { describe, figures } from "./figures.mjs"
import { startClient, startServer, stopAll } from "./processes.mjs"
import { rows, table } from "./report.mjs"

const usage = `npm run bench -- [options]
  --quick            fewer and smaller runs: a check that everything works, not a measurement
  --runs N           measured runs per figure (default 5, with --quick 2)
  --only NAME        only figures whose name starts with NAME (emit-1, echo, jobs, fanout …); repeatable
  --store NAME       only figures on this store: memory, FULL, NORMAL
  --dir DIRECTORY    where the databases go (default: the system's temporary directory)
  --json FILE        also write every run of every figure to FILE
  --subject floor    measure the floor against itself: the ratios show the noise
  --deadline-sec N   longest time one run may take (default 120)
  --list             print the figures and exit`

const options = {
  quick: { type: "boolean", default: false },
  runs: { type: "string" },
  only: { type: "string", multiple: true, default: [] },
  store: { type: "string" },
  dir: { type: "string", default: tmpdir() },
  json: { type: "string" },
  subject: { type: "string", default: "arcp" },
  "deadline-sec": { type: "string", default: "120" },
  list: { type: "boolean", default: false },
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
    return fail(`${error.message}\n\n${usage}`)
  }
})()

const positiveInteger = (name, value) => {
  const number = Number(value)
  return Number.isInteger(number) && number > 0 ? number : fail(`--${name} takes a positive whole number`)
}

const progress = (text) => process.stderr.write(`${text}\n`)

/** Seconds one measured run may take; what is slower emits fewer events. */
const runSec = 10

/** One run against one server, with the CPU time the server used. */
const measureOne = async (figure, server, clients, count) => {
  const cpu = server.cpuNs()
  const result = await figure.measure({ ...clients, server, count })
  const used = server.cpuNs()
  return {
    ...result,
    ...(cpu === undefined || used === undefined ? {} : { serverCpuNs: used - cpu })
  }
}

/** Warms both servers up, then measures them alternately, each first in every other round. */
const measureFigure = async (figure, { runs, base, subject, deadlineMs }) => {
  const start = (kind) => startServer({ kind, store: figure.store, extra: figure.limits, base })
  const kinds = { floor: "floor", subject }
  const clients = { client: startClient({ deadlineMs }), otherClient: startClient({ deadlineMs }) }
  const servers = {}
  const measured = { floor: [], subject: [] }
  let { count } = figure
  const visit = async (side, record) => {
    if (figure.freshServers || servers[side] === undefined) servers[side] = await start(kinds[side])
    try {
      const result = await measureOne(figure, servers[side], clients, count)
      if (record) measured[side].push(result)
      return result
    } finally {
      if (figure.freshServers) await servers[side].stop()
    }
  }
  try {
    if (count !== undefined) {
      const wanted = count
      count = Math.ceil(wanted / 10)
      await visit("floor", false)
      const { values } = await visit("subject", false)
      count = Math.min(wanted, Math.max(count, Math.floor((values.rate * runSec) / figure.jobs)))
    }
    for (let i = 0; i < (figure.warmups ?? 1); i++) {
      await visit("floor", false)
      await visit("subject", false)
    }
    for (let i = 0; i < runs; i++)
      for (const side of i % 2 === 0 ? ["floor", "subject"] : ["subject", "floor"]) await visit(side, true)
    return { measured, count }
  } finally {
    await Promise.all([clients.client.stop(), clients.otherClient.stop()])
    await Promise.all(Object.values(servers).map((server) => server.stop()))
  }
}

const main = async () => {
  if (flags.help) return console.log(usage)
  const selected = figures({ full: !flags.quick }).filter(
    (figure) =>
      (flags.only.length === 0 || flags.only.some((name) => figure.name.startsWith(name))) &&
      (flags.store === undefined || figure.store === flags.store)
  )
  if (selected.length === 0) fail("no such figure; --list prints them")
  if (flags.list) return console.log(selected.map(describe).join("\n"))
  if (flags.subject !== "arcp" && flags.subject !== "floor") fail("--subject takes arcp or floor")
  if (
    flags.subject === "arcp" &&
    !existsSync(fileURLToPath(new URL("../dist/programs/arcp.js", import.meta.url)))
  )
    fail("nothing is built yet: use npm run bench, or npm run build first")

  const runs = positiveInteger("runs", flags.runs ?? (flags.quick ? 2 : 5))
  const deadlineMs = positiveInteger("deadline-sec", flags["deadline-sec"]) * 1000
  mkdirSync(flags.dir, { recursive: true })
  const command = [
    "npm run bench",
    ...(process.argv.length > 2 ? ["--", ...process.argv.slice(2)] : [])
  ].join(" ")
  const about = environment(flags.dir)
  const report = []
  for (const figure of selected) {
    progress(describe(figure))
    try {
      const settings = { runs, base: flags.dir, subject: flags.subject, deadlineMs }
      const entry = { figure, ...(await measureFigure(figure, settings)) }
      report.push(entry)
      for (const row of rows(entry)) progress(`  ${row.slice(0, 5).join(" · ")}`)
    } catch (error) {
      report.push({ figure, error: error.message })
      progress(`  failed: ${error.message}`)
      process.exitCode = 1
    }
  }
  const lines = [`\`${command}\` — ${runs} runs, medians`, "", ...about.lines, "", table(report)]
  console.log(lines.join("\n"))
  if (flags.json !== undefined)
    writeFileSync(
      flags.json,
      `${JSON.stringify({ command, runs, environment: about.facts, figures: report }, null, 2)}\n`
    )
}

process.on("exit", stopAll)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130))
await main()
