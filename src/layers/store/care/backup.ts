/** Copies of a runtime's file, made while it runs, and putting one in its place again. */
import * as fs from "node:fs"
import * as nodePath from "node:path"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { Op, Store, StoreError } from "../../../services/store/Store.js"
import * as StoreSqlite from "../StoreSqlite.js"
import { isBusy } from "../sqlError.js"
import {
  connect,
  credentialsBeside,
  holderOf,
  inspect,
  lock,
  prepareFolder,
  realName
} from "../sqliteFile.js"
import { commitUnowned } from "../unowned.js"
import { ours } from "./ours.js"
import * as Placing from "./placing.js"
import { copyInto, reading, sizeOf, soundness, value } from "./snapshot.js"

const refuse = (message: string) => Effect.fail(new StoreError({ message }))

/** "ARCC", in the header of every file of credentials. */
const credentialsId = 0x41524343

/** What a backup, or a file that was restored, holds. */
export interface Contents {
  /** Version of the schema. */
  readonly schema: number
  readonly jobs: number
  readonly events: number
  readonly sessions: number
  /** Of the one file, without the credentials. */
  readonly bytes: number
}

/**
 * Events that are there for whoever reads: of those that were dropped or trimmed rows are left until they are freed, which a restore
 * does.
 */
const events = `SELECT coalesce(sum(max(0, min(x.count, x.seq + x.count - coalesce(t.before, 0)))), 0)
  FROM extents x LEFT JOIN event_trims t ON t.job = x.job`

const contentsOf = (path: string, name: string): Effect.Effect<Contents, StoreError> =>
  reading(path, name, (sql) =>
    Effect.all({
      schema: Effect.map(value(sql, "PRAGMA user_version", name), Number),
      jobs: Effect.map(value(sql, "SELECT count(*) FROM jobs WHERE rejected = 0", name), Number),
      events: Effect.map(value(sql, events, name), Number),
      sessions: Effect.map(value(sql, "SELECT count(*) FROM sessions", name), Number),
      bytes: Effect.sync(() => sizeOf(path))
    })
  )

/** Refuses a file that is not one of credentials. */
const ofCredentials = (path: string, name: string): Effect.Effect<void, StoreError> =>
  reading(path, name, (sql) => value(sql, "PRAGMA application_id", name)).pipe(
    Effect.filterOrFail(
      (id) => id === credentialsId,
      () => new StoreError({ message: `${name} does not hold the credentials of a runtime` })
    ),
    Effect.asVoid
  )

/** Returns what a path leads to, if to anything. */
const statOf = (path: string): fs.BigIntStats | undefined => {
  try {
    return fs.statSync(path, { bigint: true })
  } catch {
    return undefined
  }
}

const sameFile = (one: string, other: string): boolean => {
  const [a, b] = [one, other].map(statOf)
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino
}

/** What a runtime and SQLite have beside a database. */
const besides = ["", "-wal", "-shm", "-journal", ".lock"]

/** Returns whether a path is a file of a runtime, or would be taken for one: its database, its log, its lock. */
const isOfRuntime = (path: string, database: string): boolean =>
  [database, credentialsBeside(database)]
    .flatMap((name) => besides.map((suffix) => name + suffix))
    .some((own) => realName(own) === realName(path) || sameFile(own, path))

/** A backup that was made. */
export interface BackedUp extends Contents {
  readonly file: string
  /** Where the credentials are, if the runtime has any file of them. */
  readonly credentials: string | undefined
}

/** How a backup is made. */
export interface BackupOptions {
  /** The file of the runtime. */
  readonly filename: string
  /** The file that is to be made. */
  readonly to: string
  /** Whether it may take the place of a file that exists. */
  readonly replace?: boolean | undefined
}

/** Copies one file to a temporary place, and tries whether the copy is whole. */
const copied = (source: string, name: string, target: string) =>
  Effect.map(
    Placing.temporary(target, (temporary) =>
      Effect.zipRight(
        copyInto(source, name, temporary),
        Effect.mapError(
          soundness(temporary, target),
          ({ message }) =>
            new StoreError({ message: `the copy is not whole: ${message}; back up to another disk` })
        )
      )
    ),
    ({ made }) => made
  )

/**
 * Makes a backup, also while the runtime runs: one file with everything committed until then, and beside it one with
 * the records of credentials, where there are any. Those come last, so that none is missing that the first one's jobs hold.
 * Nothing has the names until both are whole and on disk.
 */
export const backup = ({
  filename,
  replace = false,
  to
}: BackupOptions): Effect.Effect<BackedUp, StoreError> =>
  Effect.gen(function* () {
    const source = realName(filename)
    const target = nodePath.resolve(to)
    yield* ours(source, filename)
    const hasCredentials = fs.existsSync(credentialsBeside(source))
    for (const path of [target, credentialsBeside(target)]) {
      if (isOfRuntime(path, source))
        return yield* refuse(`${to} is a file of the runtime itself; choose another name`)
      yield* Placing.isFree(path, replace)
    }
    const made = yield* copied(source, filename, target)
    const credentials = hasCredentials
      ? yield* copied(credentialsBeside(source), credentialsBeside(filename), credentialsBeside(target))
      : undefined
    const contents = yield* contentsOf(made, to)
    if (credentials !== undefined) yield* Placing.place(credentials, credentialsBeside(target), replace)
    // What an older backup of this name has left belongs to that one.
    else if (replace) yield* Placing.attempt(to, () => fs.rmSync(credentialsBeside(target), { force: true }))
    yield* Placing.place(made, target, replace)
    yield* Placing.flushFolderOf(target)
    return { ...contents, file: target, credentials: hasCredentials ? credentialsBeside(target) : undefined }
  }).pipe(Effect.scoped)

/** A backup that was restored. */
export interface Restored extends Contents {
  readonly file: string
  /** Where the file is that was there before. */
  readonly aside: string | undefined
  /** Whether the records of credentials are those of the backup; otherwise those that were there are kept, if any. */
  readonly credentialsRestored: boolean
}

/** How a backup is restored. */
export interface RestoreOptions {
  /** The backup. */
  readonly from: string
  /** The file of the runtime. */
  readonly filename: string
  /** Epoch ms, in the name of the file that is kept. */
  readonly now: number
}

/** What a file that is kept is called, which nothing else is. */
const asideName = (path: string, now: number): string => {
  const stamp = new Date(now).toISOString().replace(/[-:]|\.\d+/g, "")
  for (let i = 1; ; i++) {
    const name = `${path}.before-${stamp}${i === 1 ? "" : `-${i}`}`
    if (!fs.existsSync(name)) return name
  }
}

/** Brings what is in the log of a database into it, so that it is one file; one that is damaged stays as it is. */
const settled = (path: string, name: string): Effect.Effect<void> =>
  inspect(path, name).pipe(
    Effect.zipRight(connect({ filename: path, disableWAL: true, busyTimeout: 0 }, name)),
    Effect.flatMap((sql) => sql.unsafe("PRAGMA wal_checkpoint(TRUNCATE)")),
    Effect.scoped,
    Effect.ignore
  )

/** What SQLite has beside a database that it was not done with. */
const logs = ["-wal", "-journal"]

/** Takes the logs of a database to another name: beside one that they do not belong to they would destroy that. */
const moveLogs = (from: string, to: string): void => {
  for (const suffix of logs) if (fs.existsSync(from + suffix)) fs.renameSync(from + suffix, to + suffix)
  fs.rmSync(`${from}-shm`, { force: true })
}

/**
 * Gives a file another name, and takes what is beside it there. It keeps its own name too, where the file system has links:
 * what has that name is at no moment nothing, which a runtime would take for a beginning.
 */
const setAside = (path: string, aside: string): void => {
  try {
    fs.linkSync(path, aside)
  } catch {
    fs.renameSync(path, aside)
  }
  moveLogs(path, aside)
}

/** Undoes that. */
const putBack = (path: string, aside: string): void => {
  moveLogs(aside, path)
  fs.renameSync(aside, path)
  // A second name of the same file is no other file, and stays.
  fs.rmSync(aside, { force: true })
}

/** Puts a temporary file in the place of one that is kept under another name; returns that name. */
const exchange = (made: string, path: string, now: number): Effect.Effect<string | undefined, StoreError> =>
  Effect.gen(function* () {
    const aside = fs.existsSync(path) ? asideName(path, now) : undefined
    if (aside !== undefined) yield* settled(path, path)
    yield* Placing.attempt(`${path} cannot be kept under another name`, () =>
      aside === undefined ? moveLogs(path, asideName(path, now)) : setAside(path, aside)
    )
    yield* Effect.tapError(Placing.place(made, path, aside !== undefined), () =>
      aside === undefined ? Effect.void : Effect.ignore(Effect.try(() => putBack(path, aside)))
    )
    yield* Placing.flushFolderOf(path)
    return aside
  })

/**
 * Brings a copy to the current schema, and ends all sessions in it. What was sent to them since the backup is not in it, so
 * its numbers would be given once more, to other events, and a client that resumes would take those for known.
 */
const renewed = (path: string): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const store = yield* Store
    const sessions = yield* store.sessions
    yield* commitUnowned(
      store,
      sessions.map(({ sessionId }) => Op.DropSession({ sessionId }))
    )
    while (yield* store.vacuum) yield* Effect.yieldNow()
  }).pipe(
    Effect.provide(StoreSqlite.layer({ filename: path })),
    Effect.ensuring(Effect.sync(() => fs.rmSync(`${path}.lock`, { force: true })))
  )

/** Copies the records of credentials of a backup, unless there are some. The newer know more of what is still good upstream. */
const copiedCredentials = (from: string, path: string, name: string) =>
  Effect.gen(function* () {
    const [source, target] = [credentialsBeside(from), credentialsBeside(path)]
    if (!fs.existsSync(source) || fs.existsSync(target)) return undefined
    yield* ofCredentials(source, credentialsBeside(name))
    return yield* copied(source, credentialsBeside(name), target)
  })

/** Takes the file for itself, or says who has it. */
const exclusively = (path: string, name: string): Effect.Effect<void, StoreError, Scope> =>
  Effect.mapError(lock(path, name), (error) =>
    isBusy(error)
      ? new StoreError({
          message: `${holderOf(path)} uses ${name}; stop it before a backup is restored`,
          cause: error
        })
      : error
  )

/**
 * Puts a backup in the place of a runtime's file, which is kept under another name. Fails while a runtime has the file, and
 * when the backup is damaged, newer than this version, or something else: everything is then as it was.
 */
export const restore = ({ filename, from, now }: RestoreOptions): Effect.Effect<Restored, StoreError> =>
  Effect.gen(function* () {
    const source = realName(from)
    yield* ours(source, from, "a backup")
    const path = yield* prepareFolder(filename)
    if (sameFile(source, path))
      return yield* refuse(`${from} is the file of the runtime itself; name a backup`)
    yield* exclusively(path, filename)
    const { made } = yield* Placing.temporary(path, (temporary) =>
      copyInto(source, from, temporary).pipe(
        Effect.zipRight(soundness(temporary, from)),
        Effect.zipRight(renewed(temporary))
      )
    )
    const credentials = yield* copiedCredentials(source, path, from)
    const contents = yield* contentsOf(made, from)
    const aside = yield* exchange(made, path, now)
    if (credentials !== undefined) yield* Placing.place(credentials, credentialsBeside(path), false)
    return { ...contents, file: path, aside, credentialsRestored: credentials !== undefined }
  }).pipe(Effect.scoped)
