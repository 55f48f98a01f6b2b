/** A runtime that a test crashes and starts again, over one store, and a client whose session outlives that. */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Registry from "../layers/agents/Registry.js"
import * as ArcpClient from "../layers/client/ArcpClient.js"
import * as StoreMemory from "../layers/store/StoreMemory.js"
import type { Registered } from "../services/agents/Agent.js"
import { Store, type StoreService } from "../services/store/Store.js"
import { Dialer } from "../services/transport/Transport.js"
import type { CrashPoint } from "./CrashStore.js"
import { Disturb } from "./Disturb.js"
import * as Faults from "./Faults.js"
import * as Process from "./Process.js"
import { type Exact, type Failures, type Options, type Requirements, tokenOf } from "./parts.js"

/** A runtime that can crash, and what is left when it has. */
export interface Crashable {
  /** Its session goes on after each restart: the client connects again as soon as there is a runtime. */
  readonly client: ArcpClient.ArcpClientService
  /** What outlives a crash. */
  readonly store: StoreService
  readonly faults: Faults.Faults["Type"]
  /** The process dies at a commit, counted from its start. Call it before that commit comes, or between two processes. */
  readonly crashAt: (point: CrashPoint | undefined) => Effect.Effect<void>
  /** Returns when the process has died. */
  readonly crashed: Effect.Effect<Process.Died>
  /** The process dies now. */
  readonly crash: Effect.Effect<void>
  /** Starts the next process on what the last one has stored, which dies first if it is alive. */
  readonly restart: Effect.Effect<void>
  /** How many commits of the process have changed a job. */
  readonly commits: Effect.Effect<number>
}

/** A crashable runtime, with what else its driver looks at. */
export interface Driven extends Crashable {
  /** Tells whether the process waits for its store. */
  readonly isCommitting: () => boolean
}

/** The dialer of whichever process runs; who dials while there is none waits for the next. */
class Line {
  private current = Deferred.unsafeMake<Dialer["Type"]>(FiberId.none)

  readonly dialer: Dialer["Type"] = {
    connect: Effect.suspend(() => Effect.flatMap(Deferred.await(this.current), ({ connect }) => connect))
  }
  up(dialer: Dialer["Type"]): void {
    Deferred.unsafeDone(this.current, Exit.succeed(dialer))
  }
  down(): void {
    this.current = Deferred.unsafeMake(FiberId.none)
  }
}

/** The client of whichever process runs, which connects when there is one. */
const clientOf = (options: Options, line: Line, disturbed: Effect.Latch, moves: Process.Moves) =>
  Effect.gen(function* () {
    const links = yield* Layer.build(
      Faults.layer().pipe(
        Layer.provide(
          Layer.mergeAll(
            Layer.succeed(Dialer, line.dialer),
            Layer.succeed(Disturb, Effect.asVoid(disturbed.open))
          )
        )
      )
    )
    const faults = Context.get(links, Faults.Faults)
    const layer = Layer.orDie(
      ArcpClient.layer({ reconnect: Schedule.forever, ...options.client, token: tokenOf(options) })
    ).pipe(Layer.provide(Layer.succeedContext(links)))
    return {
      drop: faults.drop,
      connected: Effect.map(Effect.supervised(Layer.build(layer), new Process.Watch(moves)), (context) => ({
        faults,
        service: Context.get(context, ArcpClient.ArcpClient)
      }))
    }
  })

/** Makes the first process and its client. */
export const make = (
  agents: ReadonlyArray<Registered<unknown>>,
  options: Options,
  moves: Process.Moves,
  first?: CrashPoint
): Effect.Effect<Driven, unknown, unknown> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const base = Context.get(yield* Layer.buildWithScope(options.store ?? StoreMemory.layer(), scope), Store)
    const disturbed = yield* Effect.makeLatch(false)
    const given: Process.Given = {
      // Made anew by each process.
      registry: Layer.suspend(() => Layer.orDie(Registry.layer(agents, { leased: options.leased }))),
      parts: options,
      base,
      moves,
      disturbed
    }
    const line = new Line()
    const environment = yield* Effect.context<unknown>()
    const client = yield* clientOf(options, line, disturbed, moves)
    /** A process, and what becomes of its connections when it dies. */
    const begin = (point: CrashPoint | undefined) =>
      Effect.gen(function* () {
        const process = yield* Effect.orDie(Process.start(given, point))
        line.up(process.dialer)
        const over = yield* Deferred.await(process.died).pipe(
          Effect.zipRight(Effect.sync(() => line.down())),
          Effect.zipRight(client.drop),
          Effect.zipRight(process.stop),
          Effect.forkIn(scope)
        )
        return { process, over }
      }).pipe(Effect.provide(environment))
    let next: CrashPoint | undefined
    let { over, process } = yield* begin(first)
    yield* Effect.addFinalizer(() => process.stop)
    const { faults, service } = yield* client.connected

    return {
      client: service,
      faults,
      store: base,
      crashAt: (point) =>
        Effect.sync(() => {
          if (process.store.isDead) next = point
          else process.store.point = point
        }),
      crashed: Effect.suspend(() => Deferred.await(process.died)),
      crash: Effect.suspend(() => process.kill),
      commits: Effect.sync(() => process.store.commits),
      isCommitting: () => process.store.pending > 0,
      restart: Effect.gen(function* () {
        yield* process.kill
        yield* Fiber.join(over)
        const point = next
        next = undefined
        ;({ over, process } = yield* begin(point))
      })
    }
  })

/**
 * Makes a runtime with these agents that a test can crash at a chosen commit and start again, as `kill -9` and an operator
 * would, with a client whose session outlives that. Nothing that was not committed is left, and what finalizers do when it
 * dies is not stored. It lives as long as the scope.
 *
 * @example
 * Effect.gen(function* () {
 *   const runtime = yield* TestRuntime.crashable([deploy])
 *   yield* runtime.crashAt({ commit: 3, when: "after" })
 *   const job = yield* runtime.client.submit(Deploy, "staging")
 *   yield* runtime.crashed
 *   yield* runtime.restart
 *   assert.deepStrictEqual(yield* job.result, plan)
 * })
 */
export const crashable = <
  const Agents extends ReadonlyArray<Registered<unknown>>,
  P extends Options = Record<never, never>
>(
  agents: Agents,
  options?: P & Exact<Options, P>
): Effect.Effect<Crashable, Failures<P>, Registry.Requirements<Agents> | Requirements<P> | Scope.Scope> =>
  make(agents, options ?? {}, new Process.Moves()) as Effect.Effect<
    Crashable,
    Failures<P>,
    Registry.Requirements<Agents> | Requirements<P> | Scope.Scope
  >
