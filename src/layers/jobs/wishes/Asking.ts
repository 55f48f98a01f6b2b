/**
 * What is wanted of a job that another node of the cluster has, and that only its own node can do. It is stored as a wish; the
 * node that has the job, whichever that is by then, does it as for a session of its own, and stores what came of it
 * (Granting.ts). Nothing is acknowledged before that, so what an acknowledgement promises is the same on every node.
 *
 * A wish lives as long as somebody waits for it: it is dropped when it is answered, given up, or its job comes here meanwhile or
 * has ended, which is then seen to as if it had always been so. One that is left since this process died is answered and dropped
 * by others.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import { type ArcpError, InternalError } from "../../../protocol/Errors.js"
import { type ClusterService, isOurs, matter } from "../../../services/cluster/Cluster.js"
import type { IdGenerator } from "../../../services/runtime/IdGenerator.js"
import {
  type JobRecord,
  Op,
  type PlacedWish,
  type Store,
  toInternalError
} from "../../../services/store/Store.js"
import * as Checks from "../Checks.js"
import { CountByKey } from "../CountByKey.js"
import type { Unsettled } from "../durable/Unsettled.js"
import * as Faults from "../Faults.js"
import { ofAnswer, toBody, type Want } from "./Want.js"

/** Wishes of this node for one job, and for one principal, that wait to be answered. */
const maxPerJob = 64
const maxPerPrincipal = 256

/**
 * How long somebody waits: a node that is gone is noticed, and its jobs are with others, in half of it, and clients wait for 30
 * seconds.
 */
const patience = "20 seconds"

/** What becomes of a wish: another node has done it, or the job is here now, or has ended. */
export type Outcome = "done" | "here"

/** Somebody who waits for a wish. */
interface Waiting {
  readonly outcome: Deferred.Deferred<Outcome, ArcpError>
  /** The node that was told of it. */
  told: string | undefined
}

/** What asking works on. */
interface Parts {
  readonly cluster: ClusterService | undefined
  readonly store: Store["Type"]
  readonly ids: IdGenerator["Type"]
  readonly unsettled: Unsettled
  /** Epoch ms. */
  readonly now: () => number
}

const unstored = toInternalError("the node that has this job could not be asked")

const late = () =>
  new InternalError({
    message:
      "the node that has this job did not answer in time; it is not known whether it was done, so ask again",
    details: { reason: "timeout" }
  })

/** Asks other nodes, and knows who waits for their answers. */
export class Asking {
  private readonly waiting = new Map<string, Waiting>()
  private readonly perJob = new CountByKey()
  private readonly perPrincipal = new CountByKey()

  constructor(
    private readonly parts: Parts,
    private readonly run: (effect: Effect.Effect<void>) => unknown
  ) {}

  /** Returns whether only another node can do something with a job. */
  isElsewhere(record: Pick<JobRecord, "node" | "endedAt">): boolean {
    return record.endedAt === undefined && !isOurs(this.parts.cluster, record)
  }

  /** Has something go on beside whoever asks, for as long as the runtime; `refused` is told why it was not done. */
  later(doing: string, effect: Effect.Effect<void, ArcpError>, refused: (error: ArcpError) => void): void {
    this.run(
      effect.pipe(
        Faults.contained(doing),
        Effect.catchAll((error) => Effect.sync(() => refused(error)))
      )
    )
  }

  /**
   * Has the node of a job do what a principal wants. Returns `here` when it is this node that can do it, or the job has ended:
   * nothing has been done then.
   */
  ask(record: JobRecord, want: Want, principal: string): Effect.Effect<Outcome, ArcpError> {
    const { cluster } = this.parts
    if (cluster === undefined || !this.isElsewhere(record)) return Effect.succeed("here")
    const { jobId } = record
    return Effect.suspend((): Effect.Effect<Outcome, ArcpError> => {
      if (this.perJob.get(jobId) >= maxPerJob) return Checks.atLimit("wishes_per_job", maxPerJob)
      if (this.perPrincipal.get(principal) >= maxPerPrincipal)
        return Checks.atLimit("wishes_per_principal", maxPerPrincipal)
      const count = (by: 1 | -1) => {
        this.perJob.add(jobId, by)
        this.perPrincipal.add(principal, by)
      }
      count(1)
      return Effect.ensuring(
        this.wish(cluster, record, want),
        Effect.sync(() => count(-1))
      )
    })
  }

  /** Tells the node of a job something, and does not wait for it: whoever hears it drops it. */
  note({ jobId, node }: { readonly jobId: string; readonly node: string }, want: Want): void {
    const { cluster, ids, now, store } = this.parts
    if (cluster === undefined) return
    const wish = {
      ...{ id: ids.unsafeMake("wish"), jobId, from: cluster.node, at: now() },
      ...{ kind: want.kind, body: toBody(want) }
    }
    this.run(
      store.commit({ ops: [Op.PutWish({ wish })], owners: [] }).pipe(
        Effect.zipRight(Effect.sync(() => tell(cluster, node))),
        Effect.catchAllCause((cause) => Effect.logWarning("another node could not be told something", cause))
      )
    )
  }

  /** Stores a wish, waits for what comes of it, and drops it. */
  private wish(
    cluster: ClusterService,
    { jobId, node }: JobRecord,
    want: Want
  ): Effect.Effect<Outcome, ArcpError> {
    const { ids, now, store, unsettled } = this.parts
    const id = ids.unsafeMake("wish")
    const wish = { id, jobId, kind: want.kind, body: toBody(want), from: cluster.node, at: now() }
    const put = Effect.mapError(store.commit({ ops: [Op.PutWish({ wish })], owners: [] }), unstored)
    return Effect.acquireUseRelease(
      Effect.map(Deferred.make<Outcome, ArcpError>(), (outcome) => {
        const waiting: Waiting = { outcome, told: node }
        this.waiting.set(id, waiting)
        return waiting
      }),
      ({ outcome }) =>
        Effect.zipRight(
          put,
          Effect.suspend(() => {
            if (node !== undefined) tell(cluster, node)
            return Effect.timeoutFail(Deferred.await(outcome), { duration: patience, onTimeout: late })
          })
        ),
      () =>
        Effect.zipRight(
          Effect.sync(() => this.waiting.delete(id)),
          this.drop([id])
        )
    ).pipe(
      // What was taken from a node that is gone is known when it runs here, or has ended.
      Effect.tap((outcome) => (outcome === "here" ? unsettled.settled(jobId) : Effect.void))
    )
  }

  /** Drops wishes; those that could not be are found again, and dropped then. */
  private drop(ids: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.catchAllCause(
      this.parts.store.commit({ ops: [Op.DropWishes({ ids })], owners: [] }),
      (cause) => Effect.logWarning("wishes of this node could not be dropped", cause)
    )
  }

  /** Takes what is stored of the wishes of this node: tells who waits, and drops what nobody waits for. */
  settle(wishes: ReadonlyArray<PlacedWish>): Effect.Effect<void> {
    const { cluster } = this.parts
    if (cluster === undefined) return Effect.void
    const left: Array<string> = []
    for (const { answer, from, id, job } of wishes) {
      if (from !== cluster.node) continue
      const waiting = this.waiting.get(id)
      const isHere = job === undefined || job.ended || job.node === cluster.node
      if (waiting === undefined) {
        // Of a process that had this name before.
        if (answer !== undefined || isHere) left.push(id)
      } else if (answer !== undefined) {
        const error = ofAnswer(answer)
        Deferred.unsafeDone(
          waiting.outcome,
          error === undefined ? Effect.succeed("done") : Effect.fail(error)
        )
      } else if (isHere) Deferred.unsafeDone(waiting.outcome, Effect.succeed("here"))
      else if (job.node !== waiting.told) {
        waiting.told = job.node
        tell(cluster, job.node)
      }
    }
    return left.length === 0 ? Effect.void : this.drop(left)
  }
}

/** Tells a node that there is a wish for it to grant, or an answer for it. */
export const tell = ({ wake }: ClusterService, node: string): void => wake.tell(matter(node, "wishes"))

/** Returns what asks other nodes, for as long as the scope. */
export const make = (parts: Parts): Effect.Effect<Asking, never, Scope.Scope> =>
  Effect.map(FiberSet.makeRuntime<never>(), (run) => new Asking(parts, run))
