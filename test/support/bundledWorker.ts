import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import type { ViteUserConfig } from "vitest/config"
import { bundled } from "./bundled.js"

const store = fileURLToPath(new URL("../../src/layers/store/", import.meta.url))

/**
 * Has the source start the worker that is bundled of it, as the build starts that of `dist`: Node cannot load TypeScript for the
 * thread that writes to SQLite files.
 */
export const bundledWorker = (): NonNullable<ViteUserConfig["plugins"]>[number] => ({
  name: "bundled-worker",
  enforce: "pre",
  async transform(code, id) {
    if (id !== join(store, "sqliteWorkerStart.ts")) return undefined
    const place = '"../../sqlite-worker.js"'
    if (!code.includes(place)) throw new Error(`${id} does not name the worker as ${place}`)
    const worker = await bundled(join(store, "sqliteWorker.ts"))
    return code.replace(place, JSON.stringify(pathToFileURL(worker).href))
  }
})
