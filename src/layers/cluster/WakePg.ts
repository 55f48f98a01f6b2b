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
import { lookingEvery, type WakeOptions } from "./looking.js"
import { keep, type PgConnection, probing } from "./pgConnection.js"

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

/** Returns wakes over a Postgres. */
export const layer = ({ look, prefix = "arcp", url }: Options): Layer.Layer<Wake> =>
  Layer.scoped(
    Wake,
    Effect.gen(function* () {
      const told = new Set<string>()
      const changed = new Signal()
      /** All who are told at once take one statement, and what is told meanwhile waits for it. */
      const telling = ({ query }: PgConnection) =>
        Effect.forever(
          Effect.suspend(() => {
            if (told.size === 0) return changed.wait
            const channels = [...told]
            told.clear()
            return query("select pg_notify(channel, '') from unnest($1::text[]) as channel", [channels]).pipe(
              Effect.onError(() =>
                Effect.sync(() => {
                  for (const channel of channels) told.add(channel)
                })
              )
            )
          })
        )
      yield* Effect.forkScoped(keep("telling other nodes", url, telling))

      return {
        tell: (node) => {
          told.add(channelOf(prefix, node))
          changed.give()
        },
        listen: (node, onWake) => {
          const channel = channelOf(prefix, node)
          const listening = (connection: PgConnection) =>
            Effect.gen(function* () {
              connection.client.on("notification", (message) => {
                if (message.channel === channel) onWake(true)
              })
              yield* connection.query(`listen ${connection.client.escapeIdentifier(channel)}`)
              // What was said while nobody listened.
              onWake(true)
              return yield* probing(connection)
            })
          return Effect.zipRight(
            Effect.forkScoped(keep("listening to other nodes", url, listening)),
            lookingEvery(look, onWake)
          )
        }
      }
    })
  )
