/**
 * Loaded into a server that is to be profiled (`node --import`). The first SIGUSR2 starts a CPU profile, the next one ends it
 * and writes it to the file that `BENCH_PROFILE` names, in the form of `node --cpu-prof`. So neither the start nor the
 * warming up is in it.
 */
import { renameSync, writeFileSync } from "node:fs"
import { Session } from "node:inspector"

const file = process.env.BENCH_PROFILE
const session = new Session()
session.connect()
const post = (method, params) =>
  new Promise((resolve, reject) =>
    session.post(method, params, (error, result) => (error === null ? resolve(result) : reject(error)))
  )

const samplingUs = 250
let running = false

const toggle = async () => {
  running = !running
  if (running) {
    await post("Profiler.enable")
    await post("Profiler.setSamplingInterval", { interval: samplingUs })
    await post("Profiler.start")
    writeFileSync(`${file}.started`, "")
    return
  }
  const { profile } = await post("Profiler.stop")
  writeFileSync(`${file}.part`, JSON.stringify(profile))
  renameSync(`${file}.part`, file)
}

process.on("SIGUSR2", () => void toggle())
