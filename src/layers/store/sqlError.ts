/** What a failing database means to the person who runs the runtime, and what to do about it. */
import { fileProblem } from "../../services/runtime/fileProblem.js"
import { StoreError } from "../../services/store/Store.js"

/** Returns the driver's error below the wrappers of `@effect/sql`. */
export const rootOf = (cause: unknown): unknown => {
  let root = cause
  while (root instanceof Error && root.cause instanceof Error) root = root.cause
  return root
}

/** SQLite's primary result codes that mean something here, with their names and what SQLite says of them. */
const results: ReadonlyArray<readonly [code: number, name: string, message: string]> = [
  [5, "SQLITE_BUSY", "database is locked"],
  [6, "SQLITE_LOCKED", "database table is locked"],
  [8, "SQLITE_READONLY", "attempt to write a readonly database"],
  [10, "SQLITE_IOERR", "disk I/O error"],
  [11, "SQLITE_CORRUPT", "database disk image is malformed"],
  [13, "SQLITE_FULL", "database or disk is full"],
  [14, "SQLITE_CANTOPEN", "unable to open database file"],
  [26, "SQLITE_NOTADB", "file is not a database"]
]

/**
 * Returns the name of the code of an error of `node:sqlite`, whose `errcode` may be an extended one. Its substitute leaves
 * the number out when a read fails, and says only what SQLite says.
 */
const nameOf = (error: object): string => {
  const number = "errcode" in error && typeof error.errcode === "number" ? error.errcode & 0xff : undefined
  const message = "message" in error ? String(error.message) : ""
  const result = results.find(([code, , says]) =>
    number === undefined ? message.endsWith(says) : code === number
  )
  return result?.[1] ?? "SQLITE_ERROR"
}

/** Returns the code by which drivers and the file system say what failed: `SQLITE_BUSY`, `ENOSPC`, and so on. */
const codeOf = (root: unknown): string => {
  if (typeof root !== "object" || root === null || !("code" in root) || typeof root.code !== "string")
    return ""
  return root.code === "ERR_SQLITE_ERROR" ? nameOf(root) : root.code
}

/**
 * Says in words what went wrong; `name` is what the database is called, and `detail` what the driver says, where that
 * may be told.
 */
const explain = (name: string, code: string, detail: string | undefined): string => {
  const said = detail === undefined ? "" : ` (${detail})`
  if (code === "SQLITE_FULL" || code === "ENOSPC")
    return `the disk is full: free space where ${name} is stored (${code})`
  if (isBusyCode(code)) return `${name} is locked by another program; close it and try again`
  if (code.startsWith("SQLITE_READONLY") || code === "EROFS")
    return `${name} is read-only, or was opened for reading only`
  if (code === "SQLITE_NOTADB") return `${name} is not a SQLite database; choose another file`
  if (code.startsWith("SQLITE_CORRUPT")) return `${name} is corrupt; restore it from a backup${said}`
  if (isUnopenedCode(code))
    return `${name} cannot be opened; check that it and its folder may be read and written${said}`
  if (code.startsWith("SQLITE_IOERR"))
    return `reading or writing ${name} failed: its disk is full, or broken; see whether there is room (${code})`
  return detail === undefined ? `${name} failed` : `${name}: ${detail}`
}

const isUnopenedCode = (code: string): boolean =>
  code.startsWith("SQLITE_CANTOPEN") || code === "EACCES" || code === "EPERM"

const isBusyCode = (code: string): boolean =>
  code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")

/** Returns whether another program holds a lock that was needed: the same may work a moment later. */
export const isBusy = (error: unknown): boolean => isBusyCode(codeOf(rootOf(error)))

/** Returns whether it is the disk that failed, or has no room: the file itself may be as it was. */
export const isOfDisk = (error: unknown): boolean =>
  /^(?:SQLITE_IOERR|SQLITE_FULL|ENOSPC)/.test(codeOf(rootOf(error)))

/** Returns whether the file could not be opened: most often this user may not. */
export const isUnopened = (error: unknown): boolean => isUnopenedCode(codeOf(rootOf(error)))

/** Maps whatever a SQL client or the file system failed with; a `StoreError` stays as it is. */
export const toStoreError =
  (name: string) =>
  (cause: unknown): StoreError => {
    if (cause instanceof StoreError) return cause
    const root = rootOf(cause)
    const code = codeOf(root)
    return new StoreError({
      message: explain(name, code, fileProblem(root)),
      publicMessage: explain("the database", code, undefined),
      cause
    })
  }
