/**
 * Delegation (§10): `delegate` event on the parent, then the checks, then the child in the same session. A
 * refusal is a `tool_result` on the parent and a typed error to its handler; the parent goes on.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import * as AgentRef from "../../protocol/AgentRef.js"
import * as Budget from "../../protocol/Budget.js"
import {
  AgentNotAvailable,
  InternalError,
  InvalidRequest,
  LeaseSubsetViolation,
  toPayload
} from "../../protocol/Errors.js"
import type { Event } from "../../protocol/Event.js"
import {
  budgetProblem,
  invalidLease,
  type Lease,
  type LeaseConstraints,
  subsetProblem
} from "../../protocol/Lease.js"
import type { Contract } from "../../services/agents/Agent.js"
import type { Registry } from "../../services/agents/Registry.js"
import type { Policy } from "../../services/auth/Policy.js"
import type { Delegate, Delegated, DelegateOptions } from "../../services/jobs/Job.js"
import type { LeaseService } from "../../services/lease/Lease.js"
import type { EventLog, JobLog } from "../../services/log/EventLog.js"
import type { IdGenerator } from "../../services/runtime/IdGenerator.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Checks from "./Checks.js"
import type { Emitter } from "./Emitter.js"
import type { Awaited, LiveJob } from "./LiveJob.js"
import type { Provision, Start, Table } from "./Start.js"

/** What of the parent's own services delegation uses. */
export interface Delegator {
  readonly emitter: Emitter
  readonly lease: LeaseService
}

type AnyContract = Contract<unknown, unknown, unknown, unknown, unknown, unknown>

export const make =
  (services: {
    readonly log: EventLog["Type"]
    readonly registry: Registry["Type"]
    readonly policy: Policy["Type"]
    readonly ids: IdGenerator["Type"]
    readonly options: Options
    readonly now: () => number
    readonly table: Table
    readonly start: (start: Start) => Effect.Effect<LiveJob | undefined>
    /** Credentials for the child, when it gets any. */
    readonly provision: Provision
  }) =>
  (parent: { readonly live: LiveJob; readonly job: JobLog }, { emitter, lease }: Delegator): Delegate => {
    const { log, registry, policy, ids, options, now, table } = services
    const { record } = parent.live

    /** Everything that is checked, in the order of a submit (§7.1). Counts the child as one that is on its way. */
    const check = (agent: string, input: unknown, delegateId: string, wanted: DelegateOptions) =>
      Effect.gen(function* () {
        const session = parent.live.owner
        const ref = Option.getOrUndefined(AgentRef.parse(agent))
        if (ref === undefined)
          return yield* new InvalidRequest({ message: "agent: expected name or name@version, in lower-case" })
        yield* Effect.asVoid(lease.authorize("agent.delegate", ref.name))
        if (!(yield* policy.mayUseAgent(session.identity, ref.name)))
          return yield* new AgentNotAvailable({ message: "no agent of that name" })
        const registered = yield* registry.resolve(ref)
        const constraints = yield* narrowed(wanted.constraints ?? {})
        const terms = wanted.lease ?? {}
        const problem =
          subsetProblem(terms, record.lease) ??
          budgetProblem(Budget.parse(terms["cost.budget"] ?? []), parent.job.remaining)
        if (problem !== undefined) return yield* new LeaseSubsetViolation({ message: problem })
        const run = yield* registered.prepare(input)
        if (parent.live.depth >= options.maxDelegationDepth)
          return yield* Checks.atLimit("delegation_depth", options.maxDelegationDepth)
        if (table.perPrincipal.get(record.principal) >= options.maxJobsPerPrincipal)
          return yield* Checks.atLimit("jobs_per_principal", options.maxJobsPerPrincipal)
        if (parent.live.children.size + parent.live.delegating >= options.maxChildrenPerJob)
          return yield* Checks.atLimit("children_per_job", options.maxChildrenPerJob)
        parent.live.delegating++
        const child: JobRecord = {
          jobId: ids.unsafeMake("job"),
          sessionId: session.sessionId,
          submitId: delegateId,
          principal: record.principal,
          agent: AgentRef.format(registered),
          status: "running",
          rejected: false,
          lease: terms,
          leaseConstraints: constraints,
          traceId: record.traceId,
          createdAt: now(),
          lastEventSeq: 0,
          parentJobId: record.jobId,
          delegateId
        }
        return { session, child, run, started: false }
      })

    /** The child's expiry: not behind the parent's, which it inherits. */
    const narrowed = (
      wanted: LeaseConstraints
    ): Effect.Effect<LeaseConstraints | undefined, InvalidRequest | LeaseSubsetViolation> => {
      const limit = record.leaseConstraints?.expires_at
      if (wanted.expires_at === undefined)
        return Effect.succeed(limit === undefined ? undefined : { expires_at: limit })
      if (limit !== undefined && Date.parse(wanted.expires_at) > Date.parse(limit))
        return new LeaseSubsetViolation({
          message: `expires_at: the delegating job's lease ends at ${limit}`
        })
      return Effect.as(Checks.checkConstraints(wanted, now()), wanted)
    }

    /** Opens the child; returns when it is accepted. */
    const open = (
      checked: Effect.Effect.Success<ReturnType<typeof check>>,
      parentSpan: Tracer.Span | undefined
    ) =>
      Effect.gen(function* () {
        const { session, child, run } = checked
        const stored = yield* Deferred.make<void>()
        let job: JobLog | undefined
        const live = yield* services.provision(session, child, () => {
          // From here on the parent's `children` have it.
          checked.started = true
          return services.start({
            session,
            record: child,
            run,
            parent,
            parentSpan,
            accepted: (opened) => {
              job = opened
            },
            stored: () => Deferred.unsafeDone(stored, Effect.void)
          })
        })
        if (live === undefined)
          return yield* new InternalError({ message: "the job is ending and delegates no more" })
        yield* Deferred.await(stored)
        if (job === undefined) return yield* new InternalError({ message: "the child could not be stored" })
        return { live, child, job }
      })

    const begin = (agent: string, given: unknown, options: DelegateOptions) =>
      Effect.gen(function* () {
        // Copies: the handler holds the originals, and the checks are not over in one go.
        const input = yield* asJson(given)
        const wanted: DelegateOptions = {
          lease: options.lease === undefined ? undefined : yield* asLease(options.lease),
          constraints: options.constraints === undefined ? undefined : { ...options.constraints }
        }
        const delegateId = ids.unsafeMake("del")
        yield* emitter.delegate({
          delegate_id: delegateId,
          agent,
          input,
          ...(wanted.lease === undefined ? {} : { lease_request: wanted.lease }),
          ...(wanted.constraints === undefined ? {} : { lease_constraints: wanted.constraints })
        })
        const parentSpan = Option.getOrUndefined(yield* Effect.option(Effect.currentSpan))
        const accepted = Effect.acquireUseRelease(
          check(agent, input, delegateId, wanted),
          (checked) => open(checked, parentSpan),
          ({ started }) =>
            Effect.sync(() => {
              if (!started) parent.live.delegating--
            })
        )
        return yield* Effect.tapError(accepted, (error) =>
          Effect.ignore(emitter.service.toolResult({ call_id: delegateId, error: toPayload(error) }))
        )
      })

    const handle = (
      live: LiveJob,
      { outcome, done }: Awaited,
      child: JobRecord,
      job: JobLog
    ): Delegated<unknown, never> => ({
      jobId: child.jobId,
      delegateId: child.delegateId as string,
      agent: child.agent,
      await: Deferred.await(outcome),
      events: log.events(job).pipe(
        Stream.filter((event) => event.type === "job.event"),
        Stream.map((event) => JSON.parse(event.payload) as Event)
      ),
      cancel: Effect.suspend(() => {
        live.end({ _tag: "Cancel", reason: "the job that delegated to it cancelled it" })
        return Deferred.await(done)
      })
    })

    const byName = (agent: string, input: unknown, wanted: DelegateOptions) =>
      Effect.map(begin(agent, input, wanted), ({ live, child, job }) =>
        handle(live, live.awaited as Awaited, child, job)
      )

    const byContract = (contract: AnyContract, input: unknown, wanted: DelegateOptions) =>
      Effect.gen(function* () {
        const encoded = yield* contract.encodeInput(input)
        const child = yield* byName(AgentRef.format(contract), encoded, wanted)
        return {
          ...child,
          await: contract.decodeOutcome(child.await, (message) => new InternalError({ message }))
        }
      })

    return ((agent: string | AnyContract, input: unknown, wanted: DelegateOptions = {}) =>
      typeof agent === "string" ? byName(agent, input, wanted) : byContract(agent, input, wanted)) as Delegate
  }

/** The input as it would have come over the wire. */
const asJson = (input: unknown): Effect.Effect<unknown, InvalidRequest> =>
  Effect.try({
    try: () => JSON.parse(JSON.stringify(input ?? null)) as unknown,
    catch: () => new InvalidRequest({ message: "input: cannot be written as JSON" })
  })

const asLease = (lease: Lease): Effect.Effect<Lease, InvalidRequest> => {
  const problem = invalidLease(lease)
  return problem === undefined
    ? Effect.sync(() => Checks.granted(lease))
    : new InvalidRequest({ message: `lease: ${problem}` })
}
