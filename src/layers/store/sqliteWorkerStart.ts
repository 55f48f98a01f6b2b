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

/** Where one is kept that was begun: who begins it is not always of the same copy of this package as who takes it. */
const place: { [name: symbol]: unknown } = globalThis
const begun = Symbol.for("effect-arcp/sqlite-worker")

/** Begins a thread for whoever opens the first file, and returns it. Where there can be none, they find out. */
export const begin = (): Worker | undefined => {
  try {
    const worker = started(workerFile())
    place[begun] = worker
    worker.unref()
    // Until somebody has taken it nobody hears what becomes of it, which would end the process.
    worker.on("error", () => {})
    worker.once("exit", () => {
      if (place[begun] === worker) place[begun] = undefined
    })
    return worker
  } catch {
    return undefined
  }
}

/** Returns the thread that was begun, or starts one; of a `file` that is named always. Throws when there can be none. */
export const take = (file?: URL): Worker => {
  const worker = place[begun]
  if (file !== undefined || !(worker instanceof Worker)) return started(file ?? workerFile())
  place[begun] = undefined
  return worker
}
