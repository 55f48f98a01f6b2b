import { defineConfig } from "vitest/config"
import { files, type Transport, transports } from "./test/e2e/transports.js"
import { bundledWorker } from "./test/support/bundledWorker.js"
import LongestFirst from "./test/support/LongestFirst.js"
import { scratch } from "./test/support/scratch.js"

/** Files of the black-box suite that do not run over `transport`. */
const excluded = (transport: Transport) =>
  Object.entries(files)
    .filter(([, { on }]) => !on.includes(transport))
    .map(([name]) => `test/e2e/${name}.test.ts`)

/** The whole suite over WebSocket; the black-box suite again over each of the other transports. */
const project = (transport: Transport) => ({
  extends: true as const,
  test: {
    name: transport,
    provide: { transport },
    // The other transports' tests wait rather than work: they run beside, in a pool of their own.
    pool: transport === "websocket" ? ("forks" as const) : ("threads" as const),
    include: [transport === "websocket" ? "test/**/*.test.ts" : "test/e2e/*.test.ts"],
    exclude: excluded(transport)
  }
})

export default defineConfig({
  plugins: [bundledWorker()],
  test: {
    projects: transports.map(project),
    runner: "./test/support/runner.ts",
    sequence: { sequencer: LongestFirst },
    // What a runtime logs is of interest when a test fails.
    silent: "passed-only",
    reporters: ["default", "./test/support/Conformance.ts"],
    // The build, as a user's program would load it.
    server: { deps: { external: [/\/dist\//] } },
    // Files wait for processes and stores for a third of their time; many more at once only make all of them late. As few as
    // many: a worker that is idle would be ended, and ended again when its project is done, which fails the run.
    maxWorkers: 4,
    minWorkers: 4,
    // Nothing here is module state of another file; loading the modules anew for each costs a third of the run.
    isolate: false,
    env: scratch,
    globalSetup: "./test/support/scratch.ts",
    testTimeout: 300_000,
    hookTimeout: 300_000
  }
})
