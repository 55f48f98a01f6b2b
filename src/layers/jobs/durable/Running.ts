/** Where something of a durable job runs: in which step, or in its handler's own fiber, or elsewhere. */
import type * as Fiber from "effect/Fiber"
import { InvalidRequest, PermissionDenied } from "../../../protocol/Errors.js"
import { type EmitOptions, HandlerThread, Step, type StepService } from "../../../services/jobs/Job.js"
import { type EventEntry, type Journal, keyProblem } from "./Journal.js"

type AnyFiber = Pick<Fiber.RuntimeFiber<unknown, unknown>, "currentContext" | "id">

/** An attempt of a step. */
export class RunningStep implements StepService {
  /** Its attempt has ended: what it left running does not belong to it any more. */
  over = false

  constructor(
    readonly jobId: string,
    readonly key: string,
    readonly attempt: number
  ) {}

  get idempotencyKey(): string {
    return `${this.jobId}:${this.key}`
  }
}

/** Where an event of a durable job comes from. */
export interface Origin {
  /** The step that it is in. */
  readonly step?: RunningStep | undefined
  /** What the journal has of it, where its step does not say that it is another one. */
  readonly entry?: EventEntry | undefined
}

/** What becomes of an emit: nothing, it is refused, or it is logged, unless the journal knows it. */
export type Verdict =
  | { readonly _tag: "Ignored" }
  | { readonly _tag: "Refused"; readonly error: InvalidRequest }
  | { readonly _tag: "Logged"; readonly origin: Origin }

const outside = { reason: "outside_step" }

const ignored: Verdict = { _tag: "Ignored" }

const misplaced: Verdict = {
  _tag: "Refused",
  error: new InvalidRequest({
    message:
      "a durable job emits in its handler's own fiber, in a step that runs, or with a { key }: anything else could not be known again after a crash",
    details: outside
  })
}

const paidOutside: Verdict = {
  _tag: "Refused",
  error: new InvalidRequest({
    message: "a cost of a durable job belongs in a step: outside one it would be paid again after a crash",
    details: outside
  })
}

/** Tells where an effect of a durable job runs, and what that makes of it. */
export class Whereabouts {
  /** The handler's own fiber. */
  private own: AnyFiber | undefined

  constructor(private readonly journal: Journal) {}

  /** The handler runs in this fiber. */
  begin(fiber: AnyFiber): void {
    this.own = fiber
  }

  /** Returns the step of this job in which a fiber runs. */
  stepOf({ currentContext }: AnyFiber): RunningStep | undefined {
    const step: unknown = currentContext.unsafeMap.get(Step.key)
    return step instanceof RunningStep && step.jobId === this.journal.jobId ? step : undefined
  }

  /** Tells whether a fiber is the handler's own. */
  isOwn(fiber: AnyFiber): boolean {
    return fiber === this.own || fiber.currentContext.unsafeMap.has(HandlerThread.key)
  }

  /** Tells whether a fiber is of a handler that has ended, or is run for its compensations only: nobody is to hear of it. */
  isMute(fiber: AnyFiber): boolean {
    return this.journal.settling && this.stepOf(fiber) === undefined
  }

  /** Decides what becomes of an emit. */
  emitted(fiber: AnyFiber, { key }: EmitOptions, paid: boolean): Verdict {
    const step = this.stepOf(fiber)
    if (this.isMute(fiber)) return ignored
    if (paid && (step === undefined || step.over)) return paidOutside
    if (key !== undefined) {
      const problem = keyProblem(key)
      if (problem !== undefined)
        return { _tag: "Refused", error: new InvalidRequest({ message: `options.key: ${problem}` }) }
      return { _tag: "Logged", origin: { step, entry: this.journal.once(key) } }
    }
    if (step !== undefined) return step.over ? misplaced : { _tag: "Logged", origin: { step } }
    if (!this.isOwn(fiber)) return misplaced
    return { _tag: "Logged", origin: { entry: this.journal.place() } }
  }

  /** Returns why a paid operation may not be done here, if it may not. */
  paid(fiber: AnyFiber, capability: string): PermissionDenied | undefined {
    const step = this.stepOf(fiber)
    return step !== undefined && !step.over
      ? undefined
      : new PermissionDenied({
          message: `${capability} refused: in a durable agent a paid call belongs in a step, or it would be paid again after a crash`,
          details: outside
        })
  }
}
