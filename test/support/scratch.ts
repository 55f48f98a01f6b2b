/** Where tests put what they make, and what the programs that they start keep. */
import { accessSync, constants, mkdirSync, readFileSync, rmSync, statfsSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const inMemory = "/dev/shm"
/** All files of a run fit into a fraction of it; a container's 64 MiB would not do. */
const enough = 4 * 1024 ** 3

/** Whether programs may be started there: tests write some. */
const runsPrograms = () =>
  readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "))
    .every(([, folder, , options]) => folder !== inMemory || !options?.split(",").includes("noexec"))

/**
 * Returns a folder whose files are in memory, where there is one with room; `undefined` elsewhere. Tests open stores by the
 * thousand, and each sync of a disk takes milliseconds in which nobody does anything. What a sync is for, a power cut, no test can try.
 */
const memoryFolder = (): string | undefined => {
  try {
    accessSync(inMemory, constants.W_OK)
    const { bavail, bsize } = statfsSync(inMemory)
    return bavail * bsize >= enough && runsPrograms() ? inMemory : undefined
  } catch {
    return undefined
  }
}

/** `TMPDIR` of whoever starts the tests goes before. */
const temporary = process.env["TMPDIR"] ?? memoryFolder() ?? tmpdir()

/** What programs have compiled is there for the next start of them, and nothing is in the home of who runs the tests. */
const cache = join(temporary, `arcp-tests-${process.pid}`)

/** The environment of tests and of what they start. */
export const scratch = { TMPDIR: temporary, XDG_CACHE_HOME: cache }

/** Called by vitest before all tests, and after them. */
export const setup = (): void => void mkdirSync(cache, { mode: 0o700, recursive: true })
export const teardown = (): void => rmSync(cache, { recursive: true, force: true })
