/** A lessee that records: what is authorised is decided by names, what is emitted and spent is kept. */
import * as BigDecimal from "effect/BigDecimal"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberId from "effect/FiberId"
import { PermissionDenied, toPayload } from "../../src/protocol/Errors.js"
import type { Cost, LeaseError } from "../../src/services/lease/Lease.js"
import type { Lessee } from "../../src/services/lease/Leased.js"
import { type Recorded, type Recorder, recorder } from "../programs/agents/recorder.js"

export interface RecordingLessee extends Lessee {
  readonly recorder: Recorder
  /** What was emitted, costs as the metrics that they are. */
  readonly events: ReadonlyArray<Recorded>
  /** Every question asked of the lease: `capability target`. */
  readonly asked: Array<string>
  /** Refuses everything from now on with this error. */
  refuse: LeaseError | undefined
}

export interface LesseeOptions {
  /** Targets allowed, whatever the capability. */
  readonly allow: ReadonlyArray<string>
  /** What an emit waits for after it was recorded. */
  readonly commit?: Effect.Effect<void>
  /** What a spend waits for before it is recorded. */
  readonly beforeSpend?: Effect.Effect<void>
}

const metric = (cost: Cost) => ({
  name: `cost.${cost.name ?? "other"}`,
  value: Number(BigDecimal.isBigDecimal(cost.amount) ? BigDecimal.format(cost.amount) : cost.amount),
  unit: cost.currency,
  dimensions: { ...cost.dimensions }
})

export const lessee = (options: LesseeOptions): RecordingLessee => {
  const record = recorder(options.commit)
  const check = (capability: string, target: string) => {
    self.asked.push(`${capability} ${target}`)
    if (self.refuse !== undefined) return Either.left(self.refuse)
    return options.allow.includes(target)
      ? Either.right(target)
      : Either.left(new PermissionDenied({ message: `the lease has no ${capability} for it` }))
  }
  const self: RecordingLessee = {
    recorder: record,
    events: record.events,
    asked: [],
    refuse: undefined,
    job: record.service,
    lease: {
      flushed: Effect.void,
      terms: {},
      constraints: {},
      bounds: {},
      workspace: undefined,
      fetching: { maxBytes: 1024 * 1024, timeout: Duration.minutes(1), traceHeaders: false },
      check,
      authorize: (capability, target, more) =>
        Effect.suspend(() => check(capability, target)).pipe(
          Effect.tapError((error) =>
            more?.callId === undefined
              ? Effect.void
              : Effect.orDie(record.service.toolResult({ call_id: more.callId, error: toPayload(error) }))
          )
        ),
      namesHost: () => false,
      remaining: Effect.succeed(new Map()),
      spend: (cost) =>
        Effect.zipRight(options.beforeSpend ?? Effect.void, record.service.metric(metric(cost)))
    }
  }
  return self
}

/** A rendezvous: `reached` when somebody waits at it, and `open` lets them go on. */
export const gate = () => {
  const reached = Deferred.unsafeMake<void>(FiberId.none)
  const opened = Deferred.unsafeMake<void>(FiberId.none)
  return {
    reached: Deferred.await(reached),
    open: Deferred.succeed(opened, undefined),
    wait: Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(opened))
  }
}
