/** What `arcp serve` provisions for jobs: credentials of the environment's LiteLLM gateway, recorded where everything else is kept. */
import * as fs from "node:fs"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as LiteLlm from "../../../layers/credentials/CredentialProvisionerLiteLlm.js"
import * as Credentials from "../../../layers/credentials/Credentials.js"
import * as IdGenerator from "../../../layers/runtime/IdGenerator.js"
import * as Cluster from "../../../services/cluster/Cluster.js"
import { type CredentialRecord, CredentialStore } from "../../../services/credentials/CredentialStore.js"

const fileStore = Effect.promise(() => import("../../../layers/credentials/CredentialStoreSql.js"))

/** The gateway is built at once: what is wrong with its variables is said before anything begins. Nothing where none is named. */
export const provisioned = Effect.gen(function* () {
  if (!(yield* LiteLlm.configured)) return undefined
  const gateway = yield* Layer.build(LiteLlm.layerConfig().pipe(Layer.provide(FetchHttpClient.layer)))
  return Credentials.layer().pipe(
    Layer.provide(Layer.succeedContext(gateway)),
    Layer.provide(IdGenerator.layer())
  )
})

/** Records in a file beside that of a runtime. */
export const besideFile = (filename: string) =>
  Effect.map(fileStore, ({ beside, layerSqlite }) => layerSqlite({ filename: beside(filename) }))

/** Records that a warning names. */
const maxNamed = 16

/** Moves one record to where this runtime keeps its own, as one that no job holds. */
const moveOne = (record: CredentialRecord, file: CredentialStore["Type"]) =>
  Effect.gen(function* () {
    const store = yield* CredentialStore
    const cluster = yield* Cluster.here
    const left = { ...record, state: "revoking" as const }
    yield* store.insert(cluster === undefined ? left : { ...left, node: cluster.node })
    yield* file.remove(record.id)
  })

/**
 * Moves what is recorded in a file beside that of a runtime into the store in context: earlier versions kept records there, also of
 * a runtime in Postgres. A file that a runtime uses is that one's.
 */
export const movedFrom = (filename: string): Layer.Layer<never, never, CredentialStore> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { beside, inUse } = yield* fileStore
      const file = beside(filename)
      if (!fs.existsSync(file) || (yield* inUse({ filename: file }))) return
      const records = yield* besideFile(filename)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const store = yield* CredentialStore.pipe(Effect.provide(yield* Layer.build(records)))
          const [stuck, moved] = yield* Effect.partition(yield* store.list, (record) =>
            Effect.mapBoth(moveOne(record, store), {
              onFailure: ({ message }) => `${record.id} (${message})`,
              onSuccess: () => record
            })
          )
          if (moved.length > 0)
            yield* Effect.logInfo(`moved ${moved.length} records of credentials from ${file}`)
          // One that cannot be moved keeps no other.
          if (stuck.length > 0)
            yield* Effect.logWarning(
              `${stuck.length} records of credentials stay in ${file}: ${stuck.slice(0, maxNamed).join(", ")}` +
                `${stuck.length > maxNamed ? " …" : ""}; arcp credentials --db ${filename} --revoke`
            )
        })
      )
    }).pipe(
      Effect.catchAll((error) =>
        Effect.logWarning(
          `records of credentials beside ${filename} could not be moved; arcp credentials --db ${filename} --revoke`,
          error
        )
      )
    )
  )
