// Runs every example beside it, as CI does, and tells how long each took. Fails when one fails.
//
//   node examples/run-all.mjs [NAME...]

import { spawn } from "node:child_process"
import { readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"

const limitMs = 60_000
/** What is no program of its own. */
const notRun = ["my-agents", "run-all"]

const directory = fileURLToPath(new URL(".", import.meta.url))
const all = readdirSync(directory)
  .filter((file) => file.endsWith(".mjs"))
  .map((file) => file.slice(0, -".mjs".length))
  .filter((name) => !notRun.includes(name))
const wanted = process.argv.length > 2 ? process.argv.slice(2) : all

const run = (name) =>
  new Promise((resolve) => {
    const started = performance.now()
    let output = ""
    // A group of its own: what it has started goes with it.
    const child = spawn(process.execPath, [`${directory}/${name}.mjs`], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true
    })
    let late = false
    const timer = setTimeout(() => {
      late = true
      process.kill(-child.pid, "SIGKILL")
    }, limitMs)
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => {
        output += text
      })
    child.on("close", (code, signal) => {
      clearTimeout(timer)
      const how = late ? `not done within ${limitMs / 1000} s` : signal === null ? `exit ${code}` : signal
      resolve({ ok: code === 0 && output !== "", how, output, seconds: (performance.now() - started) / 1000 })
    })
  })

for (const name of wanted) {
  const { how, ok, output, seconds } = await run(name)
  console.log(
    `${ok ? "ok  " : "FAIL"} ${name.padEnd(16)} ${seconds.toFixed(1).padStart(5)} s${ok ? "" : `  ${how}`}`
  )
  if (ok) continue
  console.log(output.replace(/^/gm, "     "))
  process.exitCode = 1
}
