/** The requests of a client that give a handle on a job: submitting, subscribing, and attaching to an earlier one. */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { amiss } from "../../protocol/amounts.js"
import * as Errors from "../../protocol/Errors.js"
import * as Trace from "../../protocol/Trace.js"
import type { Contract, Outcome } from "../../services/agents/Agent.js"
import {
  type ClientError,
  type JobHandle,
  RequestTimeout,
  type SubmitOptions
} from "../../services/client/ArcpClient.js"
import { onLeave } from "../../services/runtime/onLeave.js"
import * as Tracing from "../../services/runtime/Tracing.js"
import type { ClientSession } from "./ClientSession.js"
import type { About } from "./Current.js"
import { type ClientParts, cancelling, handle, place, release, tellCancel, untyped } from "./handling.js"
import { JobInbox } from "./JobInbox.js"
import { hasEnded } from "./Reattach.js"

/** Milliseconds for which nothing has to come before a job is taken to be silent. */
const silence = 1_000

/**
 * Sees to it that a job gives an end that has `ended`, or of which nothing at all comes: others do not say how it has ended
 * before it is subscribed to, and perhaps not then. Fails its handles when the runtime says no more; and where it cannot be
 * asked, when nothing has come for as long as an answer may take, since the job that has the key may be over.
 */
const endOf = (session: ClientSession, inbox: JobInbox, jobId: string, ended: boolean) =>
  Effect.gen(function* () {
    let left = session.options.requestTimeout
    for (let asked = false; ; ) {
      const seen = inbox.newest
      yield* Effect.sleep(silence)
      if (inbox.ended || (!ended && inbox.newest > 0)) return
      if (inbox.newest !== seen) continue
      if (asked) return yield* new Errors.JobNotFound({ message: "no end" })
      if (session.features.includes("subscribe")) {
        const { payload } = yield* session.request(
          "job.subscribe",
          "job.subscribed",
          { job_id: jobId, history: true },
          { jobId }
        )
        asked = ended = hasEnded(payload)
        if (!ended) return
      } else {
        if (session.connection) left -= silence
        if (left <= 0) return yield* new RequestTimeout({ message: "no answer in time" })
      }
    }
  }).pipe(
    Effect.catchAll((error) =>
      Effect.sync(() => {
        if (ended || inbox.newest === 0) session.handles.fail(jobId, error)
      })
    )
  )

/** Returns `submit`, or with `scoped` `submitScoped`; see `ArcpClientService`. */
export const submit =
  (parts: ClientParts, scoped: boolean) =>
  (
    to: string | Contract<unknown, unknown, unknown, unknown, unknown, unknown>,
    input: unknown,
    options: SubmitOptions = {}
  ): Effect.Effect<JobHandle<unknown, unknown>, ClientError, Scope.Scope> =>
    Effect.gen(function* () {
      const { jobs, session } = parts
      const { extensions, idempotencyKey, maxRuntime, onInterrupt } = options
      yield* amiss("submit: ", options) ?? Effect.void
      const contract = typeof to === "string" ? { ...untyped, name: to } : to
      if (!contract?.encodeInput)
        return yield* new Errors.InvalidRequest({ message: "agent: name or contract" })
      const agent =
        "version" in contract && session.features.includes("agent_versions")
          ? `${contract.name}@${contract.version}`
          : contract.name
      const encoded = yield* contract.encodeInput(input)
      const detaches = onInterrupt === "detach" && !scoped
      const mine = yield* place(parts, (inbox, jobId) =>
        scoped ? cancelling(parts, inbox, jobId) : Effect.void
      )
      const asked = {
        agent,
        input: extensions === undefined ? (encoded ?? null) : encoded,
        lease_request: options.leaseRequest,
        lease_constraints: options.leaseConstraints,
        idempotency_key: idempotencyKey,
        max_runtime_sec: maxRuntime && Duration.toMillis(maxRuntime) / 1000
      }
      const services = yield* Effect.context<never>()
      const context = Tracing.contextOf(Context.getOption(services, Tracer.ParentSpan))
      const current = context?.traceparent.slice(3, 35)
      const traceId = options.traceId ?? current ?? session.options.traceId()
      // It would make this session the owner of what is being looked for by the numbers of the one before.
      for (const { inbox, key } of [...jobs.all])
        if (inbox.found && idempotencyKey && key === idempotencyKey) yield* Deferred.await(inbox.found)
      const accepting = session.request("job.submit", "job.accepted", asked, {
        extensions: current === traceId ? { ...extensions, [Trace.extension]: context } : extensions,
        traceId,
        // Without a key, a submit to another session could run a second time.
        repeatable: idempotencyKey !== undefined,
        onAnswer: ({ payload }) => {
          const about = { ...payload, agent: payload.agent || agent }
          // The key of a job that an earlier process has submitted gives its handle, unless it was not found again.
          const restored = jobs.claim(about.job_id)
          if (restored && !restored.inbox.failed) mine.inbox = restored.inbox
          else session.register(about.job_id, mine.inbox)
          mine.about = about
          mine.inbox.current.accept(about)
          jobs.add({ inbox: mine.inbox, about, key: idempotencyKey, claimed: true })
        },
        onLateAnswer: detaches ? undefined : ({ payload: { job_id } }) => tellCancel(parts, job_id)
      })
      // Accepted, but nobody has its handle: a scope that cancels does so when it is left.
      yield* Effect.onInterrupt(Effect.zipRight(accepting, session.options.save), () =>
        mine.about && !detaches && !scoped ? cancelling(parts, mine.inbox, mine.about.job_id) : Effect.void
      )
      const about = mine.about as About
      if (idempotencyKey && session.guesses)
        yield* Effect.forkScoped(endOf(session, mine.inbox, about.job_id, false))
      return handle(parts, mine.inbox, about, contract, onInterrupt)
    })

/** Returns `subscribe`; see `ArcpClientService`. */
export const subscribe =
  (parts: ClientParts) =>
  <O, F>(
    jobId: string,
    {
      contract,
      fromEventSeq,
      history
    }: {
      readonly contract?: Outcome<O, F> | undefined
      readonly history?: boolean | undefined
      readonly fromEventSeq?: number | undefined
    } = {}
  ) =>
    Effect.gen(function* () {
      const { session } = parts
      // The replay would come as new events of the same job to the handle that there is.
      if (history && session.handles.has(jobId))
        return yield* new Errors.InvalidRequest({
          message: "it has a handle"
        })
      const leave = () => session.unsubscribe(jobId)
      const mine = yield* place(parts, (inbox) =>
        Effect.sync(() => {
          if (!inbox.ended) leave()
        })
      )
      const { payload } = yield* session
        .request(
          "job.subscribe",
          "job.subscribed",
          { job_id: jobId, history, from_event_seq: fromEventSeq },
          {
            jobId,
            // Until then the answer to the next subscription could not be told from it.
            onLateAnswer: leave,
            onAnswer: ({ payload, request_id }) => {
              // What an earlier subscription, or a lost answer to this one, has brought is not part of it.
              // Others send the history before the answer.
              mine.inbox = new JobInbox(session, {
                events: request_id === undefined && payload.replayed ? 0 : payload.subscribed_from
              })
              mine.about = { ...payload, job_id: jobId }
              session.register(jobId, mine.inbox)
              mine.inbox.current.accept(payload)
            }
          }
        )
        .pipe(
          // What has come of it is not known, nor is what the job was subscribed to by before and was left meanwhile.
          Effect.onError(() => Effect.sync(leave))
        )
      if (session.guesses && hasEnded(payload))
        yield* Effect.forkScoped(endOf(session, mine.inbox, jobId, true))
      const seen = handle(parts, mine.inbox, payload, (contract ?? untyped) as Outcome<O, F>, "detach")
      return { ...seen, subscribed: payload }
    })

/** Returns `attach`; see `ArcpClientService`. */
export const attach =
  (parts: ClientParts) =>
  <O, F>(jobId: string, { contract }: { readonly contract?: Outcome<O, F> | undefined } = {}) =>
    Effect.suspend(() => {
      const restored = parts.jobs.claim(jobId)
      return restored
        ? Effect.as(
            onLeave(release(parts, restored.inbox, jobId)),
            handle(parts, restored.inbox, restored.about, (contract ?? untyped) as Outcome<O, F>)
          )
        : new Errors.JobNotFound({ message: `${jobId} was not restored` })
    })
