/** Checks of the file of a runtime, of its folder, and of what is beside it. Nothing is changed, and no lock is kept. */
import * as fs from "node:fs"
import * as nodePath from "node:path"
import * as Effect from "effect/Effect"
import * as CredentialStoreSql from "../../../../layers/credentials/CredentialStoreSql.js"
import { reading, sizeOf, value } from "../../../../layers/store/care/snapshot.js"
import { lockHolder } from "../../../../layers/store/lockHolder.js"
import { schemaVersion } from "../../../../layers/store/schema.js"
import { isOfDisk, isUnopened } from "../../../../layers/store/sqlError.js"
import { besideNow, inspect, isHeld, realName } from "../../../../layers/store/sqliteFile.js"
import { fileProblem } from "../../../../services/runtime/fileProblem.js"
import type { StoreError } from "../../../../services/store/Store.js"
import { bytes } from "../../quantity.js"
import { age } from "../../time.js"
import { asOwner, type Finding, findings, guarded, type StoreFindings } from "./finding.js"

/** Bytes that must be free for commits to go on, and below which there is a warning. */
const leastFree = 64 * 1024 * 1024
const littleFree = 1024 * 1024 * 1024

/** Bytes above which the log of a database is too large: it is cut back to 64 MiB after a burst. */
const largeLog = 256 * 1024 * 1024

/** Milliseconds by which times of files may be ahead of the clock. */
const aheadTolerance = 60_000

const modeText = (mode: number) => (mode & 0o7777).toString(8).padStart(4, "0")

const userOf = (): number | undefined => process.geteuid?.()

/** Who owns a file, and who may read it. */
const accessOf = (check: string, path: string): Finding => {
  const { fail, ok, warn } = findings(check)
  const stat = fs.lstatSync(path)
  const [mode, user] = [modeText(stat.mode), userOf()]
  if (stat.isSymbolicLink()) {
    const advice = "name the file itself, so that nobody can turn it elsewhere"
    try {
      return warn(`${path} is a link to ${fs.realpathSync(path)}`, advice)
    } catch (cause) {
      return fail(`${path} is a link that leads nowhere: ${fileProblem(cause)}`, advice)
    }
  }
  if (!stat.isFile()) return fail(`${path} is no regular file`, "choose another file")
  if (stat.nlink > 1)
    return fail(
      `${path} has ${stat.nlink} names (hard links)`,
      "remove the others: a database can be used by one only"
    )
  if (user === undefined) return ok(path)
  if (stat.uid !== user)
    return warn(
      `${path} belongs to user ${stat.uid}, and this is user ${user}`,
      "run as the user whose it is, or chown it"
    )
  return (stat.mode & 0o077) !== 0
    ? warn(
        `${path} has mode ${mode}: other users may open it`,
        `chmod 600 ${path}; arcp serve does so at its start`
      )
    : ok(`${path}, of this user, mode ${mode}`)
}

const checkFile = (path: string): Finding =>
  fs.lstatSync(path, { throwIfNoEntry: false }) === undefined
    ? findings("file").warn(
        `${path} does not exist`,
        "arcp serve makes it; or name the one there is with --db"
      )
    : accessOf("file", path)

const checkFolder = (path: string): Finding => {
  const { fail, ok, warn } = findings("folder")
  const folder = nodePath.dirname(nodePath.resolve(path))
  const stat = fs.statSync(folder, { throwIfNoEntry: false })
  if (stat === undefined) return warn(`${folder} does not exist`, "arcp serve makes it, for its user only")
  try {
    fs.accessSync(folder, fs.constants.W_OK | fs.constants.X_OK)
  } catch (cause) {
    return fail(
      `${folder} cannot be written: ${fileProblem(cause)}`,
      "SQLite makes its log in there: make it writable"
    )
  }
  const mode = modeText(stat.mode)
  // Where others may write and nothing keeps them from it, they may put another file in this one's place.
  return userOf() !== undefined && (stat.mode & 0o022) !== 0 && (stat.mode & 0o1000) === 0
    ? warn(`${folder} has mode ${mode}: other users may replace the file`, `chmod go-w ${folder}`)
    : ok(`${folder}, mode ${mode}`)
}

/** What is the matter with a file, and what to do about it, which the error mostly says itself: after a semicolon. */
const problemOf = (error: StoreError, name: string): readonly [said: string, todo: string] => {
  const { message } = error
  if (isOfDisk(error))
    return [
      message,
      "make room on its disk, or see to the disk; a restore helps when the file is gone or damaged"
    ]
  if (isUnopened(error)) return [message, asOwner]
  const at = message.indexOf("; ", message.startsWith(name) ? name.length : 0)
  return at < 0
    ? [message, "restore a backup with arcp restore, or use the version that wrote it"]
    : [message.slice(0, at), message.slice(at + 2)]
}

const checkSchema = (path: string, name: string): Effect.Effect<Finding> => {
  const { fail, ok, warn } = findings("schema")
  return Effect.flatMap(besideNow(path), (clean) =>
    inspect(path, name).pipe(
      Effect.map((version) =>
        version === 0
          ? ok("no data yet")
          : version < schemaVersion
            ? warn(
                `version ${version}, this arcp has ${schemaVersion}`,
                "arcp backup first: the next start brings it up to date"
              )
            : ok(`version ${version}, sound`)
      ),
      Effect.catchAll((error) => Effect.succeed(fail(...problemOf(error, name)))),
      Effect.zipLeft(clean)
    )
  )
}

/** Who has the file, as a sentence, when a process of this machine does. */
const holderOf = (path: string, held: boolean | undefined): string | undefined => {
  if (held !== true) return undefined
  const pid = lockHolder(`${path}.lock`)
  return pid === undefined
    ? "a process that cannot be seen from here has the file, as one in another container"
    : `process ${pid} has the file`
}

const checkHolder = (path: string, held: boolean | undefined, holder: string | undefined): Finding => {
  const { ok } = findings("lock")
  if (holder !== undefined) return ok(holder)
  if (held === undefined) return ok("whether a runtime has the file cannot be told here")
  return ok(
    fs.existsSync(`${path}.lock`)
      ? "no runtime of this machine has the file"
      : "no runtime has had the file yet"
  )
}

const checkLog = (path: string, held: boolean | undefined): Finding => {
  const { ok, warn } = findings("log")
  const size = sizeOf(`${path}-wal`)
  if (size > largeLog)
    return warn(
      `${path}-wal has ${bytes(size)}`,
      "a program that reads for long keeps it from being cut back: end it, or restart"
    )
  return size > 0 && held === false
    ? warn(
        `${path}-wal has ${bytes(size)} that a killed runtime left`,
        "keep it beside the file: the next start brings it in"
      )
    : ok(size === 0 ? "empty" : bytes(size))
}

const checkDisk = (path: string): Finding => {
  const { fail, ok, warn } = findings("disk")
  const existing = (folder: string): string =>
    fs.existsSync(folder) ? folder : existing(nodePath.dirname(folder))
  const { bavail, blocks, bsize } = fs.statfsSync(existing(nodePath.dirname(nodePath.resolve(path))))
  const free = bavail * bsize
  const said = `${bytes(free)} free of ${bytes(blocks * bsize)}`
  const needed = Math.max(leastFree, sizeOf(`${path}-wal`))
  if (free < needed)
    return fail(said, "nothing can be committed soon: free at least as much as the file's log holds")
  return free < Math.max(littleFree, sizeOf(path))
    ? warn(
        said,
        "make room, or keep less (--limit jobRetention=…): a backup or a new schema needs the file's size again"
      )
    : ok(said)
}

/** When a runtime was last known to be alive, in epoch ms; 0 when it is not known. */
const aliveAt = (path: string): Effect.Effect<number> =>
  sizeOf(path) === 0
    ? Effect.succeed(0)
    : reading(path, path, (sql) => value(sql, "SELECT alive_at FROM runtime", path)).pipe(
        Effect.map((at) => Number(at ?? 0)),
        Effect.catchAll(() => Effect.succeed(0))
      )

/** When a file was last written, in epoch ms; 0 of what there is not, or cannot be looked at. */
const writtenAt = (path: string): number => {
  try {
    return fs.statSync(path).mtimeMs
  } catch {
    return 0
  }
}

/** Whether the clock agrees with what was written by it before, and goes as fast as the one that only goes forward. */
const checkClock = (path: string): Effect.Effect<Finding> =>
  Effect.map(aliveAt(path), (alive) => {
    const { ok, warn } = findings("clock")
    const now = Date.now()
    const written = ["", "-wal", ".lock"].map((suffix) => writtenAt(path + suffix))
    const ahead = Math.max(alive, ...written) - now
    if (ahead > aheadTolerance)
      return warn(
        `${new Date(now).toISOString()}, and the file was written ${age(ahead)} later`,
        "set the clock (NTP): leases, tokens and windows end by it"
      )
    const stepped = Math.abs(now - (performance.timeOrigin + performance.now()))
    return stepped > 1_000
      ? warn(
          `it was set by ${age(stepped)} since this program began`,
          "let NTP slew the clock and not step it"
        )
      : ok(new Date(now).toISOString())
  })

const checkCredentials = (path: string): ReadonlyArray<Finding> => {
  const file = CredentialStoreSql.beside(path)
  return fs.lstatSync(file, { throwIfNoEntry: false }) === undefined ? [] : [accessOf("credentials", file)]
}

/** Returns what is found about a file of a runtime. */
export const fileChecks = (name: string): Effect.Effect<StoreFindings> =>
  Effect.gen(function* () {
    // What a runtime has beside its file is beside the file itself, whatever links lead there.
    const path = realName(name)
    const held = yield* isHeld(path)
    const holder = holderOf(path, held)
    const found = [
      yield* guarded(
        "file",
        name,
        Effect.sync(() => checkFile(name))
      ),
      yield* guarded(
        "folder",
        nodePath.dirname(path),
        Effect.sync(() => checkFolder(path))
      ),
      yield* guarded("schema", name, checkSchema(path, name)),
      checkHolder(path, held, holder),
      checkLog(path, held),
      yield* guarded(
        "disk",
        nodePath.dirname(path),
        Effect.sync(() => checkDisk(path))
      ),
      yield* guarded("clock", name, checkClock(path)),
      yield* guarded(
        "credentials",
        CredentialStoreSql.beside(path),
        Effect.sync(() => checkCredentials(path))
      )
    ].flat()
    return { found, holder }
  })
