/**
 * Loads the scripts of which the bundled program is made (`.ci/scripts.mjs`). They are what modules were before, with calls
 * of this in place of their imports; a script can be given what V8 compiled of it in an earlier start, on every Node, and that
 * is most of what a start costs.
 */
import { readFileSync } from "node:fs"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import { Script } from "node:vm"
import type { KeptCode } from "./keptCode.js"

type Exports = Record<string, unknown>

/** What a script is given in place of what only a module can say. */
interface Given {
  readonly load: (from: string) => Exports
  readonly later: (from: string) => Promise<Exports>
  readonly builtin: (name: string) => unknown
  readonly import: (from: string) => Promise<unknown>
  readonly meta: Pick<ImportMeta, "dirname" | "filename" | "resolve" | "url">
}

const loaded = new Map<string, Exports>()

let kept: KeptCode | undefined

/** Lets scripts be compiled from now on with what is kept of them. */
export const keepIn = (code: KeptCode): void => {
  kept = code
}

const compiled = (url: string, filename: string): Script => {
  const bytes = readFileSync(filename)
  const text = bytes.toString()
  const compile = (cachedData: Buffer | undefined) => new Script(text, { filename: url, cachedData })
  return kept === undefined ? compile(undefined) : kept.compile(url, bytes, compile)
}

const givenTo = (url: string, filename: string): Given => {
  const from = (source: string) => (source.startsWith(".") ? new URL(source, url).href : source)
  return {
    load: (source) => load(from(source)),
    later: (source) => later(from(source)),
    builtin: (name) => process.getBuiltinModule(name),
    import: (source) => import(from(source)),
    meta: {
      url,
      filename,
      dirname: dirname(filename),
      resolve: (source) => import.meta.resolve(from(source))
    }
  }
}

/** Returns what the script at this address exports, once it has run. None imports one that imports it. */
export const load = (url: string): Exports => {
  const known = loaded.get(url)
  if (known !== undefined) return known
  const exports: Exports = {}
  const filename = fileURLToPath(url)
  const run = compiled(url, filename).runInThisContext() as (given: Given, exports: Exports) => void
  run(givenTo(url, filename), exports)
  loaded.set(url, exports)
  return exports
}

/** Loads a script as `import()` does a module. */
export const later = async (url: string): Promise<Exports> => load(url)
