/** Where `arcp serve` keeps everything: in a file, in Postgres, or in memory; and the runtime over that. */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Policy from "../../../layers/auth/Policy.js"
import * as LiteLlm from "../../../layers/credentials/CredentialProvisionerLiteLlm.js"
import * as Runtime from "../../../layers/runtime/Runtime.js"
import type * as RuntimeOptions from "../../../services/runtime/RuntimeOptions.js"
import { version } from "../../version.js"
import { defaultDb } from "../db-flags.js"
import type { ServeFlags } from "../serve.js"
import { UsageError } from "../UsageError.js"
import { checkPg } from "./pgUrl.js"
import { besideFile, movedFrom, provisioned } from "./provisioning.js"
import { webhookOf } from "./webhook.js"

/** Where everything is kept, and what the log calls that. */
export type WhereKept = { readonly name: string } & (
  | { readonly in: "memory" }
  | { readonly in: "file"; readonly filename: string }
  | { readonly in: "postgres"; readonly url: Redacted.Redacted }
)

/** Where the flags, and else the environment, say that everything is kept. */
export const keptIn = (flags: ServeFlags): Effect.Effect<WhereKept, UsageError | ConfigError> =>
  Effect.gen(function* () {
    const named = [flags.memory, Option.isSome(flags.db), Option.isSome(flags.pg)].filter(Boolean).length
    if (named > 1) return yield* new UsageError({ message: "choose one of --db FILE, --pg URL and --memory" })
    const isNamed = Option.isSome(flags.node) || Option.isSome(flags.advertise)
    if (isNamed && !flags.cluster)
      return yield* new UsageError({ message: "--node and --advertise are of nodes: give --cluster too" })
    if (flags.cluster && (flags.memory || Option.isSome(flags.db)))
      return yield* new UsageError({ message: "nodes share a Postgres: --cluster takes --pg URL" })
    if (flags.memory) return { in: "memory", name: "memory" }
    const url =
      named === 0
        ? yield* Config.option(Config.redacted("ARCP_PG"))
        : Option.map(flags.pg, (text) => Redacted.make(text))
    if (Option.isNone(url) && flags.cluster)
      return yield* new UsageError({ message: "nodes share a Postgres: --cluster takes --pg URL" })
    if (Option.isNone(url)) {
      const filename = Option.getOrElse(flags.db, () => defaultDb)
      return { in: "file", name: filename, filename }
    }
    yield* checkPg(named === 0 ? "ARCP_PG" : "--pg", url.value)
    const { nameOf } = yield* Effect.promise(() => import("../../../layers/store/pg/connections.js"))
    return { in: "postgres", name: nameOf(url.value), url: url.value }
  })

/** What is kept in Postgres, opened. */
const postgresStore = (flags: ServeFlags, url: Redacted.Redacted) =>
  Effect.gen(function* () {
    if (!flags.cluster) {
      const StorePg = yield* Effect.promise(() => import("../../../layers/store/pg/StorePg.js"))
      return StorePg.layer({ url })
    }
    const RuntimeCluster = yield* Effect.promise(() => import("../../../layers/cluster/RuntimeCluster.js"))
    const [node, advertise] = [Option.getOrUndefined(flags.node), Option.getOrUndefined(flags.advertise)]
    return RuntimeCluster.layer({ url, node, advertise, version })
  })

/**
 * The runtime that the flags ask for, with those who decide for it and those who are told. `starts` is done once its store is
 * open, and before the runtime does anything with what is in it.
 */
export const runtimeOf = (
  flags: ServeFlags,
  kept: WhereKept,
  limits: RuntimeOptions.Input,
  starts: Effect.Effect<void>
) =>
  Effect.gen(function* () {
    const policy = Policy.layer({
      cancel: flags.cancel,
      operators: flags.operator,
      observers: flags.observer
    })
    const hooks = yield* webhookOf(flags)
    const begun = Layer.effectDiscard(starts)
    if (kept.in === "memory") {
      if (yield* LiteLlm.configured)
        yield* Effect.logWarning("--memory: no credentials are provisioned, they need a durable store")
      if (hooks !== undefined)
        yield* Effect.logWarning("--memory: what a webhook is owed is forgotten when the runtime ends")
      return Runtime.layerMemory({ options: limits, policy, hooks }).pipe(Layer.provideMerge(begun))
    }
    const credentials = yield* provisioned
    if (kept.in === "file") {
      const { filename } = kept
      const StoreSqlite = yield* Effect.promise(() => import("../../../layers/store/StoreSqlite.js"))
      const recorded = credentials?.pipe(Layer.provide(yield* besideFile(filename)))
      return Runtime.layer({ options: limits, policy, hooks, credentials: recorded }).pipe(
        Layer.provideMerge(begun),
        Layer.provideMerge(StoreSqlite.layer({ filename, synchronous: flags.synchronous }))
      )
    }
    const recorded = credentials?.pipe(Layer.provide(movedFrom(defaultDb)))
    return Runtime.layer({ options: limits, policy, hooks, credentials: recorded }).pipe(
      Layer.provideMerge(begun),
      Layer.provideMerge(yield* postgresStore(flags, kept.url))
    )
  })
