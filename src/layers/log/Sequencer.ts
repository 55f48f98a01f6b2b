/**
 * The sequencer of a session: numbers for it what was committed in the jobs that it observes while nobody held its view, and
 * then lets the view follow them, so that what they append is numbered in the append's own transaction (Transaction.ts).
 *
 * A view is held from hello or resume until its session's scope closes. What it has not come to it is *behind* in; that is
 * numbered a page at a time, in the order in which it was committed, with the features of the hello that took the session.
 * No job of them is followed before all are caught up with: what a job commits comes after what it delegated to has before.
 *
 * A job of another node is never followed: what that commits is looked at whenever the node is woken, and once a second, from where
 * the view has come to: for all views at once that only have to go on (lookingTogether.ts). What such a job delegates to begins
 * there too, and is found in what the session observes.
 *
 * If the process dies anywhere in here, each page was numbered whole or not at all, and the next resume goes on from there.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { InternalError } from "../../protocol/Errors.js"
import { Signal } from "../../services/runtime/Signal.js"
import type { SessionRecord, StoreError, StoreService } from "../../services/store/Store.js"
import type { Committer } from "./Committer.js"
import type { JobState } from "./JobState.js"
import type { LiveLogs } from "./Live.js"
import { numbering, pageSize } from "./lateNumbering.js"
import * as LookingFar from "./lookingFar.js"
import * as LookingTogether from "./lookingTogether.js"
import type { Tail } from "./Tail.js"
import type { ViewState } from "./ViewState.js"

/** What a sequencer works on. */
interface Parts {
  readonly store: StoreService
  readonly committer: Committer
  readonly live: LiveLogs
  readonly tail: Tail
  /** The name of this node, where it is one. */
  readonly node: string | undefined
  /** A view has begun to look at jobs of a node. */
  readonly tell: (node: string) => void
}

/** Takes sessions whose views nobody has held, and numbers what they have missed. */
export interface Sequencer {
  /** Returns the view of a stored session, which is held from now on, and begins to number what that is behind in. */
  readonly hold: (session: SessionRecord) => Effect.Effect<ViewState, StoreError | InternalError>
  /** A view has begun to observe a job of another node, or one with more of a history than was numbered for it. */
  readonly watch: (view: ViewState) => void
  /** Looks at what the views that are held here observe on other nodes. */
  readonly look: () => void
}

/**
 * Returns for how long nobody looks after a look that took so long: twice that, and 50 ms at the most. What comes meanwhile is one
 * look, so with much to see an event is seen somewhat later, and each costs less; one by itself waits for nothing.
 */
const restAfter = (took: Duration.Duration): Duration.Duration =>
  Duration.min(Duration.times(took, 2), Duration.millis(50))

/** Makes the sequencer of all sessions of a log; what it has begun ends with the scope. */
export const make = (parts: Parts): Effect.Effect<Sequencer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { committer, live, node, store, tell } = parts
    const run = yield* FiberSet.makeRuntime<never>()
    const { arrived, discover, isSteady, loadAll } = LookingFar.make(parts)

    const round = (view: ViewState): Effect.Effect<void, StoreError | InternalError> =>
      Effect.gen(function* () {
        view.isDue = false
        yield* loadAll(view)
        if (view.lost) return
        const watches = view.watched.size > 0
        if (watches && !(yield* discover(view)).isNew && !view.isLate) return
        yield* loadAll(view)
        if (view.lost) return
        view.note()
        // One that is being opened may be stored by now; of one that is being dropped nothing may be numbered.
        const asked = new Map(
          [...view.behind].filter(([jobId]) => view.places.has(jobId) || !live.holds.isDropping(jobId))
        )
        const after = Array.from(asked, ([jobId, seq]) => ({ jobId, seq }))
        const page = yield* store.backlog(after, pageSize)
        // What a job has delegated to since comes before what it has said since: again, with both.
        if (watches && page.length > 0 && (yield* discover(view)).isMore) return
        if (page.length === 0 && !view.isLate) return
        arrived((jobId) => view.places.get(jobId)?.job, page)
        yield* committer.change(numbering(view, live, page, asked))
        if (page.length >= pageSize) view.isDue = true
        // What another node has dropped meanwhile does not come any more, and the store says so.
        if (page.length === 0 && !live.isAlone && (yield* store.hasLost(view.sessionId))) view.lose()
      }).pipe(
        // Whatever comes of it, it is looked at again.
        Effect.tapErrorCause(() =>
          Effect.sync(() => {
            view.isDue = true
          })
        )
      )

    const isWanted = (view: ViewState) => view.isWanted && committer.over() === undefined

    /** A view is not caught up with any more. */
    const settle = (view: ViewState) => {
      live.catchingUp.delete(view)
      view.noted = undefined
      live.settle(view)
    }

    /** Goes on until the view is through, or nobody wants it any more. A store that fails is asked again. */
    const catchUp = (view: ViewState) =>
      Effect.whileLoop({
        while: () => (view.isLate || view.isDue) && isWanted(view),
        body: () =>
          Effect.catchAllCause(round(view), (cause) =>
            Effect.zipRight(
              Effect.logWarning("a session's events could not be numbered; it will be tried again", cause),
              Effect.sleep("1 second")
            )
          ),
        step: () => {}
      }).pipe(
        Effect.ensuring(Effect.sync(() => settle(view))),
        // It may have begun to observe something since it was last asked.
        Effect.zipRight(Effect.sync(() => begin(view)))
      )

    const due = new Signal()
    const together =
      node === undefined || store.news === undefined
        ? undefined
        : LookingTogether.make({
            ...{ committer, live, news: store.news, node },
            arrived: (page) => arrived((jobId) => live.jobs.get(jobId), page)
          })

    /** Goes on once with all views that only have to; whatever comes of it, they are seen to again. */
    const goOn = Effect.suspend(() => {
      const views = [...live.watching].filter(
        (view) => view.isDue && isWanted(view) && !live.catchingUp.has(view) && isSteady(view)
      )
      if (views.length === 0 || together === undefined) return Effect.void
      for (const view of views) live.catchingUp.add(view)
      return Effect.flatMap(
        Effect.onExit(together(views), (exit) =>
          Effect.sync(() => {
            for (const view of views) {
              if (Exit.isFailure(exit)) view.isDue = true
              settle(view)
            }
          })
        ),
        (alone) =>
          Effect.sync(() => {
            for (const view of views) begin(view, alone.has(view))
          })
      )
    })

    const know = (view: ViewState): Effect.Effect<void, StoreError | InternalError> =>
      Effect.gen(function* () {
        // Jobs may be opened for it in a commit that began before the view was here: what that stores is read.
        if (!committer.isIdle()) yield* committer.change(() => undefined)
        const appended = new Set<string>()
        live.learning.add(appended)
        const [observed, lost] = yield* Effect.all(
          [store.observed(view.sessionId), store.hasLost(view.sessionId)],
          { concurrency: "unbounded" }
        ).pipe(Effect.ensuring(Effect.sync(() => live.learning.delete(appended))))
        // Somebody else may have asked meanwhile; from here on nothing waits.
        if (view.isKnown) return
        view.know(
          observed,
          lost,
          (jobId) => live.jobs.has(jobId) || live.leaving.has(jobId) || appended.has(jobId)
        )
        for (const { cursor, ended, jobId, node } of observed) {
          if (ended || live.isOwn({ node })) continue
          view.watch(jobId, view.behind.get(jobId) ?? cursor)
          tell(node)
        }
      })

    const begin = (view: ViewState, alone = together === undefined): void => {
      if (!isWanted(view)) return live.settle(view)
      if (!view.isLate && !view.isDue) return
      if (view.watched.size > 0) live.watching.add(view)
      if (live.catchingUp.has(view)) return
      if (!alone && isSteady(view)) return due.give()
      live.catchingUp.add(view)
      run(catchUp(view))
    }

    /** Jobs that are read anew; whether one is to be once more, as it was told of meanwhile. */
    const refreshing = new Map<JobState, boolean>()
    const refresh = (job: JobState): void => {
      const isUnderWay = refreshing.has(job)
      refreshing.set(job, isUnderWay)
      // One at a time: a store that hangs is asked once, and not with each look.
      if (isUnderWay) return
      run(
        Effect.ensuring(
          Effect.ignoreLogged(live.refresh(job)),
          Effect.sync(() => {
            const again = refreshing.get(job) === true
            refreshing.delete(job)
            if (again) refresh(job)
          })
        )
      )
    }

    const looking = due.wait.pipe(
      Effect.zipRight(Effect.timed(goOn)),
      Effect.flatMap(([took]) => Effect.sleep(restAfter(took))),
      Effect.catchAllCause((cause) =>
        Effect.logWarning("events of other nodes could not be numbered; it will be tried again", cause).pipe(
          Effect.zipRight(Effect.sleep("1 second")),
          Effect.zipRight(Effect.sync(() => due.give()))
        )
      )
    )
    if (together !== undefined) yield* Effect.forkScoped(Effect.forever(looking))

    return {
      hold: (session) =>
        Effect.tap(live.loadView(session), (view) =>
          view.isKnown ? Effect.void : Effect.map(know(view), () => begin(view))
        ),
      watch: (view) => {
        for (const jobId of view.watched) {
          const node = live.jobs.get(jobId)?.foreignTo
          if (node !== undefined) tell(node)
        }
        begin(view)
      },
      look: () => {
        for (const view of live.watching) {
          view.isDue = true
          begin(view)
        }
        for (const job of live.jobs.values()) if (job.foreignTo !== undefined && job.isFollowed) refresh(job)
      }
    }
  })
