/**
 * What is compiled of the program is kept for the next start; of modules of the user's too, by Node itself, from 22.1 on. Who can
 * write what is kept decides what runs, so it is in a folder of this user's alone, and never in one for temporary files.
 */
import { lstatSync, mkdirSync, type Stats, statSync } from "node:fs"
import * as NodeModule from "node:module"
import { homedir } from "node:os"
import { dirname, isAbsolute, join } from "node:path"
import * as zlib from "node:zlib"
import { KeptCode } from "./keptCode.js"

/** Not declared for the oldest Node that is supported. */
const node: typeof NodeModule & { readonly enableCompileCache?: (folder: string) => unknown } = NodeModule

/** The permission to write, of everybody but the owner. */
const writableByOthers = 0o022

/** That what is in a folder is its owner's to move, whoever may write to it. */
const sticky = 0o1000

const isClosed = ({ mode }: Stats): boolean => (mode & writableByOthers) === 0

const belongsTo = (user: number, folder: string): boolean => {
  const stat = lstatSync(folder)
  return stat.isDirectory() && stat.uid === user && isClosed(stat)
}

/** Whether nobody else could put another folder in the place of one of this user's in here, once that was looked at. */
const keepsInPlace = (user: number, folder: string): boolean => {
  const stat = statSync(folder)
  return [user, 0].includes(stat.uid) && (isClosed(stat) || (stat.mode & sticky) !== 0)
}

/** Returns the folder, made when there is none; `undefined` where it would not be this user's alone. */
const privateFolder = (env: NodeJS.ProcessEnv, user: number): string | undefined => {
  const xdg = env["XDG_CACHE_HOME"]
  const home = homedir()
  const given = xdg !== undefined && isAbsolute(xdg)
  // Of `sudo` that keeps HOME the home is somebody else's, who could not remove what is made there.
  if (!given && !belongsTo(user, home)) return undefined
  const folder = join(given ? xdg : join(home, ".cache"), "effect-arcp")
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return belongsTo(user, folder) && keepsInPlace(user, dirname(folder)) ? folder : undefined
}

/**
 * Returns what is kept of a command of this installation, and lets Node keep what it compiles from here on. Nothing depends on
 * it: where that is impossible every start compiles.
 */
export const keptOf = (command: string, env: NodeJS.ProcessEnv): KeptCode | undefined => {
  const user = process.geteuid?.()
  if (user === undefined || env["NODE_DISABLE_COMPILE_CACHE"] !== undefined) return undefined
  try {
    const folder = privateFolder(env, user)
    if (folder === undefined) return undefined
    // Of that Node takes care itself.
    if (env["NODE_COMPILE_CACHE"] === undefined) node.enableCompileCache?.(folder)
    return new KeptCode(folder, `${command}-${zlib.crc32(new URL(".", import.meta.url).href).toString(16)}`)
  } catch {
    // No home, or one that cannot be written to.
    return undefined
  }
}
