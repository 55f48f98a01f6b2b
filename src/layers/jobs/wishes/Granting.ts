/**
 * Does what other nodes want of the jobs of this one (Asking.ts), and says what came of it: by the same ways as for sessions that
 * are here. What is done twice, since its answer could not be stored or the node died before, is done as if it had been asked for
 * twice.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { ArcpError } from "../../../protocol/Errors.js"
import { type ClusterService, matter } from "../../../services/cluster/Cluster.js"
import { Signal } from "../../../services/runtime/Signal.js"
import { epochOf, type Fenced, Op, type StoreError, type Wish } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import { tell } from "./Asking.js"
import { ofWish, toAnswer, type Want } from "./Want.js"

/** Wishes that are looked at, at once: what is more comes when these are answered, or given up. */
const page = 1_000

/** Does what is wanted with a job of this node. */
export type Grant = (jobId: string, want: Want) => Effect.Effect<void, ArcpError>

/** Nobody waits for an answer to it. */
const isNote = (kind: string): boolean => kind === ("pace" satisfies Want["kind"])

/** Stores what came of a wish, if the job is still this node's. Of a node that is gone it is swept (Sweeping.ts). */
const answered = (
  { store }: JobParts,
  cluster: ClusterService,
  { from, id, jobId, kind }: Wish,
  error: ArcpError | undefined
): Effect.Effect<void, StoreError | Fenced> =>
  Effect.gen(function* () {
    const record = yield* store.job(jobId)
    if (record !== undefined && record.node !== cluster.node) return
    yield* store.commit({
      ops: [isNote(kind) ? Op.DropWishes({ ids: [id] }) : Op.AnswerWish({ id, answer: toAnswer(error) })],
      owners: record === undefined ? [] : [{ job: jobId, epoch: epochOf(record) }]
    })
    if (!isNote(kind)) tell(cluster, from)
  })

/** Does what a wish asks for. */
const granted = (
  parts: JobParts,
  cluster: ClusterService,
  grant: Grant,
  wish: Wish
): Effect.Effect<void, StoreError | Fenced> =>
  // What was taken from a node that is gone may not run yet.
  Effect.suspend(() =>
    Effect.zipRight(parts.unsettled.settled(wish.jobId), grant(wish.jobId, ofWish(wish)))
  ).pipe(
    Faults.contained("another node's wish was granted"),
    Effect.matchEffect({
      onFailure: (error) => (error === Faults.left ? Effect.void : answered(parts, cluster, wish, error)),
      onSuccess: () => answered(parts, cluster, wish, undefined)
    })
  )

/** Grants what others want, and hears what came of what this node wants, for as long as the scope. */
export const start = (parts: JobParts, grant: Grant): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { asking, cluster, store } = parts
    if (cluster === undefined) return
    const run = yield* FiberSet.makeRuntime<never>()
    const inHand = new Set<string>()
    const begin = (wish: Wish) => {
      inHand.add(wish.id)
      run(
        granted(parts, cluster, grant, wish).pipe(
          // It stays as it is, and is found again, here or where the job is now.
          Effect.catchAllCause((cause) => Effect.logWarning("a wish could not be answered", cause)),
          Effect.ensuring(Effect.sync(() => inHand.delete(wish.id)))
        )
      )
    }
    const look = Effect.gen(function* () {
      const wishes = yield* store.wishes(cluster.node, page)
      for (const wish of wishes) {
        const isOurs = wish.job?.node === cluster.node && !wish.job.ended
        if (wish.from === cluster.node || wish.answer !== undefined || !isOurs) continue
        if (!inHand.has(wish.id)) begin(wish)
      }
      yield* asking.settle(wishes)
    })
    const woken = new Signal()
    yield* cluster.wake.listen(matter(cluster.node, "wishes"), () => woken.give())
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.zipRight(
          woken.wait,
          Effect.catchAllCause(look, (cause) =>
            Effect.logWarning("what nodes want of each other could not be read; looking again", cause)
          )
        )
      )
    )
    woken.give()
  })
