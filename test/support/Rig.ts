/**
 * A runtime whose store, clock and process can fail: over one memory store that outlives it, so that a test can start the
 * next process on what the last one left.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { none as FiberIdNone } from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Registry from "../../src/layers/agents/Registry.js"
import * as AuthLayer from "../../src/layers/auth/Auth.js"
import * as Runtime from "../../src/layers/runtime/Runtime.js"
import * as StoreMemory from "../../src/layers/store/StoreMemory.js"
import * as TransportMemory from "../../src/layers/transport/TransportMemory.js"
import type { Registered } from "../../src/services/agents/Agent.js"
import type { Auth } from "../../src/services/auth/Auth.js"
import type { Policy } from "../../src/services/auth/Policy.js"
import { Cluster } from "../../src/services/cluster/Cluster.js"
import type { NodesService } from "../../src/services/cluster/Nodes.js"
import type { WakeService } from "../../src/services/cluster/Wake.js"
import type { Credentials } from "../../src/services/credentials/Credentials.js"
import { Hooks } from "../../src/services/jobs/Hooks.js"
import type * as RuntimeOptions from "../../src/services/runtime/RuntimeOptions.js"
import {
  type Batch,
  Fenced,
  type Op,
  Store,
  StoreError,
  type StoreService
} from "../../src/services/store/Store.js"

/** What a commit is to do: go through, fail, wait until it is let go, or pretend (the process is dead). */
export type Mode = "works" | "fails" | "hangs" | "dead"

/** A store that outlives runtimes, and fails as it is told. Durable to the log: a commit is waited for. */
export class Disk {
  mode: Mode = "works"
  readonly committed: Array<Op> = []
  /** In how many commits. */
  commits = 0
  /** How often somebody has freed what was dropped. */
  vacuums = 0
  /** How often each read was asked for. */
  readonly reads = new Map<string, number>()
  /** How long each read and each commit takes. */
  latency: Duration.DurationInput = 0
  private readonly taking = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    this.latency === 0 ? effect : Effect.delay(effect, this.latency)
  /** Asked before a commit that works: it may fail one, or have it wait. */
  onCommit: (batch: Batch) => Effect.Effect<void, StoreError> = () => Effect.void
  /** Asked before each read with an argument: it may fail one, or have it wait. */
  onRead:
    | ((name: string, args: ReadonlyArray<unknown>) => Effect.Effect<void, StoreError> | undefined)
    | undefined
  private held: Array<Deferred.Deferred<void>> = []

  private constructor(private readonly base: StoreService) {}

  static readonly make = Effect.map(
    Layer.build(StoreMemory.layer()),
    (context) => new Disk(Context.get(context, Store))
  )

  /** The base itself, to look into. */
  get store(): StoreService {
    return this.base
  }
  /** Lets go of the commits that hang, into a disk that works again, or does not. */
  readonly release = (mode: Mode = "works") =>
    Effect.suspend(() => {
      this.mode = mode
      const held = this.held
      this.held = []
      return Effect.forEach(held, (gate) => Deferred.succeed(gate, undefined), { discard: true })
    })
  /** How many commits hang. */
  get hanging(): number {
    return this.held.length
  }
  /** When each node has last stored that it is alive. */
  private readonly lives = new Map<string, number>()
  /** Who has the place of each node among those that write; whoever is buried has it no more. */
  readonly places = new Map<string, object>()
  /** For one process, of a node. */
  process(node = ""): {
    readonly service: StoreService
    readonly kill: () => void
    readonly leave: () => void
  } {
    let dead = false
    const place = {}
    this.places.set(node, place)
    const leave = () => {
      if (this.places.get(node) === place) this.places.delete(node)
    }
    const commit = (batch: Batch): Effect.Effect<void, StoreError | Fenced> =>
      Effect.suspend((): Effect.Effect<void, StoreError | Fenced> => {
        if (dead || this.mode === "dead") return Effect.void
        if (this.mode === "fails") return new StoreError({ message: "the disk is full" })
        if (this.mode === "hangs") {
          const gate = Deferred.unsafeMake<void>(FiberIdNone)
          this.held.push(gate)
          return Effect.zipRight(Deferred.await(gate), commit(batch))
        }
        return Effect.zipRight(
          this.onCommit(batch),
          Effect.suspend((): Effect.Effect<void, StoreError | Fenced> => {
            const { gone } = batch
            if (gone !== undefined && this.places.has(gone)) return new Fenced({ owners: [], back: gone })
            this.committed.push(...batch.ops)
            this.commits++
            return Effect.tap(this.base.commit(batch), () => {
              for (const op of batch.ops) if (op._tag === "Alive") this.lives.set(node, op.at)
            })
          })
        )
      })
    return {
      service: {
        ...counted(this.base, this, this.taking),
        kind: "durable",
        lives: Effect.sync(() => new Map(this.lives)),
        aliveAt: Effect.sync(() => this.lives.get(node) ?? 0),
        commit: (batch) => this.taking(commit(batch)),
        vacuum: Effect.suspend(() => {
          this.vacuums++
          return this.base.vacuum
        })
      },
      kill: () => {
        dead = true
        leave()
      },
      leave
    }
  }
}

/** The same store, which counts how often each read with an argument is asked for; each takes a while. */
const counted = (
  base: StoreService,
  disk: Pick<Disk, "reads" | "onRead">,
  taking: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
): StoreService =>
  Object.fromEntries(
    Object.entries(base).map(([name, read]) => [
      name,
      typeof read !== "function"
        ? read
        : (...args: ReadonlyArray<unknown>) => {
            const found = read(...args)
            if (!Effect.isEffect(found)) return found
            disk.reads.set(name, (disk.reads.get(name) ?? 0) + 1)
            return taking(
              Effect.suspend(() =>
                Effect.zipRight(
                  disk.onRead?.(name, args) ?? Effect.void,
                  found as Effect.Effect<unknown, unknown>
                )
              )
            )
          }
    ])
  ) as unknown as StoreService

/** What a node of a cluster has in common with the others. */
export interface RigCluster {
  readonly node: string
  readonly nodes: NodesService
  readonly wake: WakeService
}

export interface RigOptions {
  readonly options?: RuntimeOptions.Input
  readonly policy?: Layer.Layer<Policy>
  readonly auth?: Layer.Layer<Auth>
  readonly disk?: Disk
  readonly cluster?: RigCluster
  readonly hooks?: Hooks["Type"]
  readonly credentials?: Layer.Layer<Credentials>
}

/** Tokens are the principals' own names. */
export const names = AuthLayer.layerStatic({ alice: "alice", bob: "bob", carol: "carol" })

/** A runtime over `disk`, with an in-memory transport. */
export const rig = (
  agents: ReadonlyArray<Registered>,
  given: RigOptions & { readonly store: StoreService }
) =>
  Runtime.serve().pipe(
    Layer.provideMerge(TransportMemory.layer()),
    Layer.provideMerge(
      Runtime.layer({
        options: { shutdownGrace: "0 millis", heartbeatInterval: "1 hour", ...given.options },
        policy: given.policy,
        credentials: given.credentials,
        hooks: given.hooks === undefined ? undefined : Layer.succeed(Hooks, given.hooks)
      })
    ),
    Layer.provide(Registry.layer(agents)),
    Layer.provide(given.auth ?? names),
    Layer.provide(Layer.succeed(Store, given.store)),
    Layer.provide(given.cluster === undefined ? Layer.empty : Layer.succeed(Cluster, given.cluster))
  )

/** Starts a process on `disk`. `kill`: nothing more reaches the disk; `stop`: as an operator does. */
export const boot = (agents: ReadonlyArray<Registered>, given: RigOptions & { readonly disk: Disk }) =>
  Effect.gen(function* () {
    const process = given.disk.process(given.cluster?.node)
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => {
      process.kill()
      return Scope.close(scope, Exit.void)
    })
    yield* Scope.addFinalizer(scope, Effect.sync(process.leave))
    const context = yield* Layer.buildWithScope(rig(agents, { ...given, store: process.service }), scope)
    return {
      run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context),
      context,
      kill: Effect.suspend(() => {
        process.kill()
        return Scope.close(scope, Exit.void)
      }),
      stop: Scope.close(scope, Exit.void)
    }
  })

/** A clock whose wall can be set, and whose forward time is that of `base`. */
export const settableWall = (base: Clock.Clock) => {
  let offset = 0
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => base.unsafeCurrentTimeMillis() + offset,
    unsafeCurrentTimeNanos: () => base.unsafeCurrentTimeNanos(),
    currentTimeMillis: Effect.sync(() => base.unsafeCurrentTimeMillis() + offset),
    currentTimeNanos: base.currentTimeNanos,
    sleep: (duration: Duration.Duration) => base.sleep(duration)
  }
  return {
    clock,
    jump: (by: Duration.DurationInput) => {
      offset += Duration.toMillis(by)
    },
    jumpBack: (by: Duration.DurationInput) => {
      offset -= Duration.toMillis(by)
    }
  }
}
