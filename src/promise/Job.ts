/// <reference lib="esnext.disposable" preserve="true" />
import type { FileSystem } from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import type * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { InvalidRequest } from "../protocol/Errors.js"
import type { Body } from "../protocol/Event.js"
import type { Lease, LeaseConstraints } from "../protocol/Lease.js"
import type { AnyVendorEvent, Readable } from "../services/agents/VendorEvent.js"
import type {
  InputRequest,
  JobCredential,
  JobEvent,
  JobHandle,
  ResultFile
} from "../services/client/ArcpClient.js"
import * as Given from "./given.js"
import { type Live, live } from "./Live.js"
import { iterate, run } from "./run.js"

/** What a job's promises and loops end with when it is detached from. The job goes on. */
export class Detached extends Error {
  override readonly name = "Detached"
  readonly code = "DETACHED"
  readonly retryable = false

  constructor(jobId: string) {
    super(`this program has detached from ${jobId}, which goes on`)
  }
}

/** A credential that was minted for the job. `value` is a function, so that it is not printed by accident. */
export type Credential = Omit<JobCredential, "value"> & { readonly value: () => string }

/** The file system to write results with; fails where there is none. */
export type FileSystemSource = Effect.Effect<Layer.Layer<FileSystem>, InvalidRequest>

/** A job that nothing refers to any more is detached from: what came of it for nobody is freed. */
const forgotten = new FinalizationRegistry<Scope.CloseableScope>((scope) =>
  Effect.runFork(Scope.close(scope, Exit.void))
)

/**
 * A job, seen from here. Nothing of it is lost by not reading: what nobody reads is held up to a limit, and fetched
 * again from the runtime's log when somebody does.
 */
export class Job<Output = unknown, Events extends AnyVendorEvent = AnyVendorEvent> {
  readonly jobId: string
  /** `name@version` */
  readonly agent: string
  readonly traceId: string | undefined
  /** As granted. */
  readonly lease: Lease
  readonly leaseConstraints: LeaseConstraints
  /**
   * Every event in order, exactly once, across reconnects; ends with the job. One loop at a time: one that is left
   * leaves the rest to the next one. A loop that is slow slows nobody else.
   */
  readonly events: AsyncIterable<JobEvent>
  /**
   * The bytes of the result as they come, checked for order and size, without ever holding all of them. Read once,
   * and in place of `result`. Ends with the job's error.
   */
  readonly chunks: AsyncIterable<Uint8Array>
  /** The newest `progress` event's body. */
  readonly progress: Live<Body<"progress"> | undefined>
  /** What is left of each budgeted currency, by the newest report; empty without a budget. */
  readonly budget: Live<ReadonlyMap<string, number>>
  /** The job's own credentials, with the newest value of each. */
  readonly credentials: Live<ReadonlyArray<Credential>>

  /**
   * What the job asks and waits for, each once, as far as its events were seen here; ends with the job. Answered by
   * `Session.answer`.
   */
  readonly inputs: AsyncIterable<InputRequest>

  readonly #handle: JobHandle<Output, unknown, Events>
  readonly #scope: Scope.CloseableScope
  readonly #files: FileSystemSource
  /** Whatever uses the job in any way, or waits for something of it, refers to its signal. */
  readonly #gone = new AbortController()
  #result: Promise<Output> | undefined

  /** @internal */
  constructor(
    handle: JobHandle<Output, unknown, Events>,
    scope: Scope.CloseableScope,
    files: FileSystemSource
  ) {
    const gone = this.#gone.signal
    this.#handle = handle
    this.#scope = scope
    this.#files = files
    this.jobId = handle.jobId
    this.agent = handle.agent
    this.traceId = handle.traceId
    this.lease = handle.lease
    this.leaseConstraints = handle.leaseConstraints
    this.events = iterate(handle.events, gone)
    this.chunks = iterate(handle.chunks, gone)
    this.progress = live(handle.progress, identity, gone)
    this.budget = live(handle.budget, identity, gone)
    this.credentials = live(handle.credentials, readable, gone)
    this.inputs = iterate(handle.inputs, gone)
    forgotten.register(gone, scope)
  }

  /**
   * The result, typed and decoded by the contract, if there is one. Rejects with the job's failure: the contract's
   * own as it is, else an error with `code`, `message` and `retryable`. A streamed result is put together in memory.
   * Asking for it is what starts that: who wants `chunks` or `saveResult` leaves this alone. A rejection that nobody
   * waits for is no unhandled one.
   */
  get result(): Promise<Output> {
    if (this.#result === undefined) {
      this.#result = this.#unlessGone(() => run(this.#handle.result))
      this.#result.catch(() => {})
    }
    return this.#result
  }

  /**
   * The values of the events of one vendor kind (`Event.vendor`), of those that the contract declares, if it does. In
   * place of `events`. Ends with `ProtocolViolation` at one that is not what its schema says.
   */
  of<Value>(event: Readable<Value> & Events): AsyncIterable<Value> {
    return iterate(Given.of(event) ?? this.#handle.of(event), this.#gone.signal)
  }

  /**
   * Writes the result to a file in constant memory, whatever its size: to a file of a random name beside it first, moved
   * to `path` when it is whole. In place of `result`. In Node, Deno and Bun, with `@effect/platform-node`; rejects with
   * `InvalidRequest` where there is no file system.
   */
  saveResult(path: string): Promise<ResultFile> {
    return run(
      Given.saveResult(path) ??
        Effect.flatMap(this.#files, (files) => Effect.provide(this.#handle.resultAsFile(path), files)),
      this.#gone.signal
    )
  }

  /** Asks for cancellation; settles when it is acknowledged. `result` then rejects with `Cancelled`. */
  cancel(reason?: string): Promise<void> {
    return run(Given.cancel(this.jobId, reason) ?? this.#handle.cancel(reason))
  }

  /** Lets go of the job, which goes on. What waits for it here ends with `Detached`. */
  detach(): Promise<void> {
    return this.#leave(new Detached(this.jobId))
  }

  /** Detaches. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.detach()
  }

  /** @internal Cancels with the signal, for as long as there is something to cancel. */
  cancelWith(signal: AbortSignal): void {
    const abort = () => {
      this.cancel(reasonOf(signal)).catch((error: unknown) => this.#leave(error))
    }
    if (signal.aborted) return abort()
    signal.addEventListener("abort", abort, { once: true })
    // Ends with the job, and unlike the result it takes nothing from other readers.
    const ended = Effect.ensuring(
      Stream.runDrain(this.#handle.progress.changes),
      Effect.sync(() => signal.removeEventListener("abort", abort))
    )
    Effect.runFork(Effect.forkIn(ended, this.#scope))
  }

  async #leave(error: unknown): Promise<void> {
    this.#gone.abort(error)
    await Effect.runPromise(Scope.close(this.#scope, Exit.void))
  }

  /** Not by interrupting what is waited for, which would cancel the job. */
  async #unlessGone<A>(start: () => Promise<A>): Promise<A> {
    const gone = this.#gone.signal
    gone.throwIfAborted()
    let abort = () => {}
    const left = new Promise<never>((_, reject) => {
      abort = () => reject(gone.reason)
      gone.addEventListener("abort", abort)
    })
    try {
      return await Promise.race([start(), left])
    } finally {
      gone.removeEventListener("abort", abort)
    }
  }
}

/** What the runtime is told of why a signal was aborted. */
const reasonOf = ({ reason }: AbortSignal): string =>
  reason instanceof Error ? reason.message : typeof reason === "string" ? reason : "aborted"

const readable = (credentials: ReadonlyArray<JobCredential>): ReadonlyArray<Credential> =>
  credentials.map(({ value, ...rest }) => ({ ...rest, value: () => Redacted.value(value) }))
