// The thread that writes to SQLite files as one file, so that a start reads one, and so that it can be copied to where a
// bundled application is. Only SQLite itself stays outside.
import { statSync } from "node:fs"
import { rolldown } from "rolldown"

const file = "dist/sqlite-worker.js"

const bundle = await rolldown({
  input: "dist/layers/store/sqliteWorker.js",
  platform: "node",
  // What takes long on a busy machine is no fault of what is bundled.
  checks: { bundlerTimings: false },
  external: ["@photostructure/sqlite"],
  onLog: (level, log) => {
    if (level === "warn") throw new Error(log.message)
  }
})
const { output } = await bundle.write({ file, format: "es", comments: false, codeSplitting: false })
await bundle.close()

const foreign = output.flatMap(({ modules = {} }) =>
  Object.keys(modules).filter((id) => id.includes("node_modules"))
)
if (foreign.length > 0) throw new Error(`the thread that writes loads ${foreign[0]}`)
console.log(`${file}: ${(statSync(file).size / 1e3).toFixed(0)} kB`)
