/**
 * The runtime in one line. Give it agents (`Registry`) and who may use them (`Auth`):
 *
 * - `layerMemory()` keeps everything in memory: tests, embedding
 * - `layer()` keeps it in the `Store` in context; `RuntimeSqlite.layer({ filename })` of `effect-arcp/node` is one over a
 *   file, which survives a restart
 *
 * and a transport, with `serve()`. Each call makes a runtime of its own, whatever else is in the same graph of layers; the
 * same value stays one, wherever it is provided.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Argument from "../../protocol/Argument.js"
import type { InternalError } from "../../protocol/Errors.js"
import { Registry } from "../../services/agents/Registry.js"
import { Auth } from "../../services/auth/Auth.js"
import { EventLog as EventLogTag } from "../../services/log/EventLog.js"
import { provided } from "../../services/runtime/provided.js"
import { Sessions } from "../../services/session/Sessions.js"
import type { Store } from "../../services/store/Store.js"
import { TransportServer } from "../../services/transport/Transport.js"
import * as Policy from "../auth/Policy.js"
import * as Credentials from "../credentials/Credentials.js"
import * as Admission from "../jobs/Admission.js"
import * as Hooks from "../jobs/Hooks.js"
import * as Jobs from "../jobs/Jobs.js"
import * as Committed from "../log/Committed.js"
import * as EventLog from "../log/EventLog.js"
import * as SessionsLayer from "../session/Sessions.js"
import * as StoreMemory from "../store/StoreMemory.js"
import * as IdGenerator from "./IdGenerator.js"
import type {
  EventLogLayer,
  Exact,
  Failures,
  JobsLayer,
  Parts,
  Requirements,
  Services,
  StartError
} from "./Parts.js"
import * as Options from "./RuntimeOptions.js"
import * as Secrets from "./Secrets.js"

export type {
  EventLogLayer,
  Failures,
  JobsLayer,
  Parts,
  Requirements,
  Services,
  StartError
} from "./Parts.js"

/** What only the runtime itself makes, by how its store fails at the start. */
interface Own<E> {
  readonly eventLog: EventLogLayer<E>
  readonly jobs: JobsLayer<E>
  readonly sessions: Layer.Layer<Sessions, E, Layer.Layer.Context<ReturnType<typeof SessionsLayer.layer>>>
}

const durable = (): Own<StartError> => ({
  eventLog: EventLog.layer(),
  jobs: Jobs.layer(),
  sessions: SessionsLayer.layer()
})

/** A store in memory cannot fail. */
const volatile = (): Own<never> => ({
  eventLog: Layer.orDie(EventLog.layer()),
  jobs: Layer.orDie(Jobs.layer()),
  sessions: Layer.orDie(SessionsLayer.layer())
})

/** A layer that is built once where it is given, also when it is `Layer.fresh`, which Effect builds at every mention. */
const once = <A, E, R>(part: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> => Layer.suspend(() => part)

/** Are the options a layer, and not values? */
export const isGivenAsLayer = (
  options: Parts["options"]
): options is Layer.Layer<Options.RuntimeOptions, unknown, unknown> => Layer.isLayer(options)

const optionsOf = (options: Parts["options"]): Layer.Layer<Options.RuntimeOptions, unknown, unknown> =>
  isGivenAsLayer(options) ? options : Options.layer(options)

const any: Argument.Rule = () => undefined
const partsRule = Argument.options<Parts>({
  options: any,
  ids: any,
  secrets: any,
  policy: any,
  admission: any,
  hooks: any,
  credentials: any,
  consumers: any,
  eventLog: any,
  jobs: any
})

const transports = "a transport: TransportWebSocket.layer, TransportStdio.layer or TransportMemory.layer"
const runtimes = "a runtime: RuntimeSqlite.layer, Runtime.layerMemory or Runtime.layer"

/** What a runtime asks of the program around it, looked at before anything is begun. */
const surroundings = Layer.effectDiscard(
  Effect.all([
    provided(Registry, "the agents: Registry.layer([…])"),
    provided(Auth, "who may connect: Auth.layerStatic({ token: principal }), or another layer of Auth")
  ])
)

/** Layers that are new at each call, so that nothing of a runtime is found in a graph that has another one. */
const assemble = <E>(parts: Parts<E>, own: Own<E>): Layer.Layer<Services, unknown, unknown> => {
  Argument.check("Runtime.layer", ["parts", partsRule, parts])
  const { credentials = Credentials.layerNone, eventLog = identity, jobs = identity } = parts
  const { admission = Admission.layerAdmitAll, hooks = Hooks.layerNone } = parts
  const { ids = IdGenerator.layer(), policy = Policy.layerSamePrincipal, secrets = Secrets.layer } = parts
  return own.sessions.pipe(
    Layer.provideMerge(once(jobs(own.jobs))),
    Layer.provideMerge(once(eventLog(own.eventLog))),
    Layer.provideMerge(
      Layer.mergeAll(policy, admission, hooks, credentials, Committed.layer(parts.consumers))
    ),
    Layer.provideMerge(Layer.mergeAll(optionsOf(parts.options), ids, secrets)),
    Layer.provide(surroundings)
  )
}

/** A runtime over the `Store` in context. Provides `RuntimeOptions` to transports too. */
export const layer = <P extends Parts = Record<never, never>>(
  parts?: P & Exact<Parts, P>
): Layer.Layer<Services, StartError | Failures<P>, Store | Requirements<P>> =>
  // The parts' own types are those of P, member by member.
  assemble<StartError>(parts ?? {}, durable()) as Layer.Layer<
    Services,
    StartError | Failures<P>,
    Store | Requirements<P>
  >

/** A runtime that keeps everything in memory and forgets it on exit. */
export const layerMemory = <P extends Parts<never> = Record<never, never>>(
  parts?: P & Exact<Parts<never>, P>
): Layer.Layer<Services | Store, Failures<P>, Exclude<Requirements<P>, Store>> =>
  assemble<never>(parts ?? {}, volatile()).pipe(Layer.provideMerge(StoreMemory.layer())) as Layer.Layer<
    Services | Store,
    Failures<P>,
    Exclude<Requirements<P>, Store>
  >

/** Serves every connection of the transport in context; returns when the transport has no more. */
const serveConnections: Effect.Effect<void, never, Sessions | TransportServer> = Effect.gen(function* () {
  const sessions = yield* Sessions
  const transport = yield* provided(TransportServer, transports)
  const serving = yield* FiberSet.make<void>()
  yield* Stream.runForEach(transport.connections, (connection) =>
    FiberSet.run(serving, sessions.serve(connection))
  )
  yield* FiberSet.awaitEmpty(serving)
}).pipe(Effect.scoped)

/**
 * Serves every connection of the transport in context; returns when the transport has no more. Interrupted, it ends jobs
 * and sessions first, as a shutdown does. Fails when the event log
 * has stopped for good: nothing can be served any more, and the process is to be started again.
 */
export const serveAll: Effect.Effect<void, InternalError, EventLogTag | Sessions | TransportServer> =
  Effect.gen(function* () {
    const sessions = yield* provided(Sessions, runtimes)
    const log = yield* EventLogTag
    const serving = yield* Effect.forkScoped(serveConnections)
    // Before the connections are interrupted: jobs and sessions end while there is still somebody to be told.
    yield* Effect.addFinalizer((exit) => (Exit.isInterrupted(exit) ? sessions.shutdown : Effect.void))
    yield* Effect.raceFirst(Fiber.join(serving), log.stopped)
  }).pipe(Effect.scoped)

/**
 * Serves the connections of the transport in context for as long as the layer lives; each call makes a door of its own.
 * When the event log stops, sessions are told that the runtime shuts down, and no new ones are taken.
 *
 * @example
 * const server = Runtime.serve().pipe(
 *   Layer.provide(TransportWebSocket.layer({ port: 7777 })),
 *   Layer.provide(RuntimeSqlite.layer({ filename: ".arcp/arcp.db" })),
 *   Layer.provide(Registry.layer([greet])),
 *   Layer.provide(Auth.layerStatic({ secret: "me" }))
 * )
 */
export const serve = (): Layer.Layer<never, never, Sessions | TransportServer> =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const sessions = yield* provided(Sessions, runtimes)
      yield* provided(TransportServer, transports)
      yield* Effect.forkScoped(serveConnections)
      // The first finalizer to run: jobs and sessions end before the transport does.
      yield* Effect.addFinalizer(() => sessions.shutdown)
    })
  )
