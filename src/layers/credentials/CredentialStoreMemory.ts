/** Credential records in memory, for tests: what a crash leaves upstream is forgotten. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  type CredentialRecord,
  CredentialStore,
  type CredentialStoreService
} from "../../services/credentials/CredentialStore.js"
import { StoreError } from "../../services/store/Store.js"

/** Makes a store of records in memory. */
export const make: Effect.Effect<CredentialStoreService> = Effect.sync(() => {
  const records = new Map<string, CredentialRecord>()
  return {
    kind: "memory",
    insert: (record) =>
      Effect.suspend(() => {
        if (records.has(record.id))
          return Effect.fail(new StoreError({ message: `there is a credential ${record.id} already` }))
        records.set(record.id, { ...record })
        return Effect.void
      }),
    update: (record) =>
      Effect.sync(() => {
        if (records.has(record.id)) records.set(record.id, { ...record })
      }),
    remove: (id) => Effect.sync(() => void records.delete(id)),
    list: Effect.sync(() =>
      Array.from(records.values()).sort((a, b) =>
        a.createdAt === b.createdAt ? (a.id < b.id ? -1 : 1) : a.createdAt - b.createdAt
      )
    )
  }
})

/** `CredentialStore` in memory: each call is another one. */
export const layer = (): Layer.Layer<CredentialStore> => Layer.effect(CredentialStore, make)

export * from "../../services/credentials/CredentialStore.js"
