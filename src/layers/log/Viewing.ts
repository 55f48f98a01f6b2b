/** The views of sessions: opened, read by a connection, acknowledged, and dropped. */
import * as Effect from "effect/Effect"
import type { EventLog } from "../../services/log/EventLog.js"
import { isTaken, takenAway } from "../../services/log/taken.js"
import { absent, epochOf, Op, type SessionRecord } from "../../services/store/Store.js"
import type { LogParts } from "./LogParts.js"
import type { ViewState } from "./ViewState.js"

/** Returns what works on views: `EventLog.openView`, `dropView`, `takeSession`, `attach`, `detach`, `ack`, `read` and `again`. */
export const make = ({ committer, elapsed, live, pace, reader, retention, windowMs }: LogParts) => {
  const openView = (session: SessionRecord) =>
    Effect.suspend(() => {
      const view = live.newView(session)
      return committer
        .change((tx) => {
          tx.owns({ session: session.sessionId, epoch: absent })
          tx.ops.push(Op.PutSession({ session }))
          tx.onApply(() => live.views.set(session.sessionId, view))
        })
        .pipe(Effect.as(view))
    })

  const dropView = (session: Pick<SessionRecord, "sessionId" | "epoch">) => {
    const { sessionId } = session
    const over = () => {
      retention.dropped()
      // It may have been taken, and be here again.
      if (live.views.get(sessionId)?.epoch === epochOf(session)) live.endView(sessionId)
    }
    return committer
      .change((tx) => {
        tx.owns({ session: sessionId, epoch: epochOf(session) })
        tx.ops.push(Op.DropSession({ sessionId }))
        tx.onApply(over)
      })
      .pipe(Effect.catchIf(isTaken, () => Effect.sync(over)))
  }

  const takeSession = (session: SessionRecord, node: string) => {
    const { sessionId } = session
    const epoch = epochOf(session) + 1
    let isLate = false
    return committer
      .change((tx) => {
        // The store knows of it with the next batch only.
        isLate = tx.ops.some((op) => op._tag === "PutSession" && op.session.sessionId === sessionId)
        if (isLate) return
        tx.owns({ session: sessionId, epoch: epochOf(session) })
        tx.ops.push(Op.TakeSession({ sessionId, node, epoch }))
        // It was here before, and nobody has found out that it had gone.
        tx.onApply(() => live.lose(sessionId))
      })
      .pipe(Effect.flatMap(() => (isLate ? takenAway : Effect.void)))
  }

  const attach = (view: ViewState, connection: Parameters<EventLog["Type"]["attach"]>[1]) =>
    Effect.sync(() => {
      view.setFeatures(connection.features)
      view.attach(connection.wake, elapsed())
    })

  const detach = (view: ViewState) =>
    Effect.sync(() => {
      view.detach()
      retention.detached(view)
    })

  const ack = (view: ViewState, eventSeq: number) =>
    Effect.sync(() => {
      view.acked = Math.max(view.acked, eventSeq)
      pace.acknowledged(view)
    })

  const read = (view: ViewState, after: number, wake: () => void) =>
    Effect.suspend(() => {
      // One that another has taken the place of says nothing of how far that one has come.
      if (view.wake === wake) {
        view.reached(after, elapsed(), windowMs)
        pace.reached(view, after)
      }
      return reader.read(view, after)
    })

  const again = (view: ViewState, eventSeq: number) =>
    reader.read(view, eventSeq - 1, 1).pipe(
      Effect.map(({ frames: [frame] }) => frame),
      Effect.catchTag("ResumeWindowExpired", () => Effect.succeed(undefined))
    )

  return { openView, dropView, takeSession, attach, detach, ack, read, again }
}
