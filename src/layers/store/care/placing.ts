/**
 * Files that are made whole before they get their name: in a temporary file beside it, of its owner only, on disk before the
 * name leads to it. Whoever reads the name finds the old file or the new one, and never a part.
 */
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as nodePath from "node:path"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { codeOf, fileProblem } from "../../../services/runtime/fileProblem.js"
import { StoreError } from "../../../services/store/Store.js"

const refuse = (message: string) => Effect.fail(new StoreError({ message }))

/** Runs something on the file system; says what it was about when it fails. */
export const attempt = <A>(about: string, f: () => A): Effect.Effect<A, StoreError> =>
  Effect.try({
    try: f,
    catch: (cause) => new StoreError({ message: `${about}: ${fileProblem(cause)}`, cause })
  })

/** Waits until what is in a file, or which names are in a folder, is on disk. Never for a file that is open as a database. */
const flush = (path: string): void => {
  const fd = fs.openSync(path, "r")
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** Brings the names of a folder to the disk, where a folder can be opened for that. */
export const flushFolderOf = (path: string): Effect.Effect<void> =>
  Effect.ignore(Effect.try(() => flush(nodePath.dirname(path))))

/** Returns a name beside a file that nobody else has. */
const temporaryBeside = (path: string): string =>
  nodePath.join(nodePath.dirname(path), `.${nodePath.basename(path)}.${randomUUID()}.tmp`)

/** What SQLite and a runtime may have left beside a temporary file. */
const besides = ["", "-wal", "-shm", "-journal", ".lock"]

/** Removes a file and what may be left beside it. */
const removeAll = (path: string): Effect.Effect<void> =>
  Effect.sync(() => {
    for (const suffix of besides) fs.rmSync(path + suffix, { force: true })
  })

/** Milliseconds after which a temporary file that nobody writes to is left over: whoever made it was killed. */
const leftOver = Duration.toMillis("1 day")

/** What comes after the name of the file in the names of its temporary ones. */
const ofTemporary = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tmp(?:-wal|-shm|-journal|\.lock)?$/

/** Removes the temporary files of a path that are left over, as far as it may. */
const removeLeftOver = (path: string): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.ignore(
      Effect.try(() => {
        const [folder, prefix] = [nodePath.dirname(path), `.${nodePath.basename(path)}.`]
        for (const name of fs.readdirSync(folder)) {
          if (!name.startsWith(prefix) || !ofTemporary.test(name.slice(prefix.length))) continue
          const file = nodePath.join(folder, name)
          const stat = fs.lstatSync(file, { throwIfNoEntry: false })
          if (stat?.isFile() === true && now - stat.mtimeMs > leftOver) fs.rmSync(file, { force: true })
        }
      })
    )
  )

/**
 * Makes a file in a temporary place beside `path`, empty and of its owner only when `fill` gets it, and brings what came
 * of it to the disk. It is removed with the scope, unless it has been given its name by then; what a process that was
 * killed has left goes a day later.
 */
export const temporary = <A, E, R>(path: string, fill: (temporary: string) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    yield* removeLeftOver(path)
    const made = yield* Effect.acquireRelease(
      attempt(`no file can be made in the folder of ${path}`, () => {
        const name = temporaryBeside(path)
        fs.closeSync(fs.openSync(name, "wx", 0o600))
        return name
      }),
      removeAll
    )
    const result = yield* fill(made)
    yield* attempt(`${path} cannot be brought to the disk`, () => flush(made))
    return { made, result }
  })

/**
 * Refuses a name for a new file that is taken: by a file, unless it is to be replaced; by anything else always. A link is
 * something else: what it leads to is neither looked at nor written to.
 */
export const isFree = (path: string, replace: boolean): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const stat = yield* attempt(path, () => fs.lstatSync(path, { throwIfNoEntry: false }))
    if (stat === undefined) return
    if (stat.isSymbolicLink())
      return yield* refuse(`${path} is a link, and is not followed; name the file itself, or remove the link`)
    if (!stat.isFile()) return yield* refuse(`${path} is no regular file; choose another name`)
    if (!replace) return yield* refuse(`${path} exists; choose another name, or replace it with --force`)
  })

/** Gives a temporary file its name. Without `replace` it fails when the name has been taken meanwhile. */
export const place = (made: string, path: string, replace: boolean): Effect.Effect<void, StoreError> =>
  attempt(`${path} cannot be written`, () => {
    if (replace) return fs.renameSync(made, path)
    try {
      fs.linkSync(made, path)
    } catch (cause) {
      if (codeOf(cause) === "EEXIST") throw cause
      // A file system without links: the name is taken first, so that nobody else's file is replaced.
      fs.closeSync(fs.openSync(path, "wx", 0o600))
      fs.renameSync(made, path)
      return
    }
    fs.rmSync(made)
  })
