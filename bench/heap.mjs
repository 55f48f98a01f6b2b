/**
 * Loaded into a server whose heap is to be measured (`node --import`): at each SIGUSR2 garbage is collected and what is in use
 * after that is written to the file that `BENCH_HEAP` names.
 */
import { renameSync, writeFileSync } from "node:fs"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const gc = runInNewContext("gc")
const file = process.env.BENCH_HEAP

process.on("SIGUSR2", () => {
  gc()
  gc()
  writeFileSync(`${file}.part`, JSON.stringify(process.memoryUsage()))
  renameSync(`${file}.part`, file)
})
