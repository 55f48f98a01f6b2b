/** Where tests put what they make, and what the programs that they start keep. */
import { mkdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** What programs have compiled is there for the next start of them, and nothing is in the home of who runs the tests. */
const cache = join(tmpdir(), `arcp-tests-${process.pid}`)

/** The environment of tests and of what they start. */
export const scratch = { XDG_CACHE_HOME: cache }

/** Called by vitest before all tests, and after them. */
export const setup = (): void => void mkdirSync(cache, { mode: 0o700, recursive: true })
export const teardown = (): void => rmSync(cache, { recursive: true, force: true })
