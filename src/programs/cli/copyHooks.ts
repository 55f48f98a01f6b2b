/** The hook that answers imports with the files of `copies.ts`. Before Node 22.15 it runs in a thread of its own. */
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

/** Folders of packages, the innermost first, and where what can be imported of them is in place of that. */
export type Copies = ReadonlyArray<readonly [folder: string, inside: string]>

interface Resolved {
  readonly url: string
}

export type Resolve = <R extends Resolved, C>(
  specifier: string,
  context: C,
  next: (specifier: string, context: C) => R
) => R

const answer = <R extends Resolved>(copies: Copies, resolved: R): R => {
  const copy = copies.find(([folder]) => resolved.url.startsWith(folder))
  if (copy === undefined) return resolved
  const url = new URL(resolved.url.slice(copy[0].length), copy[1])
  return existsSync(fileURLToPath(url)) ? { ...resolved, url: url.href, shortCircuit: true } : resolved
}

/** Returns the hook for the thread that imports. */
export const resolveIn =
  (copies: Copies): Resolve =>
  (specifier, context, next) =>
    answer(copies, next(specifier, context))

let given: Copies = []

/** Takes what `register` was given. */
export const initialize = (copies: Copies): void => {
  given = copies
}

/** The hook for a thread of its own. */
export const resolve = async <C>(
  specifier: string,
  context: C,
  next: (specifier: string, context: C) => Promise<Resolved>
): Promise<Resolved> => answer(given, await next(specifier, context))
