/// <reference lib="esnext.disposable" preserve="true" />
/** The client for people who await promises: the Effect client, a scope, and nothing of its own. */
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Client from "../layers/client/ArcpClient.js"
import type { InvalidRequest } from "../protocol/Errors.js"
import type * as Message from "../protocol/Message.js"
import type { Contract, Outcome } from "../services/agents/Agent.js"
import type { AnyVendorEvent } from "../services/agents/VendorEvent.js"
import type { Dialer } from "../services/transport/Transport.js"
import * as Given from "./given.js"
import { type FileSystemSource, Job } from "./Job.js"
import { type Live, live } from "./Live.js"
import { type ByUrl, type ConnectOptions, clientOptions } from "./options.js"
import { iterate, orThrow, run } from "./run.js"

/** What differs between Node and everywhere else. */
export interface Platform {
  readonly dial: (options: ByUrl) => Effect.Effect<Layer.Layer<Dialer>, InvalidRequest>
  readonly files: FileSystemSource
}

/** An open session, before it has methods. */
export interface OpenSession {
  readonly client: Client.ArcpClientService
  readonly scope: Scope.CloseableScope
  readonly files: FileSystemSource
}

/** What may be said of a submit beside its agent and input. */
export interface SubmitOptions extends Omit<Client.SubmitOptions, "onInterrupt"> {
  /**
   * Aborted before the job is accepted, it rejects `submit` with its reason, and no job is left; aborted later, it
   * cancels the job.
   */
  readonly signal?: AbortSignal | undefined
}

/** What may be said of a subscription. */
export interface SubscribeOptions<Output, Events extends AnyVendorEvent = AnyVendorEvent> {
  /** Types and decodes the result. */
  readonly contract?: Outcome<Output, unknown, Events> | undefined
  /** What has happened so far comes first. Not while this session has another handle on the job. */
  readonly history?: boolean | undefined
  /** Only what is newer, in the submitting session's numbering. */
  readonly fromEventSeq?: number | undefined
}

/** Opens a session; rejects when the first connection cannot be made or is refused. */
export const open = async (options: ConnectOptions, platform: Platform): Promise<OpenSession> => {
  orThrow(Given.connect(options))
  const scope = Effect.runSync(Scope.make())
  const opening = Effect.gen(function* () {
    const dialer = options.dialer ?? (yield* platform.dial(options))
    const context = yield* Layer.buildWithScope(dialer, scope)
    return yield* Effect.provide(Scope.extend(Client.make(clientOptions(options)), scope), context)
  })
  try {
    return { client: await run(opening, options.signal), scope, files: platform.files }
  } catch (error) {
    await run(Scope.close(scope, Exit.void))
    throw error
  }
}

/**
 * One session with one runtime. It reconnects and resumes by itself, sends unanswered requests again, and hands over
 * each event exactly once and in order. Everything rejects with errors that have a `code` and say whether they are
 * `retryable`.
 */
export class Session {
  /** Where the connection is. */
  readonly status: Live<Client.Status>
  readonly #client: Client.ArcpClientService
  readonly #scope: Scope.CloseableScope
  readonly #files: FileSystemSource

  /** @internal */
  constructor({ client, files, scope }: OpenSession) {
    this.#client = client
    this.#scope = scope
    this.#files = files
    this.status = live(client.status, identity)
  }

  /** Submits to an agent, by contract, which types and checks input and result, or by name. Settles when accepted. */
  submit<I, IE, O, OE, F, FE, Events extends AnyVendorEvent = AnyVendorEvent>(
    agent: Contract<I, IE, O, OE, F, FE, Events>,
    input: I,
    options?: SubmitOptions
  ): Promise<Job<O, Events>>
  submit(agent: string, input: unknown, options?: SubmitOptions): Promise<Job>
  async submit<I, IE, O, OE, F, FE>(
    agent: string | Contract<I, IE, O, OE, F, FE>,
    input: I,
    given: SubmitOptions = {}
  ): Promise<Job<O>> {
    orThrow(Given.submit(agent, given))
    const { signal, ...options } = given
    const submitted = this.#client.submit(agent as Contract<I, IE, O, OE, F, FE>, input, options)
    const job = await this.#job(submitted, signal)
    if (signal !== undefined) job.cancelWith(signal)
    // It was accepted in the same moment.
    signal?.throwIfAborted()
    return job
  }

  /** Watches a job of any session; `subscribed` is what the runtime said of it. */
  async subscribe<O = unknown, Events extends AnyVendorEvent = AnyVendorEvent>(
    jobId: string,
    options: SubscribeOptions<O, Events> = {}
  ): Promise<Job<O, Events> & { readonly subscribed: Message.Subscribed }> {
    orThrow(Given.subscribe(jobId, options))
    let subscribed: Message.Subscribed | undefined
    const handle = Effect.tap(this.#client.subscribe(jobId, options), (handle) => {
      subscribed = handle.subscribed
    })
    return Object.assign(await this.#job(handle), { subscribed: subscribed as Message.Subscribed })
  }

  /** A job that an earlier page or process of this session has submitted (option `state`), from where that one was. */
  async attach<O = unknown, Events extends AnyVendorEvent = AnyVendorEvent>(
    jobId: string,
    options: Pick<SubscribeOptions<O, Events>, "contract"> = {}
  ): Promise<Job<O, Events>> {
    orThrow(Given.attach(jobId, options))
    return this.#job(this.#client.attach(jobId, options))
  }

  /** Jobs of an earlier page or process of this session that nobody has attached to yet. */
  get restored(): ReadonlyArray<Client.Known> {
    return Effect.runSync(this.#client.restored)
  }

  /** What the runtime hosts, as of the last welcome. */
  get agents(): ReadonlyArray<Message.AgentEntry> {
    return Effect.runSync(this.#client.agents)
  }

  /**
   * All jobs that match, oldest first, page by page as they are read; with `limit` so many of them. Entries are as they are on the
   * wire, as those of events and of `subscribed` are, and have `job_id` where a handle has `jobId`.
   */
  list(
    filter?: NonNullable<Message.ListJobs["filter"]>,
    options?: Client.ListOptions
  ): AsyncIterable<Message.JobEntry> {
    return iterate(Given.list(filter, options) ?? this.#client.list(filter, options))
  }

  /** Asks for cancellation of a job of this session; settles when it is acknowledged. */
  cancel(jobId: string, reason?: string): Promise<void> {
    return run(Given.cancel(jobId, reason) ?? this.#client.cancel(jobId, reason))
  }

  /**
   * Answers what a job of any session asks (`Job.inputs`); settles when the answer is stored. The same answer again is accepted
   * again; another one rejects with `InvalidRequest`, and `details.reason`.
   */
  answer(jobId: string, inputId: string, value: unknown, options?: Client.AnswerOptions): Promise<void> {
    return run(
      Given.answer(jobId, inputId, value, options) ?? this.#client.answer(jobId, inputId, value, options)
    )
  }

  /** Milliseconds there and back. */
  ping(): Promise<number> {
    return run(this.#client.ping)
  }

  /** What another process needs to continue this session (option `resume`); secret. */
  get resumeState(): Client.ResumeState {
    return Effect.runSync(this.#client.resumeState)
  }

  /** Cuts the connection, not the session, which resumes by itself. For tests and demonstrations. */
  dropTransport(): Promise<void> {
    return run(this.#client.dropTransport)
  }

  /**
   * Closes the session, which can still be resumed within its window. Jobs go on; what waits for them here ends with
   * a `TransportError`.
   */
  async close(): Promise<void> {
    await run(this.#client.close)
    await run(Scope.close(this.#scope, Exit.void))
  }

  /** Closes the session. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Each job has a scope of its own, left when it is detached from, or with the session. */
  async #job<O, F>(
    handle: Effect.Effect<Client.JobHandle<O, F>, Client.ClientError, Scope.Scope>,
    signal?: AbortSignal
  ): Promise<Job<O>> {
    const scope = Effect.runSync(Scope.fork(this.#scope, ExecutionStrategy.sequential))
    try {
      return new Job<O>(await run(Scope.extend(handle, scope), signal), scope, this.#files)
    } catch (error) {
      await run(Scope.close(scope, Exit.void))
      throw error
    }
  }
}
