/** `npm run bench`: measures the runtime, the floor and a peer in turn, and prints a Markdown table. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { environment } from "./environment.mjs"
import { describe, figures } from "./figures.mjs"
import { measureFigure } from "./measure.mjs"
import { stopAll } from "./processes.mjs"
import { rows, table } from "./report.mjs"

const usage = `npm run bench -- [options]
  --quick            fewer and smaller runs: a check that everything works, not a measurement
  --long             also the figures that take minutes, and SQLite NORMAL
  --runs N           measured runs per figure (default 3, with --quick 2; figures that take long have fewer)
  --only NAME        only figures whose name starts with NAME (emit-1, echo, jobs, fanout …); repeatable
  --store NAME       only figures on this store: memory, FULL, NORMAL
  --retained N       how many events the figures over a log go up to (default 1000000; in memory never more)
  --dir DIRECTORY    where the databases go (default: the system's temporary directory)
  --json FILE        also write every run of every figure to FILE
  --subject floor    measure the floor against itself: the ratios show the noise
  --deadline-sec N   longest time one run may take (default 120)
  --list             print the figures and exit

Another ARCP server beside it, which is running already:
  --peer URL         ws://… of that server
  --peer-token TOKEN its bearer token (default: bench)
  --peer-agent A=B   what it calls our agent A (emit, echo, sleep); repeatable
  --peer-input A=JSON  how it takes the input of A: a template in which "$name" stands for a field of ours; repeatable
  --peer-pid PID     its process, if it is on this machine: for its processor time and memory`

const options = {
  quick: { type: "boolean", default: false },
  long: { type: "boolean", default: false },
  runs: { type: "string" },
  only: { type: "string", multiple: true, default: [] },
  store: { type: "string" },
  retained: { type: "string", default: "1000000" },
  dir: { type: "string", default: tmpdir() },
  json: { type: "string" },
  subject: { type: "string", default: "arcp" },
  "deadline-sec": { type: "string", default: "120" },
  peer: { type: "string" },
  "peer-token": { type: "string", default: "bench" },
  "peer-agent": { type: "string", multiple: true, default: [] },
  "peer-input": { type: "string", multiple: true, default: [] },
  "peer-pid": { type: "string" },
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

/** Splits `NAME=VALUE`. */
const pair = (flag, text) => {
  const at = text.indexOf("=")
  return at > 0 ? [text.slice(0, at), text.slice(at + 1)] : fail(`--${flag} takes NAME=VALUE`)
}

const template = (text) => {
  try {
    return JSON.parse(text)
  } catch (error) {
    return fail(`--peer-input: ${error.message}`)
  }
}

/** The server that is measured beside ours, if there is one. */
const peerOf = () => {
  if (flags.peer === undefined) return undefined
  const agents = {}
  for (const text of flags["peer-agent"]) {
    const [ours, name] = pair("peer-agent", text)
    agents[ours] = { ...agents[ours], name }
  }
  for (const text of flags["peer-input"]) {
    const [ours, json] = pair("peer-input", text)
    agents[ours] = { ...agents[ours], input: template(json) }
  }
  const pid = flags["peer-pid"] === undefined ? undefined : positiveInteger("peer-pid", flags["peer-pid"])
  return { url: flags.peer, token: flags["peer-token"], agents, pid }
}

/** The figures that were asked for. */
const selectedOf = () => {
  const { long, only, quick, store } = flags
  const retained = positiveInteger("retained", flags.retained)
  return figures({ full: !quick, retained }).filter(
    (figure) =>
      (only.length === 0 ? long || !figure.long : only.some((name) => figure.name.startsWith(name))) &&
      (store === undefined || figure.store === store)
  )
}

const main = async () => {
  if (flags.help) return console.log(usage)
  const selected = selectedOf()
  if (selected.length === 0) fail("no such figure; --list prints them")
  if (flags.list) return console.log(selected.map(describe).join("\n"))
  if (flags.subject !== "arcp" && flags.subject !== "floor") fail("--subject takes arcp or floor")
  if (
    flags.subject === "arcp" &&
    !existsSync(fileURLToPath(new URL("../dist/programs/arcp.js", import.meta.url)))
  )
    fail("nothing is built yet: use npm run bench, or npm run build first")

  const runs = positiveInteger("runs", flags.runs ?? (flags.quick ? 2 : 3))
  const peer = peerOf()
  const settings = {
    runs,
    runsGiven: flags.runs !== undefined,
    base: flags.dir,
    subject: flags.subject,
    peer,
    deadlineMs: positiveInteger("deadline-sec", flags["deadline-sec"]) * 1000
  }
  mkdirSync(flags.dir, { recursive: true })
  const about = await environment(flags.dir)
  const context = { facts: about.facts, peer: peer !== undefined }
  const report = await measureAll(selected, settings, context)
  const lines = [
    `\`${commandLine()}\` — up to ${runs} runs, medians`,
    "",
    ...about.lines,
    "",
    table(report, context)
  ]
  console.log(lines.join("\n"))
  if (flags.json !== undefined)
    writeFileSync(
      flags.json,
      `${JSON.stringify({ command: commandLine(), runs, environment: about.facts, figures: report }, null, 2)}\n`
    )
}

/** How this run was asked for; without tokens. */
const commandLine = () => {
  const args = process.argv
    .slice(2)
    .filter((arg, i, all) => arg !== "--peer-token" && all[i - 1] !== "--peer-token")
  return ["npm run bench", ...(args.length > 0 ? ["--", ...args] : [])].join(" ")
}

const measureAll = async (selected, settings, context) => {
  const report = []
  for (const figure of selected) {
    progress(describe(figure))
    const from = performance.now()
    try {
      const entry = { figure, ...(await measureFigure(figure, settings)) }
      report.push(entry)
      for (const row of rows(entry, context)) progress(`  ${row.slice(0, -2).join(" · ")}`)
    } catch (error) {
      report.push({ figure, error: error.message })
      progress(`  failed: ${error.message}`)
      process.exitCode = 1
    }
    progress(`  ${((performance.now() - from) / 1000).toFixed(1)} s`)
  }
  return report
}

process.on("exit", stopAll)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130))
await main()
