import { createHash } from "node:crypto"
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const cache = fileURLToPath(new URL("../../node_modules/.cache/bundled/", import.meta.url))

/** Bundles a module that Node runs by itself, but for the driver of SQLite, which is no JavaScript; returns where it is. */
export const bundled = async (entry: string): Promise<string> => {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    platform: "node",
    format: "esm",
    external: ["@photostructure/sqlite"],
    // What is CommonJS in a bundle asks for the modules of Node by this.
    banner: {
      js: 'import { createRequire as requireOf } from "node:module"\nconst require = requireOf(import.meta.url)'
    },
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
