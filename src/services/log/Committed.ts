/**
 * What a runtime has committed, as it commits it: for metrics, audit, and whatever else has to see every job and not
 * only those of one session. An event is here when it is durable, and before anybody is answered.
 *
 * @example
 * const audit = Committed.consumer((events) =>
 *   Stream.runForEach(events, ({ job, text, type }) => write(`${job.principal} ${job.jobId} ${type} ${text}\n`))
 * )
 * Runtime.layerMemory({ consumers: [audit] })
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Event } from "../../protocol/Event.js"
import type { Accepted, JobError, JobResult } from "../../protocol/Message.js"

/** The job that an event is of. */
export interface CommittedJob {
  readonly jobId: string
  /** Whoever submitted it; of a delegated job, whoever submitted the first of its ancestors. */
  readonly principal: string
  /** `name@version`; of a refused submit, whatever was asked for. */
  readonly agent: string
  readonly traceId: string
  /** The session that owned the job when this was committed. */
  readonly sessionId: string
  /** The job that delegated to it. */
  readonly parentJobId: string | undefined
}

interface CommittedFields {
  readonly job: CommittedJob
  /** The place in the job's log: from 1, without a gap. 0 for `job.accepted`, which is in the record of the job. */
  readonly seq: number
  /** The kind of a `job.event`; empty for every other type. */
  readonly kind: string
  /** The payload as JSON text, without the values of credentials. */
  readonly text: string
  /** Only this session is sent the event; `undefined` means every observer. */
  readonly audience: string | undefined
  /** How many events this consumer lost directly before this one, because it did not read them in time. */
  readonly missed: number
}

/**
 * Something that was committed for a job: that it was accepted, an event of its, or its end. `payload` is parsed when
 * it is asked for.
 *
 * The values of the job's credentials are nowhere in it: not in the accept, not in a rotation, and where an agent says
 * one in a text it is replaced.
 */
export type CommittedEvent = CommittedFields &
  (
    | { readonly type: "job.accepted"; readonly payload: Accepted }
    | { readonly type: "job.event"; readonly payload: Event }
    | { readonly type: "job.result"; readonly payload: JobResult }
    | { readonly type: "job.error"; readonly payload: JobError }
  )

/** How much waits for a consumer, and what happens when that is full. */
export interface Options {
  /** Events that may wait to be taken. Default: 1 024. */
  readonly capacity?: number | undefined
  /** Bytes of their payloads that may wait; one larger event may. Default: 8 MiB. */
  readonly capacityBytes?: number | undefined
  /**
   * What happens when that is full. Default: `suspend`.
   * - `suspend`: agents that emit, and submits, wait until there is room, and this consumer loses nothing. Ends of jobs
   *   do not wait, and take the little more room that they need. A consumer that waits for this runtime itself, for
   *   example for a job that it submits, must not suspend it
   * - `dropOldest`: the oldest of what waits is lost
   * - `dropNewest`: what comes is lost
   */
  readonly whenFull?: "suspend" | "dropOldest" | "dropNewest" | undefined
}

/** A consumer's place: everything that is committed after it was made comes here, until its scope closes. */
export interface Subscription {
  /**
   * What was committed, per job in the order of its events, across jobs in the order of the commits. Ends with the
   * event log, after its last event. One reader.
   */
  readonly events: Stream.Stream<CommittedEvent>
  /** Returns how many events were lost because they were not read in time. */
  readonly dropped: Effect.Effect<number>
}

/**
 * Reads what a runtime commits for as long as it lives: given to it as one of its `consumers`, it is subscribed before the
 * first commit and sees the last.
 */
export interface Consumer<R = never> {
  readonly consume: (events: Stream.Stream<CommittedEvent>) => Effect.Effect<unknown, unknown, R>
  readonly options: Options | undefined
}

/**
 * Makes a consumer. When the runtime closes, it gets up to 5 seconds for what waits. A failure of it is logged, and ends
 * this consumer and nothing else; what it needs for itself, it can acquire in its `Scope`.
 */
export const consumer = <R>(
  consume: (events: Stream.Stream<CommittedEvent>) => Effect.Effect<unknown, unknown, R>,
  options?: Options
): Consumer<R> => ({ consume, options })

/** Gives what the runtime commits, to any number of consumers. Costs nothing while there is none. */
export class Committed extends Context.Tag("arcp/services/Committed")<
  Committed,
  {
    /** Subscribes for the scope: what is committed after this returns is not missed. Dies on a bad capacity. */
    readonly subscribe: (options?: Options) => Effect.Effect<Subscription, never, Scope.Scope>
    /** Subscribes when the stream begins to run, until it ends or its reader leaves. */
    readonly events: (options?: Options) => Stream.Stream<CommittedEvent>
  }
>() {}
