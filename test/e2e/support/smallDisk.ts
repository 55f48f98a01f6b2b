import { execFileSync } from "node:child_process"

/** Mounts a file system of `mebibytes` on a directory; gives why there is none, where that may not be done. */
export const smallDisk = (directory: string, mebibytes = 6): string | undefined => {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${mebibytes}m`, "tmpfs", directory], { stdio: "pipe" })
    return undefined
  } catch (error) {
    return String((error as { stderr?: Buffer }).stderr ?? error).trim()
  }
}
