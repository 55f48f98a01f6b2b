import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Many tests start processes; more files at once than cores only makes all of them late.
    maxWorkers: 2,
    minWorkers: 1,
    // Nothing here is module state of another file; loading the modules anew for each costs a third of the run.
    isolate: false,
    testTimeout: 60_000,
    hookTimeout: 60_000
  }
})
