/** The client over any `Dialer`. See services/ArcpClient.ts for what it gives. */
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { InvalidRequest } from "../protocol/Errors.js"
import { all, type Feature } from "../protocol/Features.js"
import type * as Message from "../protocol/Message.js"
import { describe } from "../protocol/Problem.js"
import { type Contract, decodeOutcome } from "../services/Agent.js"
import {
  ArcpClient,
  type ArcpClientService,
  type ClientError,
  type JobHandle,
  ProtocolViolation,
  type ResumeState,
  type Status,
  type SubmitOptions
} from "../services/ArcpClient.js"
import { IdGenerator } from "../services/IdGenerator.js"
import { Dialer, TransportError } from "../services/Transport.js"
import { JobInbox } from "./client/JobInbox.js"
import { ClientSession } from "./client/Session.js"
import * as IdGeneratorLayer from "./IdGenerator.js"

export interface Options {
  readonly token: Redacted.Redacted
  /** Name and version told to the runtime. Default: `effect-arcp`, its version. */
  readonly name?: string
  readonly version?: string
  /** Features to ask for. Default: all. */
  readonly features?: ReadonlyArray<Feature>
  /** Delays between attempts to reconnect; when it ends the session is given up. Default: from 100 ms, doubling, jittered, at most 5 s. */
  readonly reconnect?: Schedule.Schedule<unknown>
  /**
   * Acknowledge (§6.5) after so many events that the application has taken, by default 256, and at least so
   * often while there are any, by default every second.
   */
  readonly ack?: { readonly events?: number; readonly interval?: Duration.DurationInput }
  /** Continue the session of another process. */
  readonly resume?: ResumeState
}

/** From 100 ms, doubling, jittered, at most 5 s. */
const defaultReconnect = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("5 seconds")),
  Schedule.jittered
)

/**
 * Opens a session. It reconnects and resumes by itself for as long as the resume window lets it, and is closed
 * with the scope. Fails when the first connection cannot be made or is refused.
 */
export const make = (options: Options): Effect.Effect<ArcpClientService, ClientError, Dialer | Scope.Scope> =>
  Effect.gen(function* () {
    const dialer = yield* Dialer
    const ids = yield* IdGenerator
    const clock = yield* Effect.clock
    const status = yield* SubscriptionRef.make<Status>({ _tag: "Connecting" })
    const session = new ClientSession(
      dialer,
      {
        token: options.token,
        name: options.name ?? "effect-arcp",
        version: options.version ?? "0.1.0",
        features: options.features ?? all,
        reconnect: options.reconnect ?? defaultReconnect,
        ackEvery: options.ack?.events ?? 256,
        ackInterval: Duration.decode(options.ack?.interval ?? "1 second"),
        resume: options.resume,
        nextId: ids.unsafeNext,
        now: () => clock.unsafeCurrentTimeMillis()
      },
      status
    )
    const ready = yield* Deferred.make<void, ClientError>()
    const running = yield* session
      .run(Deferred.succeed(ready, undefined), (error) => Deferred.fail(ready, error))
      .pipe(
        // A defect, in a transport for example, must not leave anybody waiting.
        Effect.catchAllDefect((cause) => {
          const error = new TransportError({ message: "the connection failed unexpectedly", cause })
          return Effect.zipRight(Deferred.fail(ready, error), session.finish(error))
        }),
        Effect.forkScoped
      )
    yield* Deferred.await(ready)

    const close = Effect.suspend(() => {
      if (session.over !== undefined) return Effect.void
      const closed = new TransportError({ message: "the session was closed by this client" })
      session.post("session.close", {})
      // The writer gets its turn, then the connection goes, flushed, with the fiber that serves it.
      return Effect.yieldNow().pipe(
        Effect.zipRight(session.finish(closed, null)),
        Effect.zipRight(Fiber.interrupt(running)),
        Effect.asVoid
      )
    })
    yield* Effect.addFinalizer(() => close)

    const cancel = (jobId: string, reason?: string) =>
      session
        .request("job.cancel", "job.cancelled", reason === undefined ? {} : { reason }, {
          jobId,
          repeatable: false
        })
        .pipe(Effect.asVoid)

    const handle = <O, F>(
      inbox: JobInbox,
      about: {
        readonly job_id: string
        readonly agent: string
        readonly trace_id?: string | undefined
        readonly lease: Message.Accepted["lease"]
      },
      result: JobHandle<O, F>["result"]
    ): JobHandle<O, F> => ({
      jobId: about.job_id,
      agent: about.agent,
      traceId: about.trace_id,
      lease: about.lease,
      events: inbox.events,
      result,
      cancel: (reason) => cancel(about.job_id, reason)
    })

    const submitRaw = (agent: string, input: unknown, options: SubmitOptions) =>
      Effect.gen(function* () {
        const inbox = yield* JobInbox.make
        const { payload } = yield* session.request(
          "job.submit",
          "job.accepted",
          {
            agent,
            input: input ?? null,
            lease_request: options.leaseRequest,
            lease_constraints: options.leaseConstraints,
            idempotency_key: options.idempotencyKey,
            max_runtime_sec: options.maxRuntimeSec
          },
          {
            traceId: options.traceId,
            // Without a key, a submit to another session could run a second time.
            repeatable: options.idempotencyKey !== undefined,
            onAnswer: (accepted) => session.register(accepted.payload.job_id, inbox)
          }
        )
        return { inbox, accepted: payload }
      })

    const submitTyped = <I, IE, O, OE, F, FE>(
      contract: Contract<I, IE, O, OE, F, FE>,
      input: I,
      options: SubmitOptions
    ): Effect.Effect<JobHandle<O, F>, ClientError> =>
      Effect.gen(function* () {
        const encoded = yield* Effect.mapError(
          Schema.encode(contract.input)(input),
          (error) => new InvalidRequest({ message: describe(error.issue, "input") })
        )
        const reference = session.features.includes("agent_versions")
          ? `${contract.name}@${contract.version}`
          : contract.name
        const { inbox, accepted } = yield* submitRaw(reference, encoded, options)
        return handle(
          inbox,
          accepted,
          untyped(inbox).pipe(decodeOutcome(contract, (message) => new ProtocolViolation({ message })))
        )
      })

    const untyped = (inbox: JobInbox): Effect.Effect<unknown, ClientError> =>
      Effect.map(inbox.result, ({ result }) => result)

    const service: ArcpClientService = {
      submit: (<I, IE, O, OE, F, FE>(
        agent: string | Contract<I, IE, O, OE, F, FE>,
        input: I,
        options: SubmitOptions = {}
      ) =>
        typeof agent === "string"
          ? Effect.map(submitRaw(agent, input, options), ({ inbox, accepted }) =>
              handle(inbox, accepted, untyped(inbox))
            )
          : submitTyped(agent, input, options)) as ArcpClientService["submit"],

      subscribe: (jobId, { history, fromEventSeq } = {}) =>
        Effect.gen(function* () {
          // The replay would come as new events of the same job to the handle that there is.
          if (history === true && session.has(jobId))
            return yield* new InvalidRequest({ message: `this client has a handle on ${jobId} already` })
          const inbox = yield* JobInbox.make
          const { payload } = yield* session.request(
            "job.subscribe",
            "job.subscribed",
            { job_id: jobId, history, from_event_seq: fromEventSeq },
            {
              jobId,
              // What an earlier subscription, or a lost answer to this one, has brought is not part of it.
              onAnswer: (answer) => session.register(jobId, inbox, answer.payload.subscribed_from)
            }
          )
          return { ...handle(inbox, payload, untyped(inbox)), subscribed: payload }
        }),
      unsubscribe: (jobId) =>
        Effect.sync(() => {
          session.unregister(jobId)
          session.post("job.unsubscribe", { job_id: jobId }, jobId)
        }),
      cancel,
      list: (filter) =>
        Stream.paginateChunkEffect(null as string | null, (cursor) =>
          session
            .request("session.list_jobs", "session.jobs", { filter, ...(cursor === null ? {} : { cursor }) })
            .pipe(
              Effect.map(
                ({ payload }) =>
                  [Chunk.fromIterable(payload.jobs), Option.fromNullable(payload.next_cursor)] as const
              )
            )
        ),
      agents: Effect.sync(() => session.agents),
      ping: Effect.suspend(() => {
        const started = clock.unsafeCurrentTimeMillis()
        const nonce = ids.unsafeNext()
        const sent_at = new Date(started).toISOString()
        return Effect.map(
          session.request("session.ping", "session.pong", { nonce, sent_at }),
          () => clock.unsafeCurrentTimeMillis() - started
        )
      }),
      status,
      resumeState: Effect.sync(() => session.resumeState),
      dropTransport: session.dropTransport,
      close
    }
    return service
  }).pipe(Effect.provide(IdGeneratorLayer.layer))

/** A client as a service, for as long as the layer lives. */
export const layer = (options: Options): Layer.Layer<ArcpClient, ClientError, Dialer> =>
  Layer.scoped(ArcpClient, make(options))

export * from "../services/ArcpClient.js"
