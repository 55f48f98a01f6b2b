/** The client over any `Dialer`. See services/client/ArcpClient.ts for what it gives. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleInterval from "effect/ScheduleInterval"
import type * as Scope from "effect/Scope"
import * as Errors from "../../protocol/Errors.js"
import { all, type Feature } from "../../protocol/Features.js"
import type * as Message from "../../protocol/Message.js"
import type { Contract, Outcome } from "../../services/agents/Agent.js"
import {
  ArcpClient,
  type ArcpClientService,
  type ClientError,
  type JobHandle,
  ProtocolViolation,
  type ResumeState,
  type SubmitOptions
} from "../../services/client/ArcpClient.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { Dialer, TransportError } from "../../services/transport/Transport.js"
import * as IdGeneratorLayer from "../runtime/IdGenerator.js"
import { ClientSession } from "./ClientSession.js"
import type { ClientState } from "./ClientState.js"
import { keepConnected } from "./connecting.js"
import { type About, JobInbox } from "./JobInbox.js"
import { end, type Pull, stream } from "./pull.js"
import * as Reattach from "./Reattach.js"
import { resultAsFile } from "./resultAsFile.js"

/** Options of a client. */
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
  /**
   * What one stream of a job holds for its reader: events, by default 10 000, and bytes, by default 8 MiB. What
   * comes beyond is fetched again from the runtime when it is read.
   */
  readonly held?: { readonly events?: number; readonly bytes?: number }
  /** Continue the session of another process; fails with `ResumeWindowExpired` when it is gone. */
  readonly resume?: ResumeState
  /**
   * Keeps the session's place, so that the next process goes on with it: `restored` are its jobs, `attach` gives
   * their handles. One process at a time.
   *
   * @example
   * { state: ClientState.keyValueStore(yield* KeyValueStore.KeyValueStore) }
   */
  readonly state?: ClientState
}

/**
 * From 100 ms, doubling, at most 5 s, each a fifth shorter or longer. Written out, since the combinators for it would
 * be 1 kB more in a browser.
 */
const backoff: Schedule.Schedule<number> = Schedule.makeWithState(0, (now, _, attempt) =>
  Effect.map(Random.nextRange(0.8, 1.2), (jitter) => [
    attempt + 1,
    attempt,
    ScheduleDecision.continueWith(ScheduleInterval.after(now + Math.min(5000, 100 * 2 ** attempt) * jitter))
  ])
)

/** May the request that failed like this be repeated? The protocol's errors say so (§12); a lost connection may. */
export const isRetryable = (error: unknown): boolean =>
  error instanceof TransportError || (Errors.isArcpError(error) && Errors.isRetryable(error))

/**
 * Retries what may be retried, up to 8 times, from 100 ms, doubling, jittered. Give the submit an idempotency key:
 * then a retry whose first attempt did arrive finds the same job.
 *
 * @example
 * client.submit(Review, input, { idempotencyKey: "nightly-2026-01-31" }).pipe(Effect.retry(ArcpClient.retrySchedule))
 */
export const retrySchedule: Schedule.Schedule<unknown, unknown> =
  // The marks keep it out of bundles that do not use it.
  /* @__PURE__ */ Schedule.intersect(
    /* @__PURE__ */ Schedule.whileInput(backoff, isRetryable),
    /* @__PURE__ */ Schedule.recurs(8)
  )

/** Where the frames of a job go, and which job that is once it is known. */
interface Destination {
  inbox: JobInbox
  jobId: string | undefined
}

/** Nothing to decode: whatever comes. */
const untyped: Outcome<unknown, never> = { decodeOutcome: (outcome) => outcome as never }

/**
 * Opens a session. It reconnects and resumes by itself for as long as the resume window lets it, and is closed
 * with the scope. Fails when the first connection cannot be made or is refused.
 */
export const make = (options: Options): Effect.Effect<ArcpClientService, ClientError, Dialer | Scope.Scope> =>
  Effect.gen(function* () {
    const dialer = yield* Dialer
    const ids = yield* IdGenerator
    const clock = yield* Effect.clock
    const scope = yield* Effect.scope
    const now = () => clock.unsafeCurrentTimeMillis()
    const elapsed = monotonic(clock)
    const state = options.state === undefined ? undefined : yield* options.state
    const saved = state?.saved
    const jobs = new Reattach.SubmittedJobs(state !== undefined)

    const session: ClientSession = new ClientSession(dialer, {
      token: options.token,
      name: options.name ?? "effect-arcp",
      version: options.version ?? "0.1.0",
      features: options.features ?? all,
      reconnect: options.reconnect ?? backoff,
      ackEvery: options.ack?.events ?? 256,
      ackInterval: Duration.decode(options.ack?.interval ?? "1 second"),
      maxHeld: { events: options.held?.events ?? 10_000, bytes: options.held?.bytes ?? 8 * 1024 * 1024 },
      resume:
        options.resume !== undefined
          ? { ...options.resume, mayBeGone: false }
          : saved === undefined
            ? undefined
            : { ...saved, mayBeGone: true },
      nextId: ids.unsafeNext,
      now,
      elapsed,
      save:
        state === undefined
          ? Effect.void
          : state.save(() => ({ ...session.resumeState, jobs: jobs.toSave() })),
      reattach: (orphans, lost) =>
        Effect.gen(function* () {
          jobs.forgetLeft()
          for (const orphan of orphans)
            yield* Effect.forkIn(Reattach.reattach(session, jobs, orphan, lost, now), scope)
        })
    })
    for (const job of saved?.jobs ?? []) jobs.restore(session, job, saved?.lastEventSeq ?? 0)

    const ready = yield* Deferred.make<void, ClientError>()
    const running = yield* keepConnected(session, Deferred.succeed(ready, undefined), (error) =>
      Deferred.fail(ready, error)
    ).pipe(
      // A defect, in a transport for example, must not leave anybody waiting.
      Effect.catchAllDefect((cause) => {
        const error = new TransportError({ message: "the connection failed unexpectedly", cause })
        return Effect.zipRight(
          Deferred.fail(ready, error),
          Effect.sync(() => session.finish(error))
        )
      }),
      Effect.forkScoped
    )
    yield* Deferred.await(ready)

    const close = Effect.suspend(() => {
      if (session.over !== undefined) return Effect.void
      session.acknowledge(1)
      session.post("session.close", {})
      // The writer may be waiting for its turn. Then the connection goes, flushed, with the fiber that serves it.
      return session.flush.pipe(
        Effect.zipRight(session.save),
        Effect.zipRight(
          Effect.sync(() =>
            session.finish(new TransportError({ message: "the session was closed by this client" }), null)
          )
        ),
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

    /** Cancels, when there is something left to cancel, without waiting: also when the connection is just away. */
    const cancelling = (inbox: JobInbox, jobId: string, reason: string) =>
      Effect.sync(() => {
        if (!inbox.ended) session.tell("job.cancel", { reason }, jobId)
      })
    const release = (inbox: JobInbox, jobId: string) =>
      Effect.sync(() => {
        jobs.leave(inbox)
        session.handles.release(jobId, inbox)
        session.read()
      })

    const handle = <O, F>(
      inbox: JobInbox,
      about: About,
      contract: Outcome<O, F>,
      onInterrupt: "cancel" | "detach"
    ): JobHandle<O, F> => {
      const outcome = Effect.map(inbox.result, ({ result }): unknown => result)
      return {
        jobId: about.job_id,
        agent: about.agent,
        traceId: about.trace_id,
        lease: about.lease,
        leaseConstraints: about.lease_constraints ?? {},
        events: inbox.events.items,
        progress: inbox.progress,
        budget: inbox.budget,
        credentials: inbox.credentials,
        result: contract.decodeOutcome(
          onInterrupt === "cancel"
            ? Effect.onInterrupt(outcome, () => cancelling(inbox, about.job_id, "interrupted"))
            : outcome,
          (message) => new ProtocolViolation({ message })
        ),
        chunks: inbox.chunks(),
        resultAsFile: (path) => resultAsFile(inbox, path),
        cancel: (reason) => cancel(about.job_id, reason)
      }
    }

    /**
     * A place for a job's frames, for as long as the scope; `leave` is run with it, once there is a job. Made before
     * the request is sent, so that an interruption at any point leaves nothing held.
     */
    const place = (leave: (inbox: JobInbox, jobId: string) => Effect.Effect<void>) =>
      Effect.acquireRelease(
        Effect.sync((): Destination => ({ inbox: new JobInbox(session), jobId: undefined })),
        ({ inbox, jobId }) =>
          jobId === undefined ? Effect.void : Effect.ensuring(leave(inbox, jobId), release(inbox, jobId))
      )

    const submitRaw = (agent: string, input: unknown, options: SubmitOptions, scoped: boolean) =>
      Effect.gen(function* () {
        const mine = yield* place((inbox, jobId) =>
          scoped ? cancelling(inbox, jobId, "the scope of the job was left") : Effect.void
        )
        const payload = {
          agent,
          input: input ?? null,
          lease_request: options.leaseRequest,
          lease_constraints: options.leaseConstraints,
          idempotency_key: options.idempotencyKey,
          max_runtime_sec:
            options.maxRuntime === undefined ? undefined : Duration.toSeconds(options.maxRuntime)
        }
        const { payload: about } = yield* session.request("job.submit", "job.accepted", payload, {
          traceId: options.traceId,
          // Without a key, a submit to another session could run a second time.
          repeatable: options.idempotencyKey !== undefined,
          onAnswer: ({ payload: about }) => {
            // The key of a job that an earlier process has submitted gives its handle.
            const restored = jobs.claim(about.job_id)
            if (restored !== undefined) mine.inbox = restored.inbox
            else session.register(about.job_id, mine.inbox)
            mine.jobId = about.job_id
            mine.inbox.accept(about)
            jobs.add(
              mine.inbox,
              about,
              options.idempotencyKey === undefined ? undefined : { payload, at: now() }
            )
          },
          ...(options.onInterrupt === "detach"
            ? {}
            : {
                onLateAnswer: ({ payload: { job_id } }) =>
                  session.tell("job.cancel", { reason: "interrupted" }, job_id)
              })
        })
        yield* session.save
        return { inbox: mine.inbox, about }
      })

    const submit =
      (scoped: boolean) =>
      (
        agent: string | Contract<unknown, unknown, unknown, unknown, unknown, unknown>,
        input: unknown,
        options: SubmitOptions = {}
      ): Effect.Effect<JobHandle<unknown, unknown>, ClientError, Scope.Scope> =>
        Effect.gen(function* () {
          const encoded = typeof agent === "string" ? input : yield* agent.encodeInput(input)
          const reference =
            typeof agent === "string"
              ? agent
              : session.features.includes("agent_versions")
                ? `${agent.name}@${agent.version}`
                : agent.name
          const { inbox, about } = yield* submitRaw(reference, encoded, options, scoped)
          return handle(
            inbox,
            about,
            typeof agent === "string" ? untyped : agent,
            options.onInterrupt ?? "cancel"
          )
        })

    const service: ArcpClientService = {
      submit: submit(false) as ArcpClientService["submit"],
      submitScoped: submit(true) as ArcpClientService["submitScoped"],

      subscribe: <O, F>(
        jobId: string,
        {
          contract,
          fromEventSeq,
          history
        }: {
          readonly contract?: Outcome<O, F>
          readonly history?: boolean
          readonly fromEventSeq?: number
        } = {}
      ) =>
        Effect.gen(function* () {
          // The replay would come as new events of the same job to the handle that there is.
          if (history === true && session.handles.has(jobId))
            return yield* new Errors.InvalidRequest({
              message: `this client has a handle on ${jobId} already`
            })
          const unsubscribe = () => session.post("job.unsubscribe", { job_id: jobId }, jobId)
          const mine = yield* place((inbox) =>
            Effect.sync(() => {
              if (!inbox.ended && !session.handles.sharedBy(jobId, inbox)) unsubscribe()
            })
          )
          const { payload } = yield* session.request(
            "job.subscribe",
            "job.subscribed",
            { job_id: jobId, history, from_event_seq: fromEventSeq },
            {
              jobId,
              onAnswer: ({ payload }) => {
                // What an earlier subscription, or a lost answer to this one, has brought is not part of it.
                mine.inbox = new JobInbox(session, { events: payload.subscribed_from })
                mine.jobId = jobId
                session.register(jobId, mine.inbox)
                mine.inbox.accept(payload)
              },
              onLateAnswer: () => {
                if (!session.handles.has(jobId)) unsubscribe()
              }
            }
          )
          const seen = handle(mine.inbox, payload, (contract ?? untyped) as Outcome<O, F>, "detach")
          return { ...seen, subscribed: payload }
        }),

      attach: <O, F>(jobId: string, { contract }: { readonly contract?: Outcome<O, F> } = {}) =>
        Effect.suspend(() => {
          const restored = jobs.claim(jobId)
          return restored === undefined
            ? Effect.fail(
                new Errors.JobNotFound({
                  message: `${jobId} is no job of an earlier process of this session, or was attached to already`
                })
              )
            : Effect.as(
                Effect.addFinalizer(() => release(restored.inbox, jobId)),
                handle(restored.inbox, restored.about, (contract ?? untyped) as Outcome<O, F>, "cancel")
              )
        }),
      restored: Effect.sync(() => jobs.unclaimed),
      cancel,
      list: (filter) =>
        stream(() => {
          let page: ReadonlyArray<Message.JobEntry> = []
          let at = 0
          let cursor: string | null | undefined
          const next: Pull<Message.JobEntry, ClientError> = Effect.suspend(() => {
            const entry = page[at++]
            if (entry !== undefined) return Effect.succeed(entry)
            if (cursor === null) return end
            return session.request("session.list_jobs", "session.jobs", { filter, cursor }).pipe(
              Effect.mapError(Option.some),
              Effect.flatMap(({ payload }) => {
                page = payload.jobs
                at = 0
                cursor = payload.next_cursor ?? null
                return next
              })
            )
          })
          return next
        }),
      agents: Effect.sync(() => session.agents),
      ping: Effect.suspend(() => {
        const started = elapsed()
        const nonce = ids.unsafeNext()
        const sent_at = new Date(now()).toISOString()
        return Effect.map(
          session.request("session.ping", "session.pong", { nonce, sent_at }),
          () => elapsed() - started
        )
      }),
      status: session.status,
      resumeState: Effect.sync(() => session.resumeState),
      dropTransport: session.dropTransport,
      close
    }
    return service
  }).pipe(Effect.provide(IdGeneratorLayer.layer))

/** A client as a service, for as long as the layer lives. */
export const layer = (options: Options): Layer.Layer<ArcpClient, ClientError, Dialer> =>
  Layer.scoped(ArcpClient, make(options))

export * from "../../services/client/ArcpClient.js"
