/**
 * The runtime in one line. Give it agents (`Registry`) and who may use them (`Auth`):
 *
 * - `layerMemory()` keeps everything in memory: tests, embedding
 * - `layerSqlite({ filename })` keeps it in a file and survives a restart: one machine
 * - `layer` takes a `Store` of yours
 *
 * and a transport, with `serve`.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { InternalError } from "../../protocol/Errors.js"
import type { Policy as PolicyTag } from "../../services/auth/Policy.js"
import type { Credentials as CredentialsTag } from "../../services/credentials/Credentials.js"
import { EventLog as EventLogTag } from "../../services/log/EventLog.js"
import type * as RuntimeOptions from "../../services/runtime/RuntimeOptions.js"
import { Sessions } from "../../services/session/Sessions.js"
import { TransportServer } from "../../services/transport/Transport.js"
import * as Policy from "../auth/Policy.js"
import * as Credentials from "../credentials/Credentials.js"
import * as Jobs from "../jobs/Jobs.js"
import * as Committed from "../log/Committed.js"
import * as EventLog from "../log/EventLog.js"
import * as SessionsLayer from "../session/Sessions.js"
import * as StoreMemory from "../store/StoreMemory.js"
import * as IdGenerator from "./IdGenerator.js"
import * as Options from "./RuntimeOptions.js"
import * as Secrets from "./Secrets.js"

/** Everything between a `Store` and the door; policy, credentials, options, ids and secrets come from the context. */
export const layerCore = SessionsLayer.layer.pipe(
  Layer.provideMerge(Jobs.layer),
  Layer.provideMerge(EventLog.layer)
)

/** What can be exchanged in a runtime. */
export interface Parts<E = never, R = never> {
  /** Who may see, cancel and use what; default: the same principal. */
  readonly policy?: Layer.Layer<PolicyTag, E, R>
  /** Mints credentials for jobs; default: none. */
  readonly credentials?: Layer.Layer<CredentialsTag, E, R>
  /** Sees everything that is committed, from the first commit to the last: metrics, audit; default: nobody. */
  readonly consumers?: Layer.Layer<never, E, R>
}

/** A runtime over the `Store` in context. Provides `RuntimeOptions` to transports too. */
export const layer = <E = never, R = never>(options?: RuntimeOptions.Input, parts: Parts<E, R> = {}) =>
  layerCore.pipe(
    Layer.provideMerge(parts.credentials ?? Credentials.layerNone),
    Layer.provideMerge(
      Layer.mergeAll(
        Options.layer(options),
        IdGenerator.layer,
        Secrets.layer,
        parts.policy ?? Policy.layerSamePrincipal,
        // Below the log, so that they are there before it and after it.
        (parts.consumers ?? Layer.empty).pipe(Layer.provideMerge(Committed.layer()))
      )
    )
  )

/** A runtime that keeps everything in memory and forgets it on exit. */
export const layerMemory = <E = never, R = never>(options?: RuntimeOptions.Input, parts?: Parts<E, R>) =>
  layer(options, parts).pipe(Layer.provideMerge(StoreMemory.layer))

/** Serves every connection of the transport in context; returns when the transport has no more. */
const serveConnections: Effect.Effect<void, never, Sessions | TransportServer> = Effect.gen(function* () {
  const sessions = yield* Sessions
  const transport = yield* TransportServer
  const serving = yield* FiberSet.make<void>()
  yield* Stream.runForEach(transport.connections, (connection) =>
    FiberSet.run(serving, sessions.serve(connection))
  )
  yield* FiberSet.awaitEmpty(serving)
}).pipe(Effect.scoped)

/**
 * Serves every connection of the transport in context; returns when the transport has no more. Fails when the event log
 * has stopped for good: nothing can be served any more, and the process is to be started again.
 */
export const serveAll: Effect.Effect<void, InternalError, EventLogTag | Sessions | TransportServer> =
  Effect.raceFirst(
    serveConnections,
    Effect.flatMap(EventLogTag, (log) => log.stopped)
  )

/**
 * Serves the connections of the transport in context for as long as the layer lives. When the event log stops, sessions
 * are told that the runtime shuts down, and no new ones are taken.
 */
export const serve: Layer.Layer<never, never, Sessions | TransportServer> = Layer.scopedDiscard(
  Effect.gen(function* () {
    const sessions = yield* Sessions
    yield* Effect.forkScoped(serveConnections)
    // The first finalizer to run: jobs and sessions end before the transport does.
    yield* Effect.addFinalizer(() => sessions.shutdown)
  })
)
