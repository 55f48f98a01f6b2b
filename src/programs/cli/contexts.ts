/**
 * Runtimes under names, in a file of the user's: where each is, and how its token is come by. The file may hold more than
 * what is known here; that stays when it is written.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { isRecord, parseJson } from "../../protocol/Json.js"
import { didYouMean } from "../../protocol/suggest.js"
import type { Surroundings } from "./Command.js"
import { writePrivately } from "./privateFile.js"
import { UsageError } from "./UsageError.js"

/** A runtime, as it is kept under a name. At most one of the three says how its token is come by. */
export interface Context {
  readonly url: string
  readonly insecure?: boolean
  readonly token?: string
  /** Run by the shell; what it prints is the token. */
  readonly tokenCommand?: string
  readonly tokenFile?: string
}

export interface Contexts {
  /** The one in use. */
  readonly current: string | undefined
  readonly all: ReadonlyMap<string, Context>
}

/** The file of contexts cannot be read or written; exit code 1. */
export class ContextsError extends Data.TaggedError("ContextsError")<{ readonly message: string }> {}

export const nameRule =
  "a name is letters, digits, dots, dashes and underscores, at most 64, and begins with a letter or digit"
export const isName = (name: string): boolean => /^[A-Za-z0-9][\w.-]{0,63}$/.test(name)

const variable = (name: string) => Config.option(Config.nonEmptyString(name))

/** Where it is: in `$XDG_CONFIG_HOME`, or where programs keep their settings on this system. */
export const location: Effect.Effect<string, never, Path.Path> = Effect.gen(function* () {
  const path = yield* Path.Path
  const xdg = yield* variable("XDG_CONFIG_HOME")
  const home = Option.getOrElse(
    Option.firstSomeOf([yield* variable("HOME"), yield* variable("USERPROFILE")]),
    () => "."
  )
  const appData = yield* variable("APPDATA")
  const base =
    Option.isSome(xdg) && path.isAbsolute(xdg.value)
      ? xdg.value
      : process.platform === "win32" && Option.isSome(appData)
        ? appData.value
        : process.platform === "darwin"
          ? path.join(home, "Library", "Application Support")
          : path.join(home, ".config")
  return path.join(base, "arcp", "config.json")
}).pipe(Effect.orDie)

type Json = Readonly<Record<string, unknown>>
/** What is wrong with an entry, if anything is. */
const problemOf = (entry: unknown): string | undefined => {
  if (!isRecord(entry)) return "is not an object"
  if (typeof entry["url"] !== "string") return "has no url"
  for (const key of ["token", "tokenCommand", "tokenFile"])
    if (entry[key] !== undefined && typeof entry[key] !== "string") return `has a ${key} that is not a text`
  return entry["insecure"] === undefined || typeof entry["insecure"] === "boolean"
    ? undefined
    : "has an insecure that is not true or false"
}

const isContext = (entry: unknown): entry is Context => problemOf(entry) === undefined

const reasonOf = (error: PlatformError): string =>
  error._tag === "SystemError" ? (error.description ?? error.reason) : error.message

interface Raw {
  readonly file: string
  /** As it is written there. */
  readonly json: Json
  readonly contexts: Contexts
}

const read: Effect.Effect<Raw, ContextsError, Surroundings> = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const file = yield* location
  const refuse = (problem: string) =>
    new ContextsError({ message: `${file} ${problem}; correct it, or remove it and add the contexts again` })
  // Nobody named it here: of a pipe in its place every command would wait for who writes to that.
  const info = yield* Effect.option(fs.stat(file))
  if (Option.exists(info, ({ type }) => type !== "File"))
    return yield* new ContextsError({
      message: `${file} is no regular file; remove it and add the contexts again`
    })
  const text = yield* fs.readFileString(file).pipe(
    Effect.map(Option.some),
    Effect.catchIf(
      (error) => error._tag === "SystemError" && error.reason === "NotFound",
      () => Effect.succeed(Option.none<string>())
    ),
    Effect.mapError((error) => new ContextsError({ message: `${file} cannot be read: ${reasonOf(error)}` }))
  )
  if (Option.isNone(text)) return { file, json: {}, contexts: { current: undefined, all: new Map() } }
  const { mode } = yield* Effect.orElseSucceed(fs.stat(file), () => ({ mode: 0 }))
  if (process.platform !== "win32" && (mode & 0o077) !== 0)
    yield* Console.error(
      `warning: ${file} may hold tokens, and others can read it; chmod 600 takes it from them`
    )
  const json = yield* Effect.try({
    try: () => parseJson(text.value),
    catch: () => refuse("is not JSON")
  })
  const { contexts = {}, current } = isRecord(json) ? json : { contexts: undefined, current: undefined }
  if (!isRecord(json) || !isRecord(contexts) || (current !== undefined && typeof current !== "string"))
    return yield* refuse('is not {"current": …, "contexts": {…}}')
  const all = new Map<string, Context>()
  for (const [name, entry] of Object.entries(contexts)) {
    if (!isContext(entry)) return yield* refuse(`holds a context ${name} that ${problemOf(entry)}`)
    all.set(name, entry)
  }
  return { file, json, contexts: { current, all } }
})

/** What is kept; nothing when there is no file. */
export const load: Effect.Effect<Contexts, ContextsError, Surroundings> = Effect.map(
  read,
  ({ contexts }) => contexts
)

/** Writes what `change` makes of what is kept. */
export const update = <E>(
  change: (contexts: Contexts) => Effect.Effect<Contexts, E>
): Effect.Effect<void, ContextsError | E, Surroundings> =>
  Effect.gen(function* () {
    const { file, json, contexts } = yield* read
    const { all, current } = yield* change(contexts)
    const { current: _, ...rest } = json
    const next = { ...rest, ...(current === undefined ? {} : { current }), contexts: Object.fromEntries(all) }
    yield* Effect.mapError(
      writePrivately(file, `${JSON.stringify(next, null, 2)}\n`),
      (error) => new ContextsError({ message: `${file} cannot be written: ${reasonOf(error)}` })
    )
  })

/** The context of this name; `by` is the flag or variable that names it, and begins what is said of one that is not there. */
export const find = ({ all }: Contexts, name: string, by?: string): Effect.Effect<Context, UsageError> => {
  const context = all.get(name)
  return context === undefined
    ? Effect.fail(
        new UsageError({
          message: `${by === undefined ? "" : `${by}: `}there is no context ${JSON.stringify(name)}${didYouMean(name, [...all.keys()])}\n  ${all.size === 0 ? "arcp context add keeps one" : "arcp context list shows what there is"}`
        })
      )
    : Effect.succeed(context)
}
