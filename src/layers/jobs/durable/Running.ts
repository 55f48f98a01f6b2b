/** Where something of a durable job runs: in which step, or in its handler's own fiber, or elsewhere. */
import type * as Fiber from "effect/Fiber"
import { type InternalError, InvalidRequest, PermissionDenied } from "../../../protocol/Errors.js"
import { type EmitOptions, HandlerThread, Step, type StepService } from "../../../services/jobs/Job.js"
import type { JournalEntry } from "../../../services/store/Store.js"
import { type Journal, keyProblem } from "./Journal.js"

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

/** What becomes of an emit: it is not logged again, it is refused, or it is logged, with an entry of the journal. */
export type Verdict =
  | { readonly _tag: "Known" }
  | { readonly _tag: "Refused"; readonly error: InvalidRequest | InternalError }
  | {
      readonly _tag: "Logged"
      readonly step: RunningStep | undefined
      readonly journal: JournalEntry | undefined
    }

const outside = { reason: "outside_step" }

const known: Verdict = { _tag: "Known" }

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

/** Returns what becomes of an emit that has an entry of its own, if it was not logged before and there is room for one. */
const logged = (
  journal: JournalEntry | InternalError | undefined,
  step: RunningStep | undefined
): Verdict => {
  if (journal === undefined) return known
  return "_tag" in journal ? { _tag: "Refused", error: journal } : { _tag: "Logged", step, journal }
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
    if (this.isMute(fiber)) return known
    if (paid && (step === undefined || step.over)) return paidOutside
    if (key !== undefined) {
      const problem = keyProblem(key)
      if (problem !== undefined)
        return { _tag: "Refused", error: new InvalidRequest({ message: `options.key: ${problem}` }) }
      return logged(this.journal.once(key), step)
    }
    if (step !== undefined) return step.over ? misplaced : { _tag: "Logged", step, journal: undefined }
    if (!this.isOwn(fiber)) return misplaced
    return logged(this.journal.place(), undefined)
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
