/**
 * Starts the thread that writes to a SQLite file. Node takes as long for it as a runtime for being loaded, so a program that will
 * need one begins it first, without Effect or anything else, and whoever opens the file takes it.
 */
import * as fs from "node:fs"
import { Worker } from "node:worker_threads"

/** The name under which the package has the worker's file, for what was bundled and lies elsewhere. */
const exported = "effect-arcp/sqlite-worker"

/** Returns the worker's file: where it is in the package, or where the package is found from here. */
export const workerFile = (): URL => {
  try {
    const inPackage = new URL("../../sqlite-worker.js", import.meta.url)
    return fs.existsSync(inPackage) ? inPackage : new URL(import.meta.resolve(exported))
  } catch {
    throw new Error(`${exported} is not found from here; say where its file is, as option worker`)
  }
}

const started = (file: URL): Worker =>
  // What was given to the process to load modules with is not for this one.
  new Worker(file, { execArgv: [], name: "arcp store" })

/** One that was begun, and of which file. */
interface Begun {
  readonly worker: Worker
  readonly href: string
}

/**
 * Where it is kept: who begins it is not always of the same bundle as who takes it. It is of the same file, so of the same version:
 * two of them may be in one process.
 */
const begun = Symbol.for("effect-arcp/sqlite-worker")
const place = globalThis as { [begun]?: Begun | undefined }

/** Begins a thread for whoever opens the first file, and returns it. Where there can be none, they find out. */
export const begin = (): Worker | undefined => {
  try {
    const file = workerFile()
    const worker = started(file)
    place[begun] = { worker, href: file.href }
    worker.unref()
    // Until somebody has taken it nobody hears what becomes of it, which would end the process.
    worker.on("error", () => {})
    worker.once("exit", () => {
      if (place[begun]?.worker === worker) place[begun] = undefined
    })
    return worker
  } catch {
    return undefined
  }
}

/** Returns the thread of this file that was begun, or starts one. Throws when there can be none. */
export const take = (file = workerFile()): Worker => {
  const found = place[begun]
  if (found?.href !== file.href) return started(file)
  place[begun] = undefined
  return found.worker
}
