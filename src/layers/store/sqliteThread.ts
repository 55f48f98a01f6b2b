/**
 * Who asks the thread that writes to a SQLite file. Starting one takes as long as opening the file, so it is started
 * first (`sqliteWorkerStart.ts`), and told which file it is when that is known to be ours.
 */
import type { Worker } from "node:worker_threads"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type { Scope } from "effect/Scope"
import { type Batch, Fenced, StoreError } from "../../services/store/Store.js"
import { pack } from "./packing.js"
import { toStoreError } from "./sqlError.js"
import type { Values } from "./sqliteDriver.js"
import type { Answer, Asked, Failure, Request } from "./sqliteWorker.js"
import { take } from "./sqliteWorkerStart.js"

/** Here no thread can be had. */
export class NoThread extends Data.TaggedError("NoThread")<{ readonly message: string }> {}

/** A thread that has a file open for writing. Nothing that it is asked for is given up half way. */
export interface SqliteThread {
  readonly commit: (batch: Batch) => Effect.Effect<void, StoreError | Fenced>
  /** Frees as much as one transaction may, and returns whether more is left. */
  readonly free: Effect.Effect<boolean, StoreError>
  /** Runs one statement, and returns its rows. */
  readonly run: (sql: string, params: Values) => Effect.Effect<ReadonlyArray<Values>, StoreError>
  /** Fails when the thread has died. */
  readonly died: Effect.Effect<never, StoreError>
}

/** A thread that is starting, or why there is none. */
export interface StartingThread {
  /**
   * Opens the file for the scope. Fails with `NoThread` when the thread could not be started, and with what SQLite fails
   * with. With the scope what was asked for is done, the file is closed, and the thread ends, in this order.
   */
  readonly open: (
    filename: string,
    pragmas: ReadonlyArray<string>
  ) => Effect.Effect<SqliteThread, NoThread | StoreError, Scope>
}

/** Milliseconds that a thread which is told to end has to do what it was asked for, and then to be gone: a disk may stand still. */
interface Patience {
  readonly closing: number
  readonly ending: number
}

/** Waits for so many milliseconds, by no clock that a test sets. */
const pause = (ms: number): Effect.Effect<void> =>
  Effect.async((resume) => {
    const timer = setTimeout(() => resume(Effect.void), ms)
    return Effect.sync(() => clearTimeout(timer))
  })

/** Waits for `effect`, for so long at the most; then `late` is done. */
const within = (effect: Effect.Effect<unknown>, ms: number, late: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.raceFirst(
    Effect.interruptible(Effect.as(effect, Effect.void)),
    Effect.interruptible(Effect.as(pause(ms), late))
  ).pipe(Effect.flatten)

type Resume = (outcome: Effect.Effect<unknown, StoreError | Fenced>) => void

/** Commits apart, nothing states what it owns. */
const unfenced = <A>(asked: Effect.Effect<A, StoreError | Fenced>): Effect.Effect<A, StoreError> =>
  Effect.catchTag(asked, "Fenced", Effect.die)

/** Asks a worker, and knows what it has not answered. */
class Asking {
  private readonly waiting = new Map<number, Resume>()
  private next = 0
  /** It was told to end, so that it may. */
  private ending = false
  /** Why it can be asked nothing any more. */
  over: StoreError | undefined
  readonly died = Deferred.unsafeMake<never, StoreError>(FiberId.none)

  constructor(
    private readonly worker: Worker,
    private readonly name: string,
    private readonly patience: Patience
  ) {
    worker.on("message", (answer: Answer) => this.answered(answer))
    worker.on("messageerror", (error) => this.ended(error.message))
    worker.on("error", (error) => this.ended(error instanceof Error ? error.message : String(error)))
    worker.on("exit", (code) => this.ended(`it has ended with code ${code}`))
    worker.unref()
  }

  ask(request: Request): Effect.Effect<unknown, StoreError | Fenced> {
    return Effect.async((resume) => {
      if (this.over !== undefined) return resume(Effect.fail(this.over))
      const asked: Asked = { id: this.next++, request }
      this.worker.postMessage(asked)
      // Only while somebody waits for it does the process live for it.
      if (this.waiting.size === 0) this.worker.ref()
      this.waiting.set(asked.id, resume)
    })
  }

  /** Lets it do what it was asked for, close the file, and end. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.ending = true
    const late = Effect.logWarning(
      `the thread that writes to ${this.name} has not closed it within ${this.patience.closing / 1000} s, and is ended; what it has committed is there`
    )
    return Effect.zipRight(
      within(Effect.ignore(this.ask({ _tag: "Close" })), this.patience.closing, late),
      this.terminate
    )
  })

  /** Ends it at once; returns when it has ended, or does not: a thread that the disk holds cannot be. */
  readonly terminate: Effect.Effect<void> = Effect.suspend(() => {
    this.ending = true
    return within(
      Effect.promise(() => this.worker.terminate()),
      this.patience.ending,
      Effect.void
    )
  })

  private answered({ failure, id, value }: Answer): void {
    if (failure?._tag === "Displaced") return this.ended(failure.message)
    const resume = this.waiting.get(id)
    this.waiting.delete(id)
    if (this.waiting.size === 0) this.worker.unref()
    resume?.(failure === undefined ? Effect.succeed(value) : outcomeOf(failure, this.name))
  }

  /** Fails what it has not answered. */
  private ended(reason: string): void {
    if (this.over !== undefined) return
    this.over = new StoreError({
      message: this.ending
        ? `the thread that writes to ${this.name} was ended, since the runtime stops`
        : `the thread that writes to ${this.name} has died (${reason}); restart the runtime`,
      publicMessage: "the database cannot be written any more"
    })
    // First, so that nobody tries again what fails now.
    if (!this.ending) Deferred.unsafeDone(this.died, Exit.fail(this.over))
    const failed = Effect.fail(this.over)
    for (const resume of this.waiting.values()) resume(failed)
    this.waiting.clear()
  }
}

/** Returns what a request that was not done has come to. */
const outcomeOf = (failure: Failure, name: string): Effect.Effect<never, StoreError | Fenced> => {
  const { _tag, code, errcode, message, owners = [], stack } = failure
  if (_tag === "Taken") return new Fenced({ owners })
  if (_tag === "Misuse") return Effect.fail(new StoreError({ message, misuse: true }))
  const error = Object.assign(new Error(message), { code, errcode, stack })
  return _tag === "Failed" ? Effect.fail(toStoreError(name)(error)) : Effect.die(error)
}

const threadOf = (asking: Asking): SqliteThread => ({
  commit: (batch) => Effect.asVoid(asking.ask({ _tag: "Commit", batch: pack(batch) })),
  free: Effect.map(unfenced(asking.ask({ _tag: "Free" })), (more) => more === true),
  run: (sql, params) =>
    Effect.map(unfenced(asking.ask({ _tag: "Run", sql, params })), (rows) => rows as ReadonlyArray<Values>),
  died: Deferred.await(asking.died)
})

/** Starts a thread for the scope; `name` is what error messages call the file, and `file` where the worker is. */
export const start = (
  name: string,
  file?: URL,
  patience: Patience = { closing: 10_000, ending: 2_000 }
): Effect.Effect<StartingThread, never, Scope> =>
  Effect.try({
    try: () => new Asking(take(file), name, patience),
    catch: (cause) => new NoThread({ message: cause instanceof Error ? cause.message : String(cause) })
  }).pipe(
    Effect.acquireRelease((asking) => asking.terminate),
    Effect.map((asking): StartingThread => ({ open: opening(asking) })),
    Effect.catchAll((none) => Effect.succeed<StartingThread>({ open: () => Effect.fail(none) }))
  )

const opening =
  (asking: Asking): StartingThread["open"] =>
  (filename, pragmas) =>
    unfenced(asking.ask({ _tag: "Open", filename, pragmas })).pipe(
      Effect.mapError((error) => (error === asking.over ? new NoThread({ message: error.message }) : error)),
      Effect.as(threadOf(asking)),
      Effect.acquireRelease(() => asking.close)
    )
