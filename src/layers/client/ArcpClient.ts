/** The client over any `Dialer`. See services/client/ArcpClient.ts for what it gives. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleInterval from "effect/ScheduleInterval"
import type * as Scope from "effect/Scope"
import * as Errors from "../../protocol/Errors.js"
import { all, type Feature } from "../../protocol/Features.js"
import {
  ArcpClient,
  type ArcpClientService,
  type ClientError,
  type ResumeState
} from "../../services/client/ArcpClient.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { Dialer, TransportError } from "../../services/transport/Transport.js"
import * as IdGenerator from "../runtime/IdGenerator.js"
import { backoff } from "./backoff.js"
import { ClientSession } from "./ClientSession.js"
import type { ClientState } from "./ClientState.js"
import { keepConnected } from "./connecting.js"
import { type ClientParts, cancel } from "./handling.js"
import { list } from "./listing.js"
import * as Reattach from "./Reattach.js"
import { attach, submit, subscribe } from "./submitting.js"

/** Options of a client. */
export interface Options {
  /** The bearer token. Without one the runtime has to know who connects by something else, such as a page's cookie. */
  readonly token?: Redacted.Redacted | undefined
  /** Name and version told to the runtime. Default: `effect-arcp`, its version. */
  readonly name?: string | undefined
  readonly version?: string | undefined
  /** Features to ask for. Default: all. */
  readonly features?: ReadonlyArray<Feature> | undefined
  /** Delays between attempts to reconnect; when it ends the session is given up. Default: from 100 ms, doubling, jittered, at most 5 s. */
  readonly reconnect?: Schedule.Schedule<unknown> | undefined
  /**
   * Acknowledge (§6.5) after so many events that the application has taken, by default 256, and at least so
   * often while there are any, by default every second.
   */
  readonly ack?:
    | { readonly events?: number | undefined; readonly interval?: Duration.DurationInput | undefined }
    | undefined
  /** What the runtime may take to answer a request, while there is a connection. Then that fails with `RequestTimeout`. Default: 30 seconds. */
  readonly requestTimeout?: Duration.DurationInput | undefined
  /**
   * What one stream of a job holds for its reader: events, by default 10 000, and bytes, by default 8 MiB. What
   * comes beyond is fetched again from the runtime when it is read.
   */
  readonly held?: { readonly events?: number | undefined; readonly bytes?: number | undefined } | undefined
  /** Continue the session of another process; fails with `ResumeWindowExpired` when it is gone. */
  readonly resume?: ResumeState | undefined
  /**
   * Keeps the session's place, so that the next process goes on with it: `restored` are its jobs, `attach` gives
   * their handles. One process at a time: another that is alive is noticed, and has a session of its own.
   *
   * @example
   * { state: ClientState.keyValueStore(yield* KeyValueStore.KeyValueStore) }
   */
  readonly state?: ClientState | undefined
}

const delays = () =>
  Schedule.makeWithState(0, (now, _: unknown, attempt) =>
    Effect.map(backoff(attempt), (ms) => [
      attempt + 1,
      attempt,
      ScheduleDecision.continueWith(ScheduleInterval.after(now + ms))
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
    /* @__PURE__ */ Schedule.whileInput(/* @__PURE__ */ delays(), isRetryable),
    /* @__PURE__ */ Schedule.recurs(8)
  )

/** Keeps the session connected in the scope, waits for the first connection, and gives the fiber that serves it. */
const serve = (session: ClientSession) =>
  Effect.gen(function* () {
    const ready = yield* Deferred.make<void, ClientError>()
    const fail = (error: ClientError) => Deferred.fail(ready, error)
    const running = yield* keepConnected(session, Deferred.succeed(ready, undefined), fail).pipe(
      // A defect, in a transport for example, must not leave anybody waiting.
      Effect.catchAllCause((cause) => {
        const error = new TransportError({ message: "the connection failed", cause })
        session.finish(error)
        return fail(error)
      }),
      Effect.forkScoped
    )
    yield* Deferred.await(ready)
    return running
  })

/** What the application is given of a session that is connected. */
const serviceOf = (parts: ClientParts, close: Effect.Effect<void>): ArcpClientService => {
  const { jobs, session } = parts
  const { elapsed, nextId } = session.options
  return {
    submit: submit(parts, false) as ArcpClientService["submit"],
    submitScoped: submit(parts, true) as ArcpClientService["submitScoped"],

    subscribe: subscribe(parts),
    attach: attach(parts),
    restored: Effect.sync(() => jobs.unclaimed),
    cancel: (jobId, reason) => cancel(parts, jobId, reason),
    list: list(session),
    agents: Effect.sync(() => session.agents),
    ping: Effect.suspend(() => {
      const started = elapsed()
      const nonce = nextId()
      const sent_at = new Date(session.now()).toISOString()
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
}

/**
 * Opens a session. It reconnects and resumes by itself for as long as the resume window lets it, and is closed
 * with the scope. Fails when the first connection cannot be made or is refused.
 */
export const make = (options: Options): Effect.Effect<ArcpClientService, ClientError, Dialer | Scope.Scope> =>
  Effect.gen(function* () {
    const dialer = yield* Dialer
    const ids = yield* IdGenerator.make
    const clock = yield* Effect.clock
    const scope = yield* Effect.scope
    const state = options.state && (yield* options.state)
    const saved = state?.saved
    const jobs = new Reattach.SubmittedJobs(state?.jobs)

    const session: ClientSession = new ClientSession(dialer, {
      token: options.token,
      name: options.name ?? "effect-arcp",
      version: options.version ?? "0.1.0",
      features: options.features ?? all,
      reconnect: options.reconnect,
      ackEvery: options.ack?.events ?? 256,
      ackInterval: options.ack?.interval ?? "1 second",
      requestTimeout: Duration.toMillis(options.requestTimeout ?? "30 seconds"),
      maxHeld: { events: options.held?.events ?? 10_000, bytes: options.held?.bytes ?? 8 * 1024 * 1024 },
      resume:
        options.resume === undefined
          ? saved && { ...saved, mayBeGone: true }
          : { ...options.resume, mayBeGone: false },
      kept: state !== undefined,
      nextId: ids.unsafeNext,
      traceId: ids.unsafeTraceId,
      now: () => clock.unsafeCurrentTimeMillis(),
      elapsed: monotonic(clock),
      save: state?.save(() => ({ ...session.resumeState, jobs: state.jobs.toSave(jobs.all) })) ?? Effect.void,
      reattach: (orphans, lost) =>
        Effect.gen(function* () {
          state?.jobs.forget()
          for (const orphan of orphans)
            yield* Effect.forkIn(Reattach.reattach(session, jobs, orphan, lost), scope)
        })
    })
    for (const job of state?.jobs.restore(session) ?? []) jobs.add(job)

    const running = yield* serve(session)
    const close = Effect.suspend(() => {
      if (session.over !== undefined) return Effect.void
      session.acknowledge(1)
      session.post("session.close", {})
      // The writer may be waiting for its turn. Then the connection goes, flushed, with the fiber that serves it.
      return session.flush.pipe(
        Effect.zipRight(session.save),
        Effect.map(() => session.finish(new TransportError({ message: "closed by this client" }), null)),
        Effect.zipLeft(Fiber.interrupt(running))
      )
    })
    yield* Effect.addFinalizer(() => close)
    return serviceOf({ session, jobs }, close)
  })

/** A client as a service, for as long as the layer lives. */
export const layer = (options: Options): Layer.Layer<ArcpClient, ClientError, Dialer> =>
  Layer.scoped(ArcpClient, make(options))

export * from "../../services/client/ArcpClient.js"
