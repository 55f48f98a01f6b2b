/** TypeScript on a Node that does not read it. */
import * as NodeModule from "node:module"
import type { MessagePort } from "node:worker_threads"
import { codeOf } from "../../services/runtime/fileProblem.js"
import { packageFile } from "./packageFile.js"
import { readsTypeScript } from "./reloadHooks.js"

/** Whether a module was not loaded because Node reads no TypeScript. Nothing of it has run then. */
export const isUnread = (error: unknown): boolean =>
  !readsTypeScript &&
  codeOf(error) === "ERR_UNKNOWN_FILE_EXTENSION" &&
  /"\.[mc]?tsx?"/.test(error instanceof Error ? error.message : "")

/** Installs the hooks of `reloadHooks.ts`, for good: Node keeps them as long as the process. `port` is told what is read. */
export const installHooks = (port?: MessagePort): void => {
  // Where Node leaves the compiling to another, an error is to say where it is in what was written.
  if (!readsTypeScript) process.setSourceMapsEnabled(true)
  NodeModule.register(packageFile("dist/programs/cli/reloadHooks.js"), {
    data: { port },
    transferList: port === undefined ? [] : [port]
  })
}

let installed = false

/** Has what is imported by an address of `addressOf` compiled from now on. */
export const compileTypeScript = (): void => {
  if (!installed) installHooks()
  installed = true
}
