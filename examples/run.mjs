// Compiles the examples and runs those that are named, or all, as CI does; tells how long each took.
//
//   npm run example hello [ARGUMENT...]     # one, as it is
//   npm run examples                        # all; fails when one fails
//   npm run examples:build                  # only compiles them, into examples/.build

import { spawn } from "node:child_process"
import { readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as esbuild from "esbuild"

// For what hangs, not for what is slow: the longest takes some 10 s on two idle cores.
const limitMs = 180_000
/** What is no program of its own. */
const notRun = ["my-agents"]

const directory = fileURLToPath(new URL(".", import.meta.url))
const all = readdirSync(directory)
  .filter((file) => file.endsWith(".ts"))
  .map((file) => file.slice(0, -".ts".length))

// Beside their sources, so that `effect-arcp` is this package.
const build = `${directory}.build`
await esbuild.build({
  entryPoints: all.map((name) => `${directory}${name}.ts`),
  outdir: build,
  format: "esm",
  target: "node20",
  platform: "node",
  tsconfigRaw: {},
  logLevel: "warning"
})

const collected = (name) =>
  new Promise((resolve) => {
    const started = performance.now()
    let output = ""
    // A group of its own: what it has started goes with it.
    const child = spawn(process.execPath, [`${build}/${name}.js`], {
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

const runAll = async () => {
  let failed = 0
  const names = all.filter((name) => !notRun.includes(name))
  for (const name of names) {
    const { how, ok, output, seconds } = await collected(name)
    console.log(
      `${ok ? "ok  " : "FAIL"} ${name.padEnd(16)} ${seconds.toFixed(1).padStart(5)} s${ok ? "" : `  ${how}`}`
    )
    if (ok) continue
    failed++
    console.log(output.replace(/^/gm, "     "))
  }
  console.log(`examples: ${names.length - failed} passed, ${failed} failed`)
  if (failed > 0) process.exitCode = 1
}

const [name, ...args] = process.argv.slice(2)
if (name === "--all") await runAll()
else if (name !== "--build") {
  if (!all.includes(name)) {
    console.error(`which example? One of ${all.filter((each) => !notRun.includes(each)).join(", ")}`)
    process.exit(1)
  }
  const child = spawn(process.execPath, [`${build}/${name}.js`, ...args], { stdio: "inherit" })
  child.on("close", (code, signal) => {
    process.exitCode = signal === null ? code : 1
  })
}
