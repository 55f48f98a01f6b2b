/** The files below a root that `.gitignore` files leave in. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
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

/** Those that count in a directory, the deepest first. */
type Levels = ReadonlyArray<Level>

const patterns = (text: string | ReadonlyArray<string>): ignore.Ignore =>
  ignore({ ignorecase: false }).add(text)

/** Returns `path`, which is below `base`, relative to it. */
const below = (base: string, path: string): string => (base === "" ? path : path.slice(base.length + 1))

/** Says whether a path is left out: the deepest `.gitignore` with an opinion decides. */
const isIgnored = (levels: Levels, path: string): boolean => {
  for (const { base, rules } of levels) {
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

/** What to survey. */
export interface WalkOptions {
  readonly root: string
  /** Patterns in `.gitignore` syntax, of which a file must match one. */
  readonly include?: ReadonlyArray<string> | undefined
  readonly maxFiles: number
}

/** A tree, by its paths below the root. */
interface Tree {
  readonly fs: FileSystem.FileSystem
  readonly absolute: (path: string) => string
  readonly include: ignore.Ignore | undefined
}

/** A directory that is to be read. */
interface Pending {
  readonly path: string
  readonly levels: Levels
}

/** A directory that was read. */
interface Listed {
  readonly levels: Levels
  readonly entries: ReadonlyArray<Entry>
  /** Its `.gitignore` could not be read. */
  readonly incomplete: boolean
}

/** Fails unless the root is a directory that can be read. */
const checkRoot = (fs: FileSystem.FileSystem, given: string, root: string) =>
  Effect.gen(function* () {
    const fail = (problem: string) =>
      new SurveyRootError({ root: given, message: `the root ${given} ${problem}` })
    const info = yield* Effect.mapError(fs.stat(root), (error) =>
      leaseErrorOf(error) !== undefined
        ? refused(root)
        : fail(
            error._tag === "SystemError" && error.reason === "NotFound" ? "does not exist" : "cannot be read"
          )
    )
    if (info.type !== "Directory") return yield* fail("is not a directory")
    yield* Effect.mapError(fs.readDirectory(root), () => fail("cannot be read"))
  })

/** Returns what a path is, for the survey. */
const inspect = ({ absolute, fs, include }: Tree, levels: Levels, path: string): Effect.Effect<Entry> =>
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

/** Reads a directory, and the rules that its own `.gitignore` adds; nothing when it cannot be read. */
const listDirectory = (tree: Tree, { levels: outer, path }: Pending): Effect.Effect<Option.Option<Listed>> =>
  Effect.gen(function* () {
    const { absolute, fs } = tree
    const names = yield* Effect.option(fs.readDirectory(absolute(path)))
    if (Option.isNone(names)) return Option.none()
    const at = path === "" ? "" : `${path}/`
    let levels = outer
    let incomplete = false
    if (names.value.includes(".gitignore")) {
      const text = yield* Effect.option(fs.readFileString(absolute(`${at}.gitignore`)))
      if (Option.isSome(text)) levels = [{ base: path, rules: patterns(text.value) }, ...outer]
      else incomplete = true
    }
    const entries = yield* Effect.forEach(
      names.value.filter((name) => name !== ".git").sort(),
      (name) => inspect(tree, levels, at + name),
      { concurrency }
    )
    return Option.some({ levels, entries, incomplete })
  })

/** Returns the rules that count below a directory that they leave in. */
const levelsBelow = (levels: Levels, path: string): Levels =>
  // A level that would ignore the directory was overruled, and its patterns match all that is below.
  levels.filter(({ base, rules }) => !rules.ignores(`${below(base, path)}/`))

/** What is left out where no `.gitignore` says otherwise: what was installed, which is nobody's own. */
const usual = { base: "", rules: patterns("node_modules/") }

/**
 * Walks the tree. Symbolic links are not followed, `.git` is skipped, and so is `node_modules` unless a `.gitignore` wants it;
 * nested `.gitignore` files count.
 */
export const walk = (
  options: WalkOptions
): Effect.Effect<Walked, SurveyRootError | PermissionDenied, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const root = (yield* Path.Path).resolve(options.root)
    yield* checkRoot(fs, options.root, root)
    const tree: Tree = {
      fs,
      absolute: (path) => (path === "" ? root : `${root}/${path}`),
      include: options.include === undefined ? undefined : patterns(options.include)
    }

    const files: Array<Found> = []
    let failures = 0
    let truncated = false
    const pending: Array<Pending> = [{ path: "", levels: [usual] }]
    for (let directory = pending.pop(); directory !== undefined && !truncated; directory = pending.pop()) {
      const listed = yield* listDirectory(tree, directory)
      if (Option.isNone(listed)) {
        failures++
        continue
      }
      const { entries, incomplete, levels } = listed.value
      if (incomplete) failures++
      const directories: Array<Pending> = []
      for (const entry of entries) {
        if (entry._tag === "Unreadable") failures++
        else if (entry._tag === "Directory")
          directories.push({ path: entry.path, levels: levelsBelow(levels, entry.path) })
        else if (entry._tag === "File") {
          if (files.length >= options.maxFiles) {
            truncated = true
            break
          }
          files.push({ path: entry.path, size: entry.size })
        }
      }
      for (const directory of directories.reverse()) pending.push(directory)
    }
    return { root, files, truncated, unreadable: failures }
  })
