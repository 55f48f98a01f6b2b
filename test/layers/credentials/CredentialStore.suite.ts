/** What every credential store promises (`src/services/credentials/CredentialStore.ts`), run for each implementation. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { type CredentialRecord, CredentialStore } from "../../../src/services/credentials/CredentialStore.js"
import { StoreError } from "../../../src/services/store/Store.js"

export const aRecord = (id: string, fields: Partial<CredentialRecord> = {}): CredentialRecord => ({
  id,
  credentialId: id,
  jobId: "job_a",
  principal: "alice",
  state: "minting",
  createdAt: 1_000,
  updatedAt: 1_000,
  attempts: 0,
  ...fields
})

export const suite = (name: string, layer: Layer.Layer<CredentialStore, StoreError>): void => {
  const test = <E>(title: string, body: (store: CredentialStore["Type"]) => Effect.Effect<void, E>): void =>
    it.effect(title, () => Effect.flatMap(CredentialStore, body).pipe(Effect.provide(layer)))

  describe(`CredentialStore: ${name}`, () => {
    test("is empty at first", (store) =>
      Effect.gen(function* () {
        expect(yield* store.list).toEqual([])
        yield* store.update(aRecord("cred_a"))
        yield* store.remove("cred_a")
        expect(yield* store.list).toEqual([])
      }))

    test("keeps every field, and leaves out those that are absent", (store) =>
      Effect.gen(function* () {
        const full = aRecord("cred_a", {
          credentialId: "cred_0",
          state: "failed",
          endpoint: "https://models.example",
          principal: "a\0b",
          reference: "ab\0\u001f12 😀",
          createdAt: 1_700_000_000_123,
          updatedAt: 1_700_000_000_456,
          unsettledUntil: 1_700_000_135_123,
          attempts: 3,
          lastError: 'it\'s "down"; DROP TABLE arcp_credentials --'
        })
        yield* store.insert(full)
        yield* store.insert(aRecord("cred_b", { createdAt: 1_700_000_000_124 }))
        const [first, second] = yield* store.list
        expect(first).toEqual(full)
        expect(Object.keys(second ?? {}).sort()).toEqual(Object.keys(aRecord("cred_b")).sort())
      }))

    test("lists the oldest first, by id within a millisecond", (store) =>
      Effect.gen(function* () {
        yield* store.insert(aRecord("cred_c", { createdAt: 2_000 }))
        yield* store.insert(aRecord("cred_b", { createdAt: 1_000 }))
        yield* store.insert(aRecord("cred_a", { createdAt: 2_000 }))
        expect((yield* store.list).map(({ id }) => id)).toEqual(["cred_b", "cred_a", "cred_c"])
      }))

    test("replaces what is there, and never brings back what is gone", (store) =>
      Effect.gen(function* () {
        yield* store.insert(aRecord("cred_a", { unsettledUntil: 5_000 }))
        yield* store.insert(aRecord("cred_b"))
        const active = aRecord("cred_a", { state: "active", updatedAt: 2_000, endpoint: "https://e" })
        yield* store.update(active)
        expect(yield* store.list).toEqual([active, aRecord("cred_b")])
        yield* store.remove("cred_a")
        yield* store.remove("cred_a")
        yield* store.update(active)
        expect(yield* store.list).toEqual([aRecord("cred_b")])
      }))

    test("refuses a second record of one id", (store) =>
      Effect.gen(function* () {
        yield* store.insert(aRecord("cred_a"))
        const error = yield* Effect.flip(store.insert(aRecord("cred_a", { jobId: "job_b" })))
        expect(error).toBeInstanceOf(StoreError)
        expect(yield* store.list).toEqual([aRecord("cred_a")])
      }))

    test("does not let a reader change what it keeps", (store) =>
      Effect.gen(function* () {
        const record = { ...aRecord("cred_a") }
        yield* store.insert(record)
        Object.assign(record, { state: "active" })
        expect((yield* store.list)[0]?.state).toBe("minting")
      }))
  })
}
