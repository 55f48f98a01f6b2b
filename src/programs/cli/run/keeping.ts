/** Where `arcp serve` keeps everything: in a file, in Postgres, or in memory; and the runtime over that. */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Policy from "../../../layers/auth/Policy.js"
import * as LiteLlm from "../../../layers/credentials/CredentialProvisionerLiteLlm.js"
import * as Credentials from "../../../layers/credentials/Credentials.js"
import * as IdGenerator from "../../../layers/runtime/IdGenerator.js"
import * as Runtime from "../../../layers/runtime/Runtime.js"
import type { Policy as PolicyTag } from "../../../services/auth/Policy.js"
import type { Hooks } from "../../../services/jobs/Hooks.js"
import type * as RuntimeOptions from "../../../services/runtime/RuntimeOptions.js"
import { version } from "../../version.js"
import type { ServeFlags } from "../serve.js"
import { UsageError } from "../UsageError.js"
import { webhookOf } from "./webhook.js"

const defaultDb = ".arcp/arcp.db"

/** Where everything is kept, and what the log calls that. */
export type WhereKept = { readonly name: string } & (
  | { readonly in: "memory" }
  | { readonly in: "file"; readonly filename: string }
  | { readonly in: "postgres"; readonly url: Redacted.Redacted }
)

/** Where the flags, and else the environment, say that everything is kept. */
export const keptIn = (flags: ServeFlags): Effect.Effect<WhereKept, UsageError | ConfigError> =>
  Effect.gen(function* () {
    if (Option.contains(flags.db, ""))
      return yield* new UsageError({ message: `--db takes the path of a file, like ${defaultDb}` })
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
    const { nameOf } = yield* Effect.promise(() => import("../../../layers/store/pg/connections.js"))
    return { in: "postgres", name: nameOf(url.value), url: url.value }
  })

/** What the flags say of who may do what, and who is told. */
interface Deciding {
  readonly policy: Layer.Layer<PolicyTag>
  readonly hooks: Layer.Layer<Hooks> | undefined
}

/** Credentials of the environment's LiteLLM gateway, recorded in a file beside that of the runtime. */
const credentialsBeside = (filename: string) =>
  Effect.map(
    Effect.promise(() => import("../../../layers/credentials/CredentialStoreSql.js")),
    (CredentialStoreSql) =>
      Credentials.layer().pipe(
        Layer.provide(CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(filename) })),
        Layer.provide(LiteLlm.layerConfig().pipe(Layer.provide(FetchHttpClient.layer))),
        Layer.provide(IdGenerator.layer())
      )
  )

/** A runtime on a file; with `provisioned`, credentials beside it. */
const onFile = (
  flags: ServeFlags,
  filename: string,
  limits: RuntimeOptions.Input,
  { hooks, policy }: Deciding,
  provisioned: boolean
) =>
  Effect.gen(function* () {
    const RuntimeSqlite = yield* Effect.promise(() => import("../../../layers/runtime/RuntimeSqlite.js"))
    const credentials = yield* credentialsBeside(filename)
    return RuntimeSqlite.layer(
      { filename, synchronous: flags.synchronous },
      { options: limits, policy, hooks, credentials: provisioned ? credentials : undefined }
    )
  })

/** The store in Postgres: for this runtime alone, or shared with other nodes. */
const storeIn = (flags: ServeFlags, url: Redacted.Redacted) =>
  Effect.gen(function* () {
    if (!flags.cluster) {
      const StorePg = yield* Effect.promise(() => import("../../../layers/store/pg/StorePg.js"))
      return StorePg.layer({ url })
    }
    const RuntimeCluster = yield* Effect.promise(() => import("../../../layers/cluster/RuntimeCluster.js"))
    const [node, advertise] = [Option.getOrUndefined(flags.node), Option.getOrUndefined(flags.advertise)]
    return RuntimeCluster.layer({ url, node, advertise, version })
  })

/** A runtime in Postgres. The records of credentials are in a file of this machine all the same. */
const onPostgres = (
  flags: ServeFlags,
  url: Redacted.Redacted,
  limits: RuntimeOptions.Input,
  { hooks, policy }: Deciding,
  provisioned: boolean
) =>
  Effect.gen(function* () {
    const store = yield* storeIn(flags, url)
    const credentials = yield* credentialsBeside(defaultDb)
    if (provisioned)
      yield* Effect.logWarning(
        `--pg: what is provisioned for jobs is recorded on this machine, beside ${defaultDb}; a runtime elsewhere does not revoke it`
      )
    return Runtime.layer({
      options: limits,
      policy,
      hooks,
      credentials: provisioned ? credentials : undefined
    }).pipe(Layer.provideMerge(store))
  })

/** The runtime that the flags ask for, with those who decide for it and those who are told. */
export const runtimeOf = (flags: ServeFlags, kept: WhereKept, limits: RuntimeOptions.Input) =>
  Effect.gen(function* () {
    const provisioned = yield* LiteLlm.configured
    if (provisioned && kept.in === "memory")
      yield* Effect.logWarning("--memory: no credentials are provisioned, they need a durable store")
    const policy = Policy.layer({
      cancel: flags.cancel,
      operators: flags.operator,
      observers: flags.observer
    })
    const hooks = yield* webhookOf(flags)
    if (hooks !== undefined && kept.in === "memory")
      yield* Effect.logWarning("--memory: what a webhook is owed is forgotten when the runtime ends")
    const deciding = { policy, hooks }
    if (kept.in === "memory") return Runtime.layerMemory({ options: limits, policy, hooks })
    return kept.in === "file"
      ? yield* onFile(flags, kept.filename, limits, deciding, provisioned)
      : yield* onPostgres(flags, kept.url, limits, deciding, provisioned)
  })
