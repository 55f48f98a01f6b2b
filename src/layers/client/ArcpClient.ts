/** The client over any `Dialer`. See services/client/ArcpClient.ts for what it gives. */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleInterval from "effect/ScheduleInterval"
import type * as Scope from "effect/Scope"
import { amiss } from "../../protocol/amounts.js"
import * as Errors from "../../protocol/Errors.js"
import { all, type Feature, renewal } from "../../protocol/Features.js"
import {
  ArcpClient,
  type ArcpClientService,
  type ClientError,
  RequestTimeout,
  type ResumeState,
  type TokenSource,
  TokenUnavailable
} from "../../services/client/ArcpClient.js"
import { called } from "../../services/runtime/called.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { onLeave } from "../../services/runtime/onLeave.js"
import { Dialer, TransportError } from "../../services/transport/Transport.js"
import { askedToWait, backoff } from "./backoff.js"
import { ClientSession } from "./ClientSession.js"
import type { ClientState } from "./ClientState.js"
import { keepConnected } from "./connecting.js"
import { answer, type ClientParts, cancel } from "./handling.js"
import * as ids from "./ids.js"
import { list } from "./listing.js"
import * as Reattach from "./Reattach.js"
import { attach, submit, subscribe } from "./submitting.js"
import { isAsked } from "./token.js"

/** Options of a client. */
export interface Options {
  /**
   * The bearer token, or what gives one: an effect or a function, which is asked for each connection. Without one the
   * runtime has to know who connects by something else, such as a page's cookie.
   *
   * What is asked is asked again before a token ends that says when (`exp` of a JWT), and the session goes on with the new
   * one; a token that is refused is asked for once more. A failure is `TokenUnavailable`, and while a lost connection is
   * made again it is tried like any other, until the resume window has passed. A text ends the session with its token.
   */
  readonly token?: TokenSource | undefined
  /** Name and version told to the runtime. Default: `effect-arcp`, its version. */
  readonly name?: string | undefined
  readonly version?: string | undefined
  /** Features to ask for. Default: all; that tokens are renewed when `token` is asked. */
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

/** Milliseconds that one request, unlike a session, may be asked to wait. */
const day = 86_400_000

const delays = () =>
  Schedule.makeWithState(0, (now, error: unknown, attempt) =>
    Effect.map(backoff(attempt), (ms) => [
      attempt + 1,
      attempt,
      ScheduleDecision.continueWith(ScheduleInterval.after(now + askedToWait(error, day) + ms))
    ])
  )

/** May the request that failed like this be repeated? The errors say so, those of the protocol as §12 does. */
export const isRetryable = (error: unknown): boolean =>
  (error instanceof TransportError ||
    error instanceof RequestTimeout ||
    error instanceof TokenUnavailable ||
    Errors.isArcpError(error)) &&
  error.retryable

/**
 * Retries what may be retried, up to 8 times, from 100 ms, doubling, jittered; where the error asks to wait
 * (`details.retry_after`), that much later. Give the submit an idempotency key: then a retry whose first attempt did
 * arrive finds the same job.
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
    const connected = yield* Deferred.make<void>()
    const running = yield* keepConnected(session, Deferred.succeed(connected, undefined)).pipe(
      // A defect, in a transport for example, must not leave anybody waiting.
      Effect.catchAllCause((cause) =>
        Effect.sync(() => session.finish(new TransportError({ message: "connection failed", cause })))
      ),
      Effect.zipRight(Deferred.succeed(connected, undefined)),
      Effect.forkScoped
    )
    yield* Deferred.await(connected)
    if (session.over) return yield* session.over
    return running
  })

/**
 * Waits for the answers to submits that were given up, whose jobs are to be cancelled, where somebody is there to answer; two
 * seconds at most.
 */
const settled = ({ connection, requests }: ClientSession) =>
  connection && requests.left.size > 0
    ? called((back) => {
        const timer = setTimeout(back, 2_000)
        requests.onSettled = () => {
          clearTimeout(timer)
          back()
        }
      })
    : Effect.void

/** What the application is given of a session that is connected. */
const serviceOf = (parts: ClientParts, close: Effect.Effect<void>): ArcpClientService => {
  const { jobs, session } = parts
  const { elapsed } = session.options
  return {
    submit: submit(parts, false) as ArcpClientService["submit"],
    submitScoped: submit(parts, true) as ArcpClientService["submitScoped"],

    subscribe: subscribe(parts),
    attach: attach(parts),
    restored: Effect.sync(() => jobs.unclaimed),
    cancel: (jobId, reason) => cancel(parts, jobId, reason),
    answer: answer(parts),
    list: list(session),
    agents: Effect.sync(() => session.agents),
    ping: Effect.suspend(() => {
      const started = elapsed()
      return Effect.map(
        session.request("session.ping", "session.pong", session.ping),
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
    const {
      ack: { events: ackEvery = 256, interval: ackInterval = 1_000 } = {},
      held: { bytes = 8 * 1024 * 1024, events = 10_000 } = {},
      name = "effect-arcp",
      requestTimeout = 30_000,
      version = "0.1.0"
    } = options
    yield* amiss("ArcpClient: ", options) ??
      amiss("ArcpClient: ack.", options.ack) ??
      amiss("ArcpClient: held.", options.held) ??
      Effect.void
    const dialer = yield* Dialer
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()
    const scope = yield* Effect.scope
    const state = options.state && (yield* options.state)
    const saved = state?.saved
    const jobs = new Reattach.SubmittedJobs(state?.jobs)

    const session: ClientSession = new ClientSession(dialer, {
      token: options.token,
      name,
      version,
      // A renewal is a resume, for which there has to be something to come back to.
      features: options.features ?? (isAsked(options.token) && !dialer.ephemeral ? [...all, renewal] : all),
      reconnect: options.reconnect,
      ackEvery,
      ackInterval,
      requestTimeout: Duration.toMillis(requestTimeout),
      maxHeld: { events, bytes },
      resume: options.resume ?? saved,
      mayBeGone: options.resume === undefined,
      kept: state !== undefined,
      nextId: ids.messageId,
      traceId: ids.traceId,
      now,
      elapsed: monotonic(clock),
      save: state?.save(() => ({ ...session.resumeState, jobs: state.jobs.toSave(jobs.all) })) ?? Effect.void,
      reattach: (lost) =>
        Effect.gen(function* () {
          if (lost) state?.jobs.forget()
          session.round++
          for (const looking of Reattach.lookFor(session, jobs, lost)) yield* Effect.forkIn(looking, scope)
        })
    })
    for (const job of state?.jobs.restore(session) ?? []) jobs.add(job)

    const running = yield* serve(session)
    const closing = Effect.suspend(() => {
      if (session.over) return Effect.void
      session.acknowledge(1)
      session.post("session.close", {})
      // The writer may be waiting for its turn. Then the connection goes, flushed, with the fiber that serves it.
      return session.flush.pipe(
        Effect.zipRight(session.options.save),
        Effect.flatMap(() => {
          session.finish(new TransportError({ message: "closed here" }), null)
          return Fiber.interrupt(running)
        }),
        Effect.asVoid
      )
    })
    const close = Effect.zipRight(
      Effect.suspend(() => settled(session)),
      closing
    )
    yield* onLeave(close)
    return serviceOf({ session, jobs }, close)
  })

/** A client as a service, for as long as the layer lives. */
export const layer = (options: Options): Layer.Layer<ArcpClient, ClientError, Dialer> =>
  // Layers of contexts, here and of the dialer, are 34 bytes less in a browser.
  Layer.scopedContext(Effect.map(make(options), (client) => Context.make(ArcpClient, client)))

export * from "../../services/client/ArcpClient.js"
