/** The files below a root that `.gitignore` files leave in. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import ignore from "ignore"
import { PermissionDenied } from "../../../protocol/Errors.js"
import { leaseErrorOf } from "../../../services/lease/Lease.js"

/** The root cannot be surveyed. */
export class SurveyRootError extends Schema.TaggedError<SurveyRootError>()("SurveyRootError", {
  root: Schema.String,
  message: Schema.String
}) {}

export interface Found {
  /** Below the root, with `/`. */
  readonly path: string
  readonly size: number
}

export interface Walked {
  /** The root, absolute. */
  readonly root: string
  /** In order of path, directory by directory. */
  readonly files: ReadonlyArray<Found>
  /** `maxFiles` was reached. */
  readonly truncated: boolean
  /** Directories and files that could not be read. */
  readonly unreadable: number
}

/** The rules of one `.gitignore`; paths are matched below its directory. */
interface Level {
  readonly base: string
  readonly rules: ignore.Ignore
}

const patterns = (text: string | ReadonlyArray<string>): ignore.Ignore =>
  ignore({ ignorecase: false }).add(text)

/** `path`, which is below `base`, relative to it. */
const below = (base: string, path: string): string => (base === "" ? path : path.slice(base.length + 1))

/** The deepest `.gitignore` with an opinion decides. */
const isIgnored = (levels: ReadonlyArray<Level>, path: string): boolean => {
  for (let i = levels.length - 1; i >= 0; i--) {
    const { base, rules } = levels[i] as Level
    const verdict = rules.test(below(base, path))
    if (verdict.ignored || verdict.unignored) return verdict.ignored
  }
  return false
}

const concurrency = 16

const refused = (root: string) =>
  new PermissionDenied({
    message: `the lease does not let this job read ${root}; submit it with the lease fs.read=${root}/**`
  })

type Entry =
  | { readonly _tag: "File"; readonly path: string; readonly size: number }
  | { readonly _tag: "Directory"; readonly path: string }
  | { readonly _tag: "Skipped" | "Unreadable" }

const skipped: Entry = { _tag: "Skipped" }
const unreadable: Entry = { _tag: "Unreadable" }

/**
 * Walks the tree. Symbolic links are not followed, `.git` is skipped, nested `.gitignore` files count.
 * `include`: patterns in `.gitignore` syntax, of which a file must match one.
 */
export const walk = (options: {
  readonly root: string
  readonly include?: ReadonlyArray<string> | undefined
  readonly maxFiles: number
}): Effect.Effect<Walked, SurveyRootError | PermissionDenied, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const root = (yield* Path.Path).resolve(options.root)
    const absolute = (path: string) => (path === "" ? root : `${root}/${path}`)
    const fail = (problem: string) =>
      new SurveyRootError({ root: options.root, message: `the root ${options.root} ${problem}` })

    const info = yield* Effect.mapError(fs.stat(root), (error) =>
      leaseErrorOf(error) !== undefined
        ? refused(root)
        : fail(
            error._tag === "SystemError" && error.reason === "NotFound" ? "does not exist" : "cannot be read"
          )
    )
    if (info.type !== "Directory") return yield* fail("is not a directory")
    yield* Effect.mapError(fs.readDirectory(root), () => fail("cannot be read"))

    const include = options.include === undefined ? undefined : patterns(options.include)

    const inspect = (levels: ReadonlyArray<Level>, path: string): Effect.Effect<Entry> =>
      Effect.gen(function* () {
        const isLink = yield* Effect.isSuccess(fs.readLink(absolute(path)))
        if (isLink) return skipped
        const info = yield* fs.stat(absolute(path))
        if (info.type === "Directory")
          return isIgnored(levels, `${path}/`) ? skipped : ({ _tag: "Directory", path } as const)
        if (info.type !== "File" || isIgnored(levels, path)) return skipped
        if (include !== undefined && !include.ignores(path)) return skipped
        return { _tag: "File", path, size: Number(info.size) } as const
      }).pipe(Effect.orElseSucceed(() => unreadable))

    const files: Array<Found> = []
    let failures = 0
    let truncated = false
    const pending: Array<{ readonly path: string; readonly levels: ReadonlyArray<Level> }> = [
      { path: "", levels: [] }
    ]
    for (let directory = pending.pop(); directory !== undefined && !truncated; directory = pending.pop()) {
      const { path, levels: outer } = directory
      const names = yield* Effect.option(fs.readDirectory(absolute(path)))
      if (names._tag === "None") {
        failures++
        continue
      }
      const at = path === "" ? "" : `${path}/`
      let levels = outer
      if (names.value.includes(".gitignore")) {
        const text = yield* Effect.option(fs.readFileString(absolute(`${at}.gitignore`)))
        if (text._tag === "Some") levels = [...outer, { base: path, rules: patterns(text.value) }]
        else failures++
      }
      const entries = yield* Effect.forEach(
        names.value.filter((name) => name !== ".git").sort(),
        (name) => inspect(levels, at + name),
        { concurrency }
      )
      const directories: typeof pending = []
      for (const entry of entries) {
        if (entry._tag === "Unreadable") failures++
        else if (entry._tag === "Directory")
          // A level that would ignore the directory was overruled, and its patterns match all that is below.
          directories.push({
            path: entry.path,
            levels: levels.filter(({ base, rules }) => !rules.ignores(`${below(base, entry.path)}/`))
          })
        else if (entry._tag === "File") {
          if (files.length >= options.maxFiles) {
            truncated = true
            break
          }
          files.push({ path: entry.path, size: entry.size })
        }
      }
      pending.push(...directories.reverse())
    }
    return { root, files, truncated, unreadable: failures }
  })
