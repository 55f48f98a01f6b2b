/**
 * Files and folders that nobody but their owner may read or hold (0600 and 0700). What a job was given and what it
 * found is in them, and whoever can open a lock file can hold it.
 *
 * What exists is changed by its name, never by opening it: closing a file gives up the locks that this process has on
 * it. Where there are no such permissions (Windows), nothing happens.
 */
import * as fs from "node:fs"
import * as nodePath from "node:path"
import { codeOf } from "../../services/runtime/fileProblem.js"

/** The folder that `arcp` makes in a working directory; one of this name is for nothing else. */
const ownFolder = ".arcp"

/** The permissions of everybody but the owner. */
const others = 0o077

/** Takes the permissions of others from what belongs to this user; what is somebody else's, and links, stay as they are. */
const tighten = (path: string): void => {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined || stat.isSymbolicLink() || stat.uid !== process.geteuid?.()) return
  if ((stat.mode & others) !== 0) fs.chmodSync(path, stat.mode & 0o777 & ~others)
}

/** Creates a folder and those above it. One that exists keeps its permissions, unless it is `.arcp`. */
export const ensureFolder = (folder: string): void => {
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (nodePath.basename(folder) === ownFolder) tighten(folder)
}

/** Creates an empty file; one that exists, and what SQLite keeps beside it, is taken from others when it is ours. */
export const ensureFile = (path: string): void => {
  try {
    fs.closeSync(fs.openSync(path, "wx", 0o600))
  } catch (cause) {
    if (codeOf(cause) !== "EEXIST") throw cause
    for (const suffix of ["", "-wal", "-shm", "-journal"]) tighten(path + suffix)
  }
}
