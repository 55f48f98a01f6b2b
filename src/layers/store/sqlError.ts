/** What a failing database means to the person who runs the runtime, and what to do about it. */
import { StoreError } from "../../services/store/Store.js"

/** The driver's error below the wrappers of `@effect/sql`. */
const rootOf = (cause: unknown): unknown => {
  let root = cause
  while (root instanceof Error && root.cause instanceof Error) root = root.cause
  return root
}

const codeOf = (root: unknown): string =>
  typeof root === "object" && root !== null && "code" in root && typeof root.code === "string"
    ? root.code
    : ""

const explain = (name: string, code: string, message: string): string => {
  if (code === "SQLITE_FULL" || code === "ENOSPC")
    return `the disk is full: free space where ${name} is stored (${code})`
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED"))
    return `${name} is locked by another program; close it and try again`
  if (code.startsWith("SQLITE_READONLY")) return `${name} is read-only, or was opened for reading only`
  if (code === "SQLITE_NOTADB") return `${name} is not a SQLite database; choose another file`
  if (code.startsWith("SQLITE_CORRUPT")) return `${name} is corrupt; restore it from a backup (${message})`
  if (code.startsWith("SQLITE_CANTOPEN") || code === "EACCES" || code === "EPERM")
    return `${name} cannot be opened; check that it and its folder may be read and written (${message})`
  if (code.startsWith("SQLITE_IOERR")) return `reading or writing ${name} failed; check the disk (${code})`
  return `${name}: ${message}`
}

/** Maps whatever a SQL client or the file system failed with; a `StoreError` stays as it is. */
export const toStoreError =
  (name: string) =>
  (cause: unknown): StoreError => {
    if (cause instanceof StoreError) return cause
    const root = rootOf(cause)
    const message = root instanceof Error ? root.message : String(root)
    return new StoreError({ message: explain(name, codeOf(root), message), cause })
  }
