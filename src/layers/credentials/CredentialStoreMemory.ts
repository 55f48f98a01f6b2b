/** Credential records in memory, for tests: what a crash leaves upstream is forgotten. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  type CredentialRecord,
  CredentialStore,
  type CredentialStoreService
} from "../../services/credentials/CredentialStore.js"
import { StoreError } from "../../services/store/Store.js"

const byAge = (a: CredentialRecord, b: CredentialRecord) =>
  a.createdAt === b.createdAt ? (a.id < b.id ? -1 : 1) : a.createdAt - b.createdAt

/** Makes a store of records in memory. */
export const make: Effect.Effect<CredentialStoreService> = Effect.sync(() => {
  const records = new Map<string, CredentialRecord>()
  const isOf = (id: string, node: string | undefined) => {
    const record = records.get(id)
    return record !== undefined && record.node === node
  }
  const all = () => Array.from(records.values()).sort(byAge)
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
        if (isOf(record.id, record.node)) records.set(record.id, { ...record })
      }),
    remove: (id, node) =>
      Effect.sync(() => {
        if (isOf(id, node)) records.delete(id)
      }),
    list: Effect.sync(all),
    shared: {
      nodes: Effect.sync(() => [...new Set(all().map(({ node = "" }) => node))]),
      take: (from, to) =>
        Effect.sync(() => {
          const taken = all()
            .filter(({ node = "" }) => node === from)
            .map((record) => ({ ...record, node: to }))
          for (const record of taken) records.set(record.id, record)
          return taken
        })
    }
  }
})

/** `CredentialStore` in memory: each call is another one. */
export const layer = (): Layer.Layer<CredentialStore> => Layer.effect(CredentialStore, make)

export * from "../../services/credentials/CredentialStore.js"
