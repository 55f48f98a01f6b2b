/** Which process holds the lock on a file, where the operating system says so. */
import * as fs from "node:fs"

/** The device and the file as Linux lists them: `fe:00:3034263`, the numbers of the device in hex. */
const listedAs = ({ dev, ino }: fs.Stats): string => {
  const major = (dev >>> 8) & 0xfff
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00)
  return `${[major, minor].map((part) => part.toString(16).padStart(2, "0")).join(":")}:${ino}`
}

/**
 * Returns the id of the process that has locked `path` for writing, by `/proc/locks`; `undefined` on other systems, of a
 * process in another container, and on file systems with device numbers of their own: it does not say that nobody has. The file is not opened: closing it would give up locks that this process has on it.
 */
export const lockHolder = (path: string): number | undefined => {
  try {
    const file = listedAs(fs.statSync(path))
    for (const line of fs.readFileSync("/proc/locks", "utf8").split("\n")) {
      const [, , , access, pid, listed] = line.split(/\s+/)
      if (access === "WRITE" && listed === file && Number(pid) > 0) return Number(pid)
    }
  } catch {
    // No such list here.
  }
  return undefined
}
