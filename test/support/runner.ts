/** Runs each test as vitest does, with the test itself at hand in everything it calls: see currentTest.ts. */
import type { Test } from "@vitest/runner"
import { inject } from "vitest"
import { VitestTestRunner } from "vitest/runners"
import { getFn } from "vitest/suite"
import { type CurrentTest, storage, type Verified } from "./currentTest.js"

declare module "vitest" {
  interface ProvidedContext {
    /** What the black-box suite speaks over in this run. */
    transport: CurrentTest["transport"]
  }
  interface TaskMeta {
    /** What the test says it verifies, once it has run. */
    verified?: ReadonlyArray<Verified>
  }
}

export default class Runner extends VitestTestRunner {
  async runTask(test: Test): Promise<void> {
    const verified: Array<Verified> = []
    const current: CurrentTest = {
      key: test,
      transport: inject("transport"),
      skip: (reason) => test.context.skip(reason),
      verified
    }
    await storage.run(current, () => getFn(test)())
    // Only a test that came this far has verified anything.
    if (verified.length > 0) Object.assign(test.meta, { verified })
  }
}
