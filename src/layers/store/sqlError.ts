/** What a failing database means to the person who runs the runtime, and what to do about it. */
import { StoreError } from "../../services/store/Store.js"

/** Returns the driver's error below the wrappers of `@effect/sql`. */
const rootOf = (cause: unknown): unknown => {
  let root = cause
  while (root instanceof Error && root.cause instanceof Error) root = root.cause
  return root
}

const codeOf = (root: unknown): string =>
  typeof root === "object" && root !== null && "code" in root && typeof root.code === "string"
    ? root.code
    : ""

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
  if (code.startsWith("SQLITE_CANTOPEN") || code === "EACCES" || code === "EPERM")
    return `${name} cannot be opened; check that it and its folder may be read and written${said}`
  if (code.startsWith("SQLITE_IOERR")) return `reading or writing ${name} failed; check the disk (${code})`
  return detail === undefined ? `${name} failed` : `${name}: ${detail}`
}

const isBusyCode = (code: string): boolean =>
  code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")

/** Returns whether another program holds a lock that was needed: the same may work a moment later. */
export const isBusy = (error: unknown): boolean => isBusyCode(codeOf(rootOf(error)))

/** Maps whatever a SQL client or the file system failed with; a `StoreError` stays as it is. */
export const toStoreError =
  (name: string) =>
  (cause: unknown): StoreError => {
    if (cause instanceof StoreError) return cause
    const root = rootOf(cause)
    const message = root instanceof Error ? root.message : String(root)
    const code = codeOf(root)
    return new StoreError({
      message: explain(name, code, message),
      publicMessage: explain("the database", code, undefined),
      cause
    })
  }
