import { defineConfig } from "vitest/config"
import { files, type Transport, transports } from "./test/e2e/transports.js"
import { bundledWorker } from "./test/support/bundledWorker.js"

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
    // In memory the tests wait rather than work: they run beside the others, in a pool of their own.
    pool: transport === "memory" ? ("threads" as const) : ("forks" as const),
    include: [transport === "websocket" ? "test/**/*.test.ts" : "test/e2e/*.test.ts"],
    exclude: excluded(transport)
  }
})

export default defineConfig({
  plugins: [bundledWorker()],
  test: {
    projects: transports.map(project),
    runner: "./test/support/runner.ts",
    // What a runtime logs is of interest when a test fails.
    silent: "passed-only",
    reporters: ["default", "./test/support/Conformance.ts"],
    // The build, as a user's program would load it.
    server: { deps: { external: [/\/dist\//] } },
    // Many tests start processes; more files at once than cores only makes all of them late.
    maxWorkers: 2,
    minWorkers: 1,
    // Nothing here is module state of another file; loading the modules anew for each costs a third of the run.
    isolate: false,
    // The programs that tests start keep nothing in the home of who runs them.
    env: { NODE_DISABLE_COMPILE_CACHE: "1" },
    testTimeout: 120_000,
    hookTimeout: 120_000
  }
})
