/**
 * The thread that writes to a SQLite file: it owns the connection that does, and waits for the disk so that nobody else
 * has to. What runs here is synchronous and knows nothing of Effect. `sqliteThread.ts` is who asks it.
 */
import * as fs from "node:fs"
import { parentPort } from "node:worker_threads"
import type { Owner } from "../../services/store/Store.js"
import { naming } from "./naming.js"
import type { PackedBatch } from "./packing.js"
import { Misuse, Taken } from "./plan.js"
import { type Database, loadDriver, type Values } from "./sqliteDriver.js"
import { runAtOnce, type Step, type Work } from "./work.js"
import { Writer } from "./writer.js"

/** What the thread can be asked for. It does one thing after the other, in the order in which it is asked. */
export type Request =
  /** To open the file for writing; `pragmas` are what the connection is told first. Comes first. */
  | { readonly _tag: "Open"; readonly filename: string; readonly pragmas: ReadonlyArray<string> }
  /** To commit a batch of a store whole or not at all. */
  | { readonly _tag: "Commit"; readonly batch: PackedBatch }
  /** To free as much as one transaction may; it answers whether more is left. */
  | { readonly _tag: "Free" }
  /** To run one statement; it answers with its rows, as arrays. */
  | { readonly _tag: "Run"; readonly sql: string; readonly params: Values }
  /** To bring everything into the one file, and close it: the thread may be ended. */
  | { readonly _tag: "Close" }

/** A request, and the number that its answer has. */
export interface Asked {
  readonly id: number
  readonly request: Request
}

/**
 * Why something was not done: the driver failed, the batch was a mistake, somebody else has taken what it states to own, there
 * is a mistake in here, or the file is another one.
 */
export interface Failure {
  readonly _tag: "Failed" | "Misuse" | "Taken" | "Defect" | "Displaced"
  readonly message: string
  /** As drivers and the file system have them. */
  readonly code?: string | undefined
  readonly errcode?: number | undefined
  readonly stack?: string | undefined
  /** Which owners, when they were taken. */
  readonly owners?: ReadonlyArray<Owner> | undefined
}

/** What a request has come to. */
export interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly failure?: Failure | undefined
}

/** What the driver has failed with. */
class DriverFailure {
  constructor(readonly cause: unknown) {}
}

/** The file was removed, or another one has its name: what would be written nobody would find again. */
class Displaced extends Error {
  override readonly message =
    "its file was removed or replaced while it was open: put it back, or restore a backup"
}

const attempt = <A>(f: () => A): A => {
  try {
    return f()
  } catch (cause) {
    throw new DriverFailure(cause)
  }
}

const failureOf = (thrown: unknown): Failure => {
  if (thrown instanceof Taken) return { _tag: "Taken", message: thrown.message, owners: thrown.owners }
  if (thrown instanceof Misuse) return { _tag: "Misuse", message: thrown.message }
  if (thrown instanceof Displaced) return { _tag: "Displaced", message: thrown.message }
  const cause: unknown = thrown instanceof DriverFailure ? thrown.cause : thrown
  const error: { code?: unknown; errcode?: unknown } & Error =
    cause instanceof Error ? cause : new Error(String(cause))
  return {
    _tag: thrown instanceof DriverFailure ? "Failed" : "Defect",
    message: error.message,
    code: typeof error.code === "string" ? error.code : undefined,
    errcode: typeof error.errcode === "number" ? error.errcode : undefined,
    stack: error.stack
  }
}

/** A file of its own needs no prefix. */
const unprefixed = naming("")

/** Which file has a name now. */
const inodeOf = (filename: string): string | undefined => {
  const stat = fs.statSync(filename, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
}

const driver = await loadDriver()
const now = () => performance.now()

/** An open file. */
class OpenFile {
  private writing: Writer | undefined
  private readonly inode: string | undefined

  constructor(
    private readonly database: Database,
    private readonly filename: string
  ) {
    this.inode = inodeOf(filename)
  }

  /** Returns whether it is still the one that has the name. Whoever cannot tell, at this moment, writes nothing. */
  get isInPlace(): boolean {
    return attempt(() => inodeOf(this.filename)) === this.inode
  }

  private readonly execute = ({ asks, statement: [sql, params] }: Step): ReadonlyArray<object> =>
    attempt(() => {
      const prepared = this.database.prepared(unprefixed(sql))
      if (asks) return prepared.all(params)
      prepared.run(params)
      return []
    })

  private run<A>(work: (writer: Writer) => Work<A>): A {
    this.writing ??= runAtOnce(Writer.start(), this.execute)
    return runAtOnce(work(this.writing), this.execute)
  }

  commit(batch: PackedBatch): void {
    this.run((writer) => writer.commit(batch))
  }
  free(): boolean {
    return this.run((writer) => writer.free(now))
  }
  values(sql: string, params: Values): ReadonlyArray<Values> {
    return attempt(() => this.database.prepared(sql).values(params))
  }
  async close(): Promise<void> {
    try {
      // A clean end leaves everything in the one file, also while a reader keeps the log file open.
      this.database.exec("PRAGMA wal_checkpoint(TRUNCATE)")
    } catch {
      // What could not be brought into it is in the log file, for whoever comes next.
    }
    await this.database.close()
  }
}

const open = (filename: string, pragmas: ReadonlyArray<string>): OpenFile =>
  attempt(() => {
    const database = driver.open(filename)
    try {
      for (const pragma of pragmas) database.exec(`PRAGMA ${pragma}`)
      return new OpenFile(database, filename)
    } catch (cause) {
      database.close()
      throw cause
    }
  })

let file: OpenFile | undefined

const opened = (): OpenFile => {
  if (file === undefined) throw new Error("the file is not open")
  return file
}

/** When the file that had lost its name was closed. */
let displaced: Promise<void> | undefined

/** Fails when the file has lost its name, and closes it first: nothing of its log is left beside the one that has it now. */
const refuseDisplaced = async (): Promise<void> => {
  displaced ??= file?.close()
  file = undefined
  await displaced
  throw new Displaced()
}

const answerTo = (request: Request): unknown => {
  switch (request._tag) {
    case "Open":
      file = open(request.filename, request.pragmas)
      return undefined
    case "Commit":
      return opened().commit(request.batch)
    case "Free":
      return opened().free()
    case "Run":
      return opened().values(request.sql, request.params)
    case "Close": {
      const closing = file?.close() ?? displaced
      file = undefined
      return closing
    }
  }
}

parentPort?.on("message", async ({ id, request }: Asked) => {
  const answer = (outcome: Omit<Answer, "id">) => parentPort?.postMessage({ id, ...outcome })
  try {
    if ((displaced !== undefined || file?.isInPlace === false) && request._tag !== "Close")
      await refuseDisplaced()
    const value = answerTo(request)
    answer({ value: value instanceof Promise ? await value : value })
  } catch (thrown) {
    answer({ failure: failureOf(thrown) })
  }
})
