/**
 * Hooks of Node's module loader with which a module of the user's is loaded anew, and with it what it imports of the same
 * project: each load has a number in the addresses of its files. Packages stay what they were, so that there is one of each.
 * TypeScript that Node itself does not read goes through esbuild, where the project has it.
 */
import { createRequire } from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"
import type { MessagePort } from "node:worker_threads"

const parameter = "arcp-load"

/** Returns the address of a file, as the `load`-th time that it is loaded. */
export const addressOf = (file: string, load: number): string => {
  const url = pathToFileURL(file)
  url.searchParams.set(parameter, String(load))
  return url.href
}

interface Resolved {
  readonly url: string
}
interface Context {
  readonly parentURL?: string | undefined
}

const packages = /\/node_modules\/|\/dist\/(?:programs|layers|services|protocol|public|promise|testing)\//

const loadOf = (address: string | undefined): string | undefined =>
  address?.startsWith("file:") ? (new URL(address).searchParams.get(parameter) ?? undefined) : undefined

/** Gives what is imported the number of what imports it, unless it is of a package. */
const numbered = <R extends Resolved>(resolved: R, parent: string | undefined): R => {
  const load = loadOf(parent)
  if (load === undefined || !resolved.url.startsWith("file:") || packages.test(resolved.url)) return resolved
  const url = new URL(resolved.url)
  url.searchParams.set(parameter, load)
  return { ...resolved, url: url.href, shortCircuit: true }
}

/** A file that was loaded, or that was to be and is not there. */
export interface SeenFile {
  readonly file: string
  /** Epoch ms before it was read. */
  readonly at: number
  readonly isMissing: boolean
}

/** Says which files were loaded. */
export type Seen = (seen: SeenFile) => void

const told = <R extends Resolved>(resolved: R, seen: Seen): R => {
  if (loadOf(resolved.url) !== undefined)
    seen({ file: fileURLToPath(new URL(resolved.url)), at: Date.now(), isMissing: false })
  return resolved
}

/** What of esbuild is used. */
interface Esbuild {
  readonly transformSync: (
    source: string,
    options: Readonly<Record<string, unknown>>
  ) => { readonly code: string }
}

/** Returns a file of TypeScript as JavaScript; fails with what to do when nothing here can read it. */
export const compiled = (file: string, source: string): string => {
  let esbuild: Esbuild
  try {
    esbuild = createRequire(file)("esbuild") as Esbuild
  } catch {
    throw new Error(
      `Node ${process.versions.node} reads no TypeScript: use Node 22.18 or later, or npm i -D esbuild in the project`
    )
  }
  try {
    return esbuild.transformSync(source, {
      loader: file.endsWith("x") ? "tsx" : "ts",
      format: "esm",
      target: `node${process.versions.node}`,
      sourcefile: file,
      sourcemap: "inline"
    }).code
  } catch (error) {
    // Its first line says that there is an error, the second where, and which.
    const [first, where = first] = error instanceof Error ? error.message.split("\n") : [String(error)]
    throw new SyntaxError(where)
  }
}

/** Whether Node reads TypeScript by itself. */
export const readsTypeScript = "typescript" in process.features && Boolean(process.features.typescript)

/** Whether a file has to be compiled before Node can read it. */
export const needsCompiling = (address: string): boolean =>
  loadOf(address) !== undefined && /\.[mc]?tsx?$/.test(new URL(address).pathname) && !readsTypeScript

let port: MessagePort | undefined

/** Takes what `register` was given. */
export const initialize = (given: { readonly port?: MessagePort | undefined }): void => {
  port = given.port
}

const see: Seen = (seen) => port?.postMessage(seen)

/** The hooks for a thread of their own. */
export const resolve = async <C extends Context>(
  specifier: string,
  context: C,
  next: (specifier: string, context: C) => Promise<Resolved>
): Promise<Resolved> => {
  try {
    return told(numbered(await next(specifier, context), context.parentURL), see)
  } catch (error) {
    // What is not there yet may be written next.
    if (loadOf(context.parentURL) !== undefined && /^\.{1,2}\//.test(specifier))
      see({ file: fileURLToPath(new URL(specifier, context.parentURL)), at: Date.now(), isMissing: true })
    throw error
  }
}

interface Loaded {
  readonly format: string
  readonly source?: unknown
  readonly shortCircuit?: boolean
}

export const load = async <C>(
  address: string,
  context: C,
  next: (address: string, context: C) => Promise<Loaded>
): Promise<Loaded> => {
  if (!needsCompiling(address)) return next(address, context)
  const { readFile } = await import("node:fs/promises")
  const file = fileURLToPath(new URL(address))
  return { format: "module", source: compiled(file, await readFile(file, "utf8")), shortCircuit: true }
}
