/**
 * Delegation (§10): `delegate` event on the parent, then the checks, then the child in the same session. A
 * refusal is a `tool_result` on the parent and a typed error to its handler; the parent goes on.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import * as AgentRef from "../../protocol/AgentRef.js"
import * as Budget from "../../protocol/Budget.js"
import { type ArcpError, InternalError, InvalidRequest, LeaseSubsetViolation } from "../../protocol/Errors.js"
import { json } from "../../protocol/EventText.js"
import { parseJson } from "../../protocol/Json.js"
import {
  budgetProblem,
  comparing,
  excess,
  invalidLease,
  type Lease,
  type LeaseConstraints,
  withModelsOf
} from "../../protocol/Lease.js"
import type { Contract } from "../../services/agents/Agent.js"
import type { Delegate, DelegateOptions } from "../../services/jobs/Job.js"
import type { LeaseService } from "../../services/lease/Lease.js"
import { inTurns } from "../../services/runtime/inTurns.js"
import * as Tracing from "../../services/runtime/Tracing.js"
import { type JobRecord, Op } from "../../services/store/Store.js"
import type { Open, Submitter } from "./Candidate.js"
import * as Checks from "./Checks.js"
import { type AcceptedChild, handleOf } from "./Child.js"
import * as Delegating from "./durable/Delegating.js"
import type { Durable } from "./durable/Durable.js"
import * as Survival from "./durable/Survival.js"
import type { Emitter } from "./Emitter.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { LiveJob } from "./LiveJob.js"
import { type Hold, withHold } from "./Reservations.js"
import type { RunningJob } from "./RunningJobs.js"

type AnyContract = Contract<unknown, unknown, unknown, unknown, unknown, unknown>

interface DelegationContext {
  readonly parts: JobParts
  readonly open: Open
  readonly parent: RunningJob
  /** The parent's. */
  readonly submitter: Submitter
  /** The parent's own. */
  readonly emitter: Emitter
  readonly lease: LeaseService
  /** Of a durable job: its delegations are steps. */
  readonly durable: Durable | undefined
}

/** What is asked for, copied: the handler holds the originals, and the checks are not over in one go. */
interface Wanted {
  readonly agent: string
  readonly input: unknown
  readonly lease: Lease | undefined
  readonly constraints: LeaseConstraints | undefined
}

/** The child's expiry: not after the parent's, which it inherits. */
const narrowed = (
  parent: JobRecord,
  wanted: LeaseConstraints,
  now: number
): Effect.Effect<LeaseConstraints | undefined, InvalidRequest | LeaseSubsetViolation> => {
  const limit = parent.leaseConstraints?.expires_at
  if (wanted.expires_at === undefined)
    return Effect.succeed(limit === undefined ? undefined : { expires_at: limit })
  if (limit !== undefined && Date.parse(wanted.expires_at) > Date.parse(limit))
    return new LeaseSubsetViolation({
      message: `expires_at: the delegating job's lease ends at ${limit}`
    })
  return Effect.as(Checks.checkConstraints(wanted, now), wanted)
}

/** Everything that is checked, in the order of a submit (§7.1). Counts the child with its parent, into its hold. */
const check = (
  { lease, parent, parts, submitter }: DelegationContext,
  wanted: Wanted,
  delegateId: string,
  parentSpan: Tracer.AnySpan,
  hold: Hold
) =>
  Effect.gen(function* () {
    const { ids, now, options, policy, registry } = parts
    const { live, log } = parent
    const { record, owner } = live
    const ref = Option.getOrUndefined(AgentRef.parse(wanted.agent))
    if (ref === undefined)
      return yield* new InvalidRequest({ message: "agent: expected name or name@version, in lower-case" })
    yield* lease.authorize("agent.delegate", ref.name)
    yield* Checks.checkAgent(policy, submitter.identity, ref.name)
    const registered = yield* registry.resolve(ref)
    const constraints = yield* narrowed(record, wanted.constraints ?? {}, now())
    const terms = Checks.granted(
      withModelsOf(wanted.lease ?? {}, record.lease, options.allowModelsWithoutLease)
    )
    const budget = Budget.parse(terms["cost.budget"] ?? [])
    // Each of them: one without a budget bounds nothing, and what it delegates to spends what those above it have.
    const above = log.allRemaining
    const problem =
      excess(wanted.lease ?? {}, options) ??
      (yield* inTurns(() => comparing(terms, record.lease, options.maxLeaseSteps))) ??
      above.map((remaining) => budgetProblem(budget, remaining)).find((found) => found !== undefined)
    if (problem !== undefined) return yield* new LeaseSubsetViolation({ message: problem })
    const run = yield* registered.prepare(wanted.input)
    // The policy, and a lease that is large, may have taken their time.
    yield* lease.check("agent.delegate", ref.name)
    if (live.depth >= options.maxDelegationDepth)
      return yield* Checks.atLimit("delegation_depth", options.maxDelegationDepth)
    if (live.childCount >= options.maxChildrenPerJob)
      return yield* Checks.atLimit("children_per_job", options.maxChildrenPerJob)
    live.childCount++
    hold.keepPlace(() => {
      live.childCount--
    })
    const child: JobRecord = {
      jobId: ids.unsafeMake("job"),
      sessionId: owner.sessionId,
      submitId: delegateId,
      principal: record.principal,
      agent: AgentRef.format(registered),
      status: "running",
      rejected: false,
      lease: terms,
      anyModel: Checks.anyModelIn(terms, options),
      budgetAbove: above.length === 0 ? undefined : Budget.entries(Budget.least(above)),
      leaseConstraints: constraints,
      traceId: record.traceId,
      // Told on where it was told.
      parentSpan: record.parentSpan && Tracing.remote(parentSpan),
      createdAt: now(),
      lastEventSeq: 0,
      parentJobId: record.jobId,
      delegateId,
      // It runs where what it was delegated by does.
      node: record.node,
      survival: Survival.begun(registered.restart, submitter, now())
    }
    return {
      session: owner,
      submitter,
      record: child,
      run,
      agent: registered,
      input: wanted.input,
      parent,
      parentSpan
    }
  })

/** The span that delegates: where the handler is, or else, outside its job's trace, that of the job. */
const spanIn = ({ record, span }: LiveJob): Effect.Effect<Tracer.AnySpan> =>
  Effect.map(Effect.serviceOption(Tracer.ParentSpan), (current) =>
    current._tag === "Some" && current.value.traceId === record.traceId
      ? current.value
      : (span ?? Tracing.submitter(record))
  )

/** Says on the parent that it delegates, then checks, opens the child, and returns when that is accepted. */
const begin = (
  context: DelegationContext,
  wanted: Wanted,
  journaled?: Delegating.Journaled
): Effect.Effect<AcceptedChild, ArcpError> =>
  Effect.gen(function* () {
    const { emitter, open, parent, parts } = context
    const delegateId = journaled?.delegateId ?? parts.ids.unsafeMake("del")
    if (journaled?.begun !== "told")
      yield* emitter.delegate(
        {
          delegate_id: delegateId,
          agent: wanted.agent,
          input: wanted.input,
          ...(wanted.lease === undefined ? {} : { lease_request: wanted.lease }),
          ...(wanted.constraints === undefined ? {} : { lease_constraints: wanted.constraints })
        },
        journaled?.begun
      )
    if (journaled?.isBegun() === false) return yield* Effect.interrupt
    const parentSpan = yield* spanIn(parent.live)
    const accepted = withHold((hold) =>
      Effect.gen(function* () {
        const checked = yield* check(context, wanted, delegateId, parentSpan, hold)
        const { jobId } = checked.record
        const candidate =
          journaled === undefined
            ? checked
            : {
                ...checked,
                ops: () => [Op.PutJournal({ jobId: parent.log.jobId, entries: [journaled.opened(jobId)] })],
                unopened: journaled.unopened
              }
        const live = yield* open(candidate, hold)
        const awaited = live?.awaited
        if (live === undefined || awaited === undefined)
          throw new Error("a delegated job is awaited, and waits for nothing")
        return { live, awaited, record: candidate.record, log: yield* Deferred.await(awaited.opened) }
      })
    )
    return yield* accepted.pipe(
      Faults.contained("a delegation was decided"),
      Effect.tapError((error) => Effect.ignore(emitter.refused(delegateId, error, journaled?.refused(error))))
    )
  })

/** Returns when a child is not being opened any more. */
const openingOf = ({ children }: LiveJob, jobId: string): Effect.Effect<void> => {
  for (const { awaited, record } of children)
    if (record.jobId === jobId && awaited !== undefined) return Effect.ignore(Deferred.await(awaited.opened))
  return Effect.void
}

/** Returns the `delegate` of a running job (§10). */
export const make = (context: DelegationContext): Delegate => {
  const byName = (agent: string, given: unknown, options: DelegateOptions) =>
    Effect.gen(function* () {
      const wanted: Wanted = {
        agent,
        input: yield* asJson(given ?? null, "input"),
        lease:
          options.lease === undefined ? undefined : yield* asLease(yield* asJson(options.lease, "lease")),
        constraints: options.constraints === undefined ? undefined : { ...options.constraints }
      }
      const { durable, parts } = context
      return durable === undefined
        ? handleOf(parts, yield* begin(context, wanted))
        : yield* Delegating.delegate(parts, durable, wanted, options, {
            begin: (journaled) =>
              Effect.map(begin(context, wanted, journaled), (child) => handleOf(parts, child)),
            opening: (jobId) => openingOf(context.parent.live, jobId)
          })
    })

  const byContract = (contract: AnyContract, input: unknown, options: DelegateOptions) =>
    Effect.gen(function* () {
      const encoded = yield* contract.encodeInput(input)
      const child = yield* byName(AgentRef.format(contract), encoded, options)
      return {
        ...child,
        await: contract.decodeOutcome(child.await, (message) => new InternalError({ message }))
      }
    })

  return ((agent: string | AnyContract, input: unknown, options: DelegateOptions = {}) =>
    typeof agent === "string" ? byName(agent, input, options) : byContract(agent, input, options)) as Delegate
}

/** What was given as it would have come over the wire. */
const asJson = (given: unknown, name: string): Effect.Effect<unknown, InvalidRequest> =>
  Either.match(json(given, name), {
    onLeft: (message) => new InvalidRequest({ message }),
    onRight: (text) => Effect.succeed(parseJson(text))
  })

const asLease = (given: unknown): Effect.Effect<Lease, InvalidRequest> => {
  const problem = invalidLease(given)
  return problem === undefined
    ? Effect.sync(() => Checks.granted(given as Lease))
    : new InvalidRequest({ message: `lease: ${problem}` })
}
