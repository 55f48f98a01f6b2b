/** TypeScript on a Node that does not read it. */
import * as NodeModule from "node:module"
import type { MessagePort } from "node:worker_threads"
import { packageFile } from "./packageFile.js"
import { addressOf, readsTypeScript } from "./reloadHooks.js"

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

/**
 * Returns the address by which a file is imported that was not because of `error`: that some file of it has an extension that
 * Node does not read. Whether anything of it has run is for the caller to know. Throws that where it is not about TypeScript.
 */
export const compiledAddress = (file: string, error: unknown): string => {
  if (readsTypeScript || !(error instanceof Error && /"\.[mc]?tsx?"/.test(error.message))) throw error
  if (!installed) installHooks()
  installed = true
  return addressOf(file, 0)
}
