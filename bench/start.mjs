/**
 * How long `arcp` takes to start, as a multiple of what bare Node takes: in rounds, each with one start of everything, from the
 * spawn to the line that says it is ready. On Linux also the processor time of the main thread until then, which what else the
 * machine does moves much less. The first round is not counted: it leaves what is kept compiled for the others.
 *
 *   node bench/start.mjs [--rounds 15] [--root FOLDER]…
 *
 * With several roots, each the folder of a build, they take turns.
 */
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { median } from "./stats.mjs"

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "15" },
    root: { type: "string", multiple: true, default: [fileURLToPath(new URL("..", import.meta.url))] }
  }
})
const folder = mkdtempSync(join(tmpdir(), "arcp-start-"))

/** Milliseconds of processor time that the main thread of a process has had. */
const cpuOf = (pid) => {
  const file = `/proc/${pid}/task/${pid}/schedstat`
  return existsSync(file) ? Number(readFileSync(file, "utf8").split(" ")[0]) / 1e6 : Number.NaN
}

/** Starts a process, and ends it once it has written its first line. */
const started = (args) =>
  new Promise((done, failed) => {
    const from = performance.now()
    const child = spawn(process.execPath, args, { cwd: folder, stdio: ["ignore", "pipe", "ignore"] })
    let time
    child.stdout.once("data", () => {
      time = { wall: performance.now() - from, cpu: cpuOf(child.pid) }
      child.kill("SIGTERM")
    })
    child.once("exit", () => (time === undefined ? failed(new Error(args.join(" "))) : done(time)))
  })

const stays = "console.log('ready'); setTimeout(() => {}, 60_000)"
const serve = ["serve", "--port", "0", "--token", "t=a"]
const subjects = [["bare Node", ["-e", stays]]]
for (const [i, root] of values.root.entries()) {
  const program = resolve(root, "dist/programs/arcp.js")
  const name = values.root.length === 1 ? "arcp" : root
  subjects.push(
    [`${name} --version`, [program, "--version"]],
    [`${name} serve --memory`, [program, ...serve, "--memory"]],
    [`${name} serve, on SQLite`, [program, ...serve, "--db", join(folder, `${i}.db`)]]
  )
}

const times = new Map(subjects.map(([name]) => [name, []]))
for (let round = 0; round <= Number(values.rounds); round++)
  for (const [name, args] of round % 2 === 0 ? subjects : subjects.toReversed()) {
    const time = await started(args)
    if (round > 0) times.get(name).push(time)
  }
rmSync(folder, { recursive: true })

const middle = (name, of) => median(times.get(name).map((time) => time[of]))
const cell = (name, of) =>
  `${middle(name, of).toFixed(0)} ms, ${(middle(name, of) / middle("bare Node", of)).toFixed(2)} ×`
console.log(`Node ${process.version}, medians of ${values.rounds}\n`)
console.log("| | until ready | processor time of the main thread |\n| --- | --- | --- |")
for (const [name] of subjects) console.log(`| ${name} | ${cell(name, "wall")} | ${cell(name, "cpu")} |`)
