import { createHash } from "node:crypto"
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { build } from "esbuild"
import type { ViteUserConfig } from "vitest/config"

const store = fileURLToPath(new URL("../../src/layers/store/", import.meta.url))
const cache = fileURLToPath(new URL("../../node_modules/.cache/sqlite-worker/", import.meta.url))

/** Bundles the thread that writes to SQLite files, which Node cannot load as TypeScript; returns where it is. */
const bundled = async (): Promise<string> => {
  const { outputFiles } = await build({
    entryPoints: [join(store, "sqliteWorker.ts")],
    bundle: true,
    platform: "node",
    format: "esm",
    external: ["@photostructure/sqlite"],
    sourcemap: "inline",
    write: false
  })
  const contents = outputFiles[0]?.contents
  if (contents === undefined) throw new Error("nothing was bundled")
  const file = join(cache, `${createHash("sha256").update(contents).digest("hex").slice(0, 16)}.mjs`)
  if (!existsSync(file)) {
    mkdirSync(cache, { recursive: true })
    // Other runs may be about to do the same.
    const own = `${file}.${process.pid}`
    writeFileSync(own, contents)
    renameSync(own, file)
  }
  return file
}

/** Has the source start the worker that is bundled of it, as the build starts that of `dist`. */
export const bundledWorker = (): NonNullable<ViteUserConfig["plugins"]>[number] => ({
  name: "bundled-worker",
  enforce: "pre",
  async transform(code, id) {
    if (id !== join(store, "sqliteWorkerStart.ts")) return undefined
    const place = '"../../sqlite-worker.js"'
    if (!code.includes(place)) throw new Error(`${id} does not name the worker as ${place}`)
    return code.replace(place, JSON.stringify(pathToFileURL(await bundled()).href))
  }
})
