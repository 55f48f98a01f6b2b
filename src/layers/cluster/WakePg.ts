/**
 * Wakes by `LISTEN` and `NOTIFY`, on two connections of their own and never in the transaction of a commit: a notification there is
 * what Postgres serialises all commits for.
 */
import { createHash } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import { Wake } from "../../services/cluster/Wake.js"
import { Signal } from "../../services/runtime/Signal.js"
import { lookingEvery, type WakeOptions, wakingApart } from "./looking.js"
import * as Measuring from "./measuring.js"
import { type ConnectionLost, keep, type PgConnection, probing } from "./pgConnection.js"

/** How nodes wake each other over Postgres. */
export interface Options extends WakeOptions {
  /** `postgres://…`: of the database itself, and no pooler in transaction mode, through which nobody can listen. */
  readonly url: Redacted.Redacted
  /** What channels begin with: nodes of another runtime on the same database have another. Default: `arcp`. */
  readonly prefix?: string | undefined
}

/** Postgres cuts longer names. */
const maxChannelBytes = 63

const channelOf = (prefix: string, node: string): string => {
  const channel = `${prefix}_${node}`
  return Buffer.byteLength(channel) <= maxChannelBytes
    ? channel
    : `${prefix}_${createHash("sha256").update(node).digest("hex").slice(0, 32)}`
}

/** What is called back for a channel. */
type Listeners = Map<string, Set<() => void>>

/**
 * Listens to all channels that somebody here listens to, on one connection; what was said while nobody heard it, all are told of
 * at its beginning. Fails when the connection is lost.
 */
const listeningTo =
  (listeners: Listeners, added: Signal, heard: Set<string>) =>
  ({ client, query }: PgConnection): Effect.Effect<never, ConnectionLost> => {
    const call = (channel: string) => {
      for (const onWake of listeners.get(channel) ?? []) onWake()
    }
    const listen = (channel: string) =>
      Effect.map(query(`listen ${client.escapeIdentifier(channel)}`), () => {
        heard.add(channel)
        call(channel)
      })
    const next = Effect.suspend(() => {
      const missing = [...listeners.keys()].find((channel) => !heard.has(channel))
      return missing === undefined ? Effect.raceFirst(added.wait, probing(query)) : listen(missing)
    })
    return Effect.suspend(() => {
      heard.clear()
      client.on("notification", ({ channel }) => {
        Measuring.heard()
        call(channel)
      })
      return Effect.forever(next)
    })
  }

/** Returns wakes over a Postgres. */
export const layer = ({ look, prefix = "arcp", url }: Options): Layer.Layer<Wake> =>
  Layer.scoped(
    Wake,
    Effect.gen(function* () {
      const told = new Set<string>()
      const changed = new Signal()
      /** All who are told at once take one statement, and what is told meanwhile waits for it. */
      const telling = ({ query }: PgConnection) =>
        // Nothing rests on a wake, so none waits until it is on the disk, or on that of a replica.
        Effect.zipRight(
          query("set synchronous_commit = off"),
          Effect.forever(
            Effect.suspend(() => {
              if (told.size === 0) return changed.wait
              const channels = [...told]
              told.clear()
              return query("select pg_notify(channel, '') from unnest($1::text[]) as channel", [
                channels
              ]).pipe(
                Effect.tap(() => Effect.sync(() => Measuring.told(channels.length))),
                Effect.onError(() =>
                  Effect.sync(() => {
                    for (const channel of channels) told.add(channel)
                  })
                )
              )
            })
          )
        )
      yield* Effect.forkScoped(keep("telling other nodes", url, telling))
      const listeners: Listeners = new Map()
      const added = new Signal()
      const heard = new Set<string>()
      yield* Effect.forkScoped(keep("listening to other nodes", url, listeningTo(listeners, added, heard)))

      return {
        tell: (node) => {
          told.add(channelOf(prefix, node))
          changed.give()
        },
        listen: (node, onWake) => {
          const channel = channelOf(prefix, node)
          const listening = (call: () => void) =>
            Effect.acquireRelease(
              Effect.sync(() => {
                const of = listeners.get(channel) ?? new Set()
                listeners.set(channel, of.add(call))
                if (heard.has(channel)) call()
                else added.give()
              }),
              () =>
                Effect.sync(() => {
                  const of = listeners.get(channel)
                  if (of?.delete(call) === true && of.size === 0) listeners.delete(channel)
                })
            )
          return Effect.zipRight(
            Effect.flatMap(
              wakingApart(() => onWake(true)),
              listening
            ),
            lookingEvery(look, onWake)
          )
        }
      }
    })
  )
