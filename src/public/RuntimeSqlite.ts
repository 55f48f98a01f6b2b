/** A runtime on a SQLite file, which survives a restart: one machine. */
export { layer } from "../layers/runtime/RuntimeSqlite.js"
