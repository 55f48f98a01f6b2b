/** What a session on one transport is called in traces and logs. */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import type * as Tracer from "effect/Tracer"
import * as Tracing from "../../services/runtime/Tracing.js"
import type { Greeted } from "./Handshake.js"

/**
 * The span of a session on one transport (§11) where there is a tracer, and its name in the logs of the fiber that serves
 * it and of those that it forks. Neither is an effect around what serves: every connection would hold that for as long as it lives.
 */
export const traced = ({
  sessionId,
  principal,
  parentSpan,
  resumed
}: Pick<Greeted, "parentSpan"> & {
  readonly sessionId: string
  readonly principal: string
  readonly resumed: boolean
}): Effect.Effect<Tracer.Span | undefined> =>
  Effect.flatMap(Tracing.isTraced, (isTraced) =>
    !isTraced
      ? Effect.succeed(undefined)
      : Effect.makeSpan("arcp.session", {
          captureStackTrace: false,
          ...(parentSpan === undefined ? { root: true } : { parent: parentSpan }),
          attributes: { "arcp.session_id": sessionId, "arcp.session.resumed": resumed }
        })
  ).pipe(
    Effect.zipLeft(
      FiberRef.update(FiberRef.currentLogAnnotations, (about) =>
        HashMap.set(HashMap.set(about, "session", sessionId), "principal", principal)
      )
    )
  )
