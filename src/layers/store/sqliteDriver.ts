/**
 * SQLite itself, without Effect, so that a worker can use it as it is: what is opened here is synchronous, and its
 * statements are prepared once.
 *
 * Node has SQLite built in since 22.16. Before, a package takes its place that has the same interface and brings binaries
 * for every platform, so nothing is ever compiled. Either is loaded when the first file is opened, and not before.
 */
import * as nodeModule from "node:module"
import * as v8 from "node:v8"
import * as vm from "node:vm"

/** What stands in for Node's own SQLite where there is none; an optional dependency. */
export const substitute = "@photostructure/sqlite"

/** The values of a row, or of the parameters of a statement. */
export type Values = ReadonlyArray<unknown>

/** What is used of a statement of `node:sqlite`. */
interface NativeStatement {
  readonly all: (...params: Values) => ReadonlyArray<unknown>
  readonly run: (...params: Values) => unknown
  readonly columns: () => ReadonlyArray<unknown>
  readonly setReturnArrays: (enabled: boolean) => void
}

/** What is used of a database of `node:sqlite`. */
interface NativeDatabase {
  readonly prepare: (sql: string) => NativeStatement
  readonly exec: (sql: string) => void
  readonly function: (name: string, f: (value: unknown) => null) => void
  readonly close: () => void
}

/** What is used of `node:sqlite`. */
interface NativeModule {
  readonly DatabaseSync: new (path: string, options: { readonly readOnly: boolean }) => NativeDatabase
}

/** How a file is opened. */
export interface OpenOptions {
  /** Nothing can be written, and a file that does not exist is not created. */
  readonly readOnly?: boolean | undefined
}

/** A prepared statement. It must not be used, nor held, after its database was closed. */
export interface Prepared {
  /** Returns the rows as objects. */
  readonly all: (params: Values) => ReadonlyArray<object>
  /** Returns the rows as arrays. */
  readonly values: (params: Values) => ReadonlyArray<Values>
  /** Returns the rows of a statement that has some, and else what was changed. */
  readonly run: (params: Values) => unknown
}

/** An open database. Everything throws what SQLite fails with; see `toStoreError`. */
export interface Database {
  /** Prepares a statement that is not remembered. */
  readonly prepare: (sql: string) => Prepared
  /** Returns a statement prepared before, or prepares and remembers it. */
  readonly prepared: (sql: string) => Prepared
  /** Runs what has no parameters and is not asked for rows. No statement of it is left, for which closing would have to wait. */
  readonly exec: (sql: string) => void
  /** Returns the first answer of a pragma that only asks, in the same way. */
  readonly pragma: (name: string) => unknown
  /** Closes the database: what is not committed is undone, its locks and files are released. */
  readonly close: () => undefined | Promise<void>
}

/** Opens databases. */
export interface Driver {
  readonly open: (path: string, options?: OpenOptions) => Database
}

/** Texts whose statements are remembered; a store has fewer. */
const maxPrepared = 256

/** Where the interface comes from, and what is particular to it. */
interface Supplier {
  readonly module: NativeModule
  /** Notes that a database has a statement more. */
  readonly prepared: (native: NativeDatabase, statement: NativeStatement) => void
  /** Ends a database after its statements are forgotten. */
  readonly release: (native: NativeDatabase) => undefined | Promise<void>
  /** Text is bound only up to its first NUL, so that two names would be one. */
  readonly cutsText: boolean
}

const hasNul = (value: unknown): value is string => typeof value === "string" && value.includes("\0")

const statementOn = (native: NativeDatabase, sql: string, supplier: Supplier): NativeStatement => {
  const statement = native.prepare(sql)
  supplier.prepared(native, statement)
  return statement
}

/** Binds text with a NUL as bytes. A `?` is always a parameter, never part of a literal. */
const bindBytes = (
  native: NativeDatabase,
  sql: string,
  params: Values,
  supplier: Supplier
): [NativeStatement, Values] => {
  let i = 0
  const text = sql.replaceAll("?", () => (hasNul(params[i++]) ? "CAST(? AS TEXT)" : "?"))
  return [
    statementOn(native, text, supplier),
    params.map((value) => (hasNul(value) ? Buffer.from(value) : value))
  ]
}

/** Runs a statement so that an error of it has no frames: they hold the statement, and that its database. */
const lettingGo = <A>(f: () => A): A => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return f()
  } finally {
    Error.stackTraceLimit = limit
  }
}

const prepareOn = (native: NativeDatabase, sql: string, supplier: Supplier): Prepared => {
  const { cutsText } = supplier
  const statement = statementOn(native, sql, supplier)
  const hasRows = statement.columns().length > 0
  let asArrays = false
  const rows = (params: Values, arrays: boolean): ReadonlyArray<unknown> => {
    if (cutsText && params.some(hasNul)) {
      const [other, values] = bindBytes(native, sql, params, supplier)
      other.setReturnArrays(arrays)
      return other.all(...values)
    }
    if (arrays !== asArrays) {
      statement.setReturnArrays(arrays)
      asArrays = arrays
    }
    return statement.all(...params)
  }
  const change = (params: Values): unknown => {
    if (!cutsText || !params.some(hasNul)) return statement.run(...params)
    const [other, values] = bindBytes(native, sql, params, supplier)
    return other.run(...values)
  }
  return {
    all: (params) => lettingGo(() => rows(params, false)) as ReadonlyArray<object>,
    values: (params) => lettingGo(() => rows(params, true)) as ReadonlyArray<Values>,
    run: (params) => lettingGo(() => (hasRows ? rows(params, false) : change(params)))
  }
}

/** The function by which SQLite tells what it has found. */
const teller = "arcp_tell"

/** Asks without a statement of our own: the substitute lets go of those in a full collection only, which a start can do without. */
const askPragma = (native: NativeDatabase, name: string): unknown => {
  let answer: unknown
  native.function(teller, (value) => {
    answer ??= value
    return null
  })
  native.exec(`SELECT ${teller}(${name}) FROM pragma_${name}`)
  return answer
}

const driverOf = (supplier: Supplier): Driver => ({
  open: (path, { readOnly = false } = {}) => {
    const native = new supplier.module.DatabaseSync(path, { readOnly })
    const statements = new Map<string, Prepared>()
    return {
      prepare: (sql) => prepareOn(native, sql, supplier),
      prepared: (sql) => {
        const known = statements.get(sql)
        const statement = known ?? prepareOn(native, sql, supplier)
        // The newest is last, so the first is the one that was not used for longest.
        if (known !== undefined) statements.delete(sql)
        else if (statements.size === maxPrepared) statements.delete(statements.keys().next().value as string)
        statements.set(sql, statement)
        return statement
      },
      exec: (sql) => native.exec(sql),
      pragma: (name) => askPragma(native, name),
      close: () => {
        statements.clear()
        return supplier.release(native)
      }
    }
  }
})

/** Returns whether this has everything that is used here: Node 22.13 has the module, but not all of it. */
const isComplete = (module: object | undefined): module is NativeModule =>
  module !== undefined &&
  "DatabaseSync" in module &&
  "StatementSync" in module &&
  typeof module.StatementSync === "function" &&
  ["setReturnArrays", "columns"].every(
    (name) => name in (module.StatementSync as { prototype: object }).prototype
  )

/**
 * Returns Node's own module, when it is complete. Node warns on stderr, once, that the module may change; the warning is
 * nothing that somebody who runs a server could act on, and what could change is checked here and by the store's suites.
 */
const builtIn = (): NativeModule | undefined => {
  const warn = process.emitWarning
  process.emitWarning = () => {}
  try {
    const module = process.getBuiltinModule("node:sqlite")
    return isComplete(module) ? module : undefined
  } finally {
    process.emitWarning = warn
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const later = () => new Promise<void>((resolve) => setTimeout(resolve, 5))

/** Statements of the substitute that are not collected yet, by their database. */
const uncollected = new WeakMap<NativeDatabase, number>()

const count = (native: NativeDatabase, change: 1 | -1): void => {
  uncollected.set(native, (uncollected.get(native) ?? 0) + change)
}

const collected = new FinalizationRegistry<WeakRef<NativeDatabase>>((reference) => {
  const native = reference.deref()
  if (native !== undefined) count(native, -1)
})

const countStatement = (native: NativeDatabase, statement: NativeStatement): void => {
  count(native, 1)
  collected.register(statement, new WeakRef(native))
}

let knownCollector: (() => void) | undefined

/**
 * Returns what collects garbage. The flags are those of the process: another thread that does this in the same moment takes the
 * function away again before it is read. Then there is none, and the next call has to ask again.
 */
const collector = (): (() => void) | undefined => {
  if (knownCollector === undefined) {
    v8.setFlagsFromString("--expose-gc")
    knownCollector = vm.runInNewContext("globalThis.gc") as typeof knownCollector
    // What V8 compiles is good for its flags only, so they are again what they were.
    v8.setFlagsFromString("--no-expose-gc")
  }
  return knownCollector
}

/**
 * Closes a database of the substitute. It finalizes statements only when they are collected, and SQLite keeps a database
 * with such statements open, locks and files included; so they are collected first.
 */
const collectAndClose = async (native: NativeDatabase): Promise<void> => {
  try {
    native.exec("ROLLBACK")
  } catch {
    // No transaction was open.
  }
  // Finalizers run in a turn after, in a busy process not in the next one, and what they let go of is for the next collection.
  for (let i = 0; i < 10 && (uncollected.get(native) ?? 0) > 0; i++) {
    await turn()
    collector()?.()
    await (i < 2 ? turn() : later())
  }
  native.close()
}

const closeAtOnce = (native: NativeDatabase): undefined => {
  native.close()
}

/**
 * Returns the substitute. By `require` it is there at once: an import reads it in turns, between whatever else a start does, and
 * loads the parser that Node has for CommonJS. What was bundled as CommonJS does not know where it is, and imports.
 */
const loadSubstitute = async (): Promise<NativeModule> => {
  try {
    return nodeModule.createRequire(import.meta.url)(substitute) as NativeModule
  } catch {
    return import("@photostructure/sqlite")
  }
}

/** Loads the driver. Rejects when there is neither. */
export const loadDriver = async (): Promise<Driver> => {
  const module = builtIn()
  return driverOf(
    module !== undefined
      ? { module, prepared: () => {}, release: closeAtOnce, cutsText: false }
      : {
          module: await loadSubstitute(),
          prepared: countStatement,
          release: collectAndClose,
          cutsText: true
        }
  )
}
