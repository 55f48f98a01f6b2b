/** Why a module of the user's does not load, where, and what there is to do about it. */
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { basename, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { failureMessage } from "../../services/agents/Agent.js"
import { readable } from "../../services/agents/Thrown.js"

/** A place in a file, with the number of its line. */
const place = (file: string, line: string, column?: string): string => {
  const path = file.startsWith("file:") ? fileURLToPath(new URL(file.split("?")[0] ?? file)) : file
  const near = relative(".", path)
  return [near.startsWith("..") ? path : near, line, ...(column === undefined ? [] : [column])].join(":")
}

const foreign = /node:|\/node_modules\/|\/dist\/programs\//

/** Where an error says that it comes from: the line that Node puts before it, or the first frame in a file of the user's. */
const placeIn = (stack: string): string | undefined => {
  const [head = "", ...frames] = stack.split("\n")
  const before = /^(file:\S+|\/\S+):(\d+)$/.exec(head)
  if (before?.[1] !== undefined && before[2] !== undefined) return place(before[1], before[2])
  for (const frame of frames) {
    const [, file, line, column] =
      /^\s+at (?:async )?(?:.*\()?(file:[^()]+|\/[^()]+):(\d+):(\d+)\)?$/.exec(frame) ?? []
    if (file !== undefined && line !== undefined && !foreign.test(file)) return place(file, line, column)
  }
  return undefined
}

/** Files that are looked through for a mistake of which Node does not say where it is. */
const mostChecked = 20

/** Has Node look at the syntax of a file alone; returns where it is wrong. */
const placeOfSyntax = (file: string): Promise<string | undefined> =>
  new Promise((resolve) => {
    execFile(process.execPath, ["--check", file], { timeout: 5_000 }, (error, _, stderr) =>
      resolve(error === null ? undefined : placeIn(stderr))
    )
  })

/** Returns where an error comes from; `files` are those that were read, of a mistake in the syntax of one of them. */
const placeOf = async (error: Error, files: ReadonlyArray<string>): Promise<string | undefined> => {
  const said = placeIn(error.stack ?? "")
  if (said !== undefined || !(error instanceof SyntaxError)) return said
  for (const file of files.filter((name) => /\.[mc]?js$/.test(name)).slice(0, mostChecked)) {
    const found = await placeOfSyntax(file)
    if (found !== undefined) return found
  }
  return undefined
}

const hints: { readonly [code: string]: (message: string) => string | undefined } = {
  ERR_UNKNOWN_FILE_EXTENSION: () =>
    "Node reads .js, .mjs and .cjs, JSON with an attribute, and .ts from 22.18 on: compile what is something else first",
  ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX: () =>
    "Node leaves types out and compiles nothing: write it without enums, namespaces and parameter properties, or compile it first",
  ERR_MODULE_NOT_FOUND: (message) => {
    const [, name] = /^Cannot find package '([^']+)'/.exec(message) ?? []
    if (name !== undefined) return `npm i ${name}, or mend the import`
    // What TypeScript reads as the file that it was compiled from, Node does not.
    const [, stem, m = ""] = /^Cannot find module '([^']+)\.([mc])?js'/.exec(message) ?? []
    const source = `${stem}.${m}ts`
    return stem !== undefined && existsSync(source)
      ? `there is ${basename(source)}: import it by that name, which tsc takes with allowImportingTsExtensions; or compile both`
      : undefined
  }
}

/** Returns why a module does not load; `files` are those that were read for it, newest first. */
export const loadProblem = async (thrown: unknown, files: ReadonlyArray<string>): Promise<string> => {
  const cause = readable(thrown)
  if (!(cause instanceof Error)) return failureMessage(cause)
  const [first = ""] = failureMessage(cause).split("\n")
  const [message = "", importer] = first.split(" imported from ")
  // Some say in the message where they are.
  const where =
    importer === undefined
      ? message.startsWith("/")
        ? undefined
        : await placeOf(cause, files)
      : place(importer, "").replace(/:$/, "")
  const code = "code" in cause ? String(cause.code) : ""
  const hint = Object.hasOwn(hints, code) ? hints[code]?.(message) : undefined
  return `${message}${where === undefined ? "" : ` (${where})`}${hint === undefined ? "" : `\n  ${hint}`}`
}
