/** Several runtimes of one process over one store in memory: the nodes of a cluster, each with a transport of its own. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as NodesMemory from "../../src/layers/cluster/NodesMemory.js"
import * as WakeMemory from "../../src/layers/cluster/WakeMemory.js"
import type { Registered } from "../../src/services/agents/Agent.js"
import { Nodes } from "../../src/services/cluster/Nodes.js"
import { Wake, type WakeService } from "../../src/services/cluster/Wake.js"
import { boot, Disk, type RigOptions } from "./Rig.js"

/** What nodes share: a disk, the list of nodes, and wakes, which can be lost. */
export const cluster = Effect.gen(function* () {
  const disk = yield* Disk.make
  const listed = Context.get(yield* Layer.build(NodesMemory.layer()), Nodes)
  const nodes: typeof listed = {
    ...listed,
    bury: (name) =>
      Effect.tap(listed.bury(name), (isGone) => Effect.sync(() => isGone && disk.places.delete(name)))
  }
  const inner = Context.get(yield* Layer.build(WakeMemory.layer()), Wake)
  const wakes = { lost: false, told: 0 }
  const wake: WakeService = {
    ...inner,
    tell: (node) => {
      wakes.told++
      if (!wakes.lost) inner.tell(node)
    }
  }
  const start = (name: string, agents: ReadonlyArray<Registered>, given: RigOptions = {}) =>
    Effect.gen(function* () {
      const joined = yield* Scope.make()
      yield* Effect.addFinalizer(() => Scope.close(joined, Exit.void))
      yield* nodes.join({ name, address: undefined, version: "test" }).pipe(Scope.extend(joined))
      const booted = yield* boot(agents, { ...given, disk, cluster: { node: name, nodes, wake } })
      const leave = Scope.close(joined, Exit.void)
      return { ...booted, name, kill: Effect.zipRight(booted.kill, leave) }
    })
  /** A node that is there, and does nothing. */
  const idle = (name: string) => nodes.join({ name, address: undefined, version: "test" })
  return { disk, idle, start, wakes }
})

/** A node that runs. */
export type Node = Effect.Effect.Success<ReturnType<Effect.Effect.Success<typeof cluster>["start"]>>
