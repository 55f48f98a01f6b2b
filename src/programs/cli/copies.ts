/**
 * Which copy of Effect and of this package a module of the user's gets. The build puts both whole into few files
 * (`../shared`), where whatever can be imported of them has a file of its own. A module that imports `effect/Effect` is
 * answered, by a hook in Node's module loader, with that file in place of the one in `node_modules`: the same code, and the
 * same copy as the server runs on.
 */
import { readFileSync, realpathSync } from "node:fs"
import * as NodeModule from "node:module"
import { dirname, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { type Copies, type Resolve, resolveIn } from "./copyHooks.js"
import { packageFile } from "./packageFile.js"

const shared = new URL("../shared/", import.meta.url)

/** What later Nodes have: hooks in the thread that imports, which are not declared for the oldest that is supported. */
const node: typeof NodeModule & {
  readonly registerHooks?: (hooks: { readonly resolve: Resolve }) => void
} = NodeModule

const read = (file: string | URL): unknown => JSON.parse(readFileSync(file, "utf8"))

/** The package as a module finds it: its file, or none. */
const found = (name: string, from: string | URL): string | undefined => {
  try {
    return NodeModule.createRequire(from).resolve(`${name}/package.json`)
  } catch {
    return undefined
  }
}

const real = (path: string): string => {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

/**
 * Returns the folders of the packages that modules of the user's would import and that are those inside, or `undefined` when
 * one of them has another version: a copy that half of a program runs on is worse than a slow start.
 */
const copiesFor = (modules: ReadonlyArray<string>): Copies | undefined => {
  const inside = Object.entries(read(new URL("packages.json", shared)) as Record<string, string>)
  const folders = new Map<string, string>()
  for (const from of [packageFile("package.json"), ...modules.map((module) => real(resolve(module)))])
    for (const [name, version] of inside) {
      const file = found(name, from)
      if (file === undefined) continue
      if ((read(file) as { readonly version?: unknown }).version !== version) return undefined
      folders.set(`${pathToFileURL(dirname(file)).href}/`, new URL(`${name}/`, shared).href)
    }
  // The innermost folder first: that of a package is within that of the one it is installed for.
  return [...folders].sort(([a], [b]) => b.length - a.length)
}

/**
 * Returns where a command that loads these modules is to be loaded from: the shared copies, once imports are answered with
 * them; or else what was compiled, which imports from `node_modules` as the modules do.
 */
export const startFor = (modules: ReadonlyArray<string>): URL => {
  const copies = copiesFor(modules)
  if (copies === undefined) return new URL("../cli/start.js", import.meta.url)
  if (node.registerHooks === undefined)
    node.register(new URL("../cli/copyHooks.js", import.meta.url), { data: copies })
  else node.registerHooks({ resolve: resolveIn(copies) })
  return new URL("start.js", shared)
}
