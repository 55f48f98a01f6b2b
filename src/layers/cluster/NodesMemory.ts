/** The nodes of one process: for tests, and as the model of what others do. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { NameTaken, type NodeInfo, Nodes } from "../../services/cluster/Nodes.js"
import { beating, rememberedFor, usualExpiry } from "./heartbeat.js"

/** How nodes are kept. */
export interface Options {
  /** After how long of silence others take a node for gone. Default: 12 s. */
  readonly expiry?: Duration.DurationInput | undefined
}

interface Joined extends NodeInfo {
  readonly startedAt: number
  aliveAt: number
}

/** Returns nodes for all who are given the same layer. */
export const layer = (options: Options = {}): Layer.Layer<Nodes> =>
  Layer.sync(Nodes, () => {
    const expiry = Duration.decode(options.expiry ?? usualExpiry)
    const nodes = new Map<string, Joined>()
    const isAlive = ({ aliveAt }: Joined, now: number) => now - aliveAt <= Duration.toMillis(expiry)
    return {
      join: (node) =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const before = nodes.get(node.name)
          if (before !== undefined && isAlive(before, now)) return yield* new NameTaken({ name: node.name })
          const joined: Joined = { ...node, startedAt: now, aliveAt: now }
          const isJoined = () => nodes.get(node.name) === joined
          yield* Effect.acquireRelease(
            Effect.sync(() => nodes.set(node.name, joined)),
            () => Effect.sync(() => isJoined() && nodes.delete(node.name))
          )
          const beat = Effect.map(Clock.currentTimeMillis, (at) => {
            if (isJoined()) joined.aliveAt = at
            return isJoined()
          })
          return yield* beating(node.name, expiry, beat)
        }),
      time: Clock.currentTimeMillis,
      bury: (name) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          const node = nodes.get(name)
          if (node === undefined) return true
          if (isAlive(node, now)) return false
          // Another than the one that has joined.
          nodes.set(name, { ...node })
          return true
        }),
      list: Effect.map(Clock.currentTimeMillis, (now) =>
        [...nodes.values()]
          .filter(({ aliveAt }) => now - aliveAt <= Duration.toMillis(rememberedFor))
          .sort((a, b) => (a.name < b.name ? -1 : 1))
          .map((node) => ({
            ...{ name: node.name, address: node.address, version: node.version, startedAt: node.startedAt },
            ...{ silentFor: now - node.aliveAt, isAlive: isAlive(node, now) }
          }))
      )
    }
  })
