/** The test that is running, also where tests run concurrently and after any number of awaits. */
import { AsyncLocalStorage } from "node:async_hooks"
import type { Transport } from "../e2e/transports.js"

/** What a test leaves for the reporter: the requirements it says it verifies, and over which transport. */
export interface Verified {
  readonly id: string
  readonly transport: Transport
}

export interface CurrentTest {
  /** Distinguishes the tests of a file. */
  readonly key: object
  /** The transport that the suite speaks over in this run. */
  readonly transport: Transport
  /** Ends the test as skipped, for `reason`, which the run prints. */
  readonly skip: (reason: string) => never
  readonly verified: Array<Verified>
}

/** The runner and the tests load this module apart: what they share is kept with the process. */
const kept = globalThis as { [key: symbol]: AsyncLocalStorage<CurrentTest> | undefined }
const name = Symbol.for("effect-arcp/test/currentTest")

export const storage = kept[name] ?? new AsyncLocalStorage()
kept[name] = storage

/** The test that is running; nothing in hooks and outside of tests. */
export const currentTest = (): CurrentTest | undefined => storage.getStore()

/** Ends the running test as skipped, because the transport of this run does not carry it. */
export const beyond = (reason: string): never => {
  const test = currentTest()
  if (test === undefined) throw new Error(reason)
  return test.skip(reason)
}
