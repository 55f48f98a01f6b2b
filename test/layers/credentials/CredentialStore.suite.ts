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

/** `shared`: nodes may share such a store. */
export const suite = (
  name: string,
  layer: Layer.Layer<CredentialStore, StoreError>,
  { shared }: { readonly shared: boolean }
): void => {
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

    test(shared ? "can be shared by nodes" : "is one runtime's, whatever records say", (store) =>
      Effect.gen(function* () {
        expect(store.shared !== undefined).toBe(shared)
        const record = aRecord("cred_a", { node: "a", epoch: 3 })
        yield* store.insert(record)
        expect(yield* store.list).toEqual([shared ? record : aRecord("cred_a")])
        yield* store.update({ ...record, state: "revoking" })
        expect((yield* store.list).map(({ state }) => state)).toEqual(["revoking"])
        yield* store.remove("cred_a", "a")
        expect(yield* store.list).toEqual([])
      })
    )

    if (shared) sharedSuite(test)
  })
}

type Test = <E>(title: string, body: (store: CredentialStore["Type"]) => Effect.Effect<void, E>) => void

/** What a store promises that nodes share. */
const sharedSuite = (test: Test): void => {
  const theShared = ({ shared }: CredentialStore["Type"]) => {
    if (shared === undefined) throw new Error("nodes do not share this store")
    return shared
  }

  test("a record is changed and removed by the node whose it is", (store) =>
    Effect.gen(function* () {
      const [ofA, ofNobody] = [aRecord("cred_a", { node: "a" }), aRecord("cred_b")]
      yield* store.insert(ofA)
      yield* store.insert(ofNobody)
      yield* store.update({ ...ofA, node: "b", attempts: 7 })
      yield* store.update({ ...ofNobody, node: "b", attempts: 7 })
      yield* store.update(aRecord("cred_a", { attempts: 7 }))
      yield* store.remove("cred_a", "b")
      yield* store.remove("cred_a")
      yield* store.remove("cred_b", "b")
      expect(yield* store.list).toEqual([ofA, ofNobody])
      yield* store.update({ ...ofA, attempts: 1 })
      yield* store.remove("cred_b")
      expect(yield* store.list).toEqual([{ ...ofA, attempts: 1 }])
    }))

  test("what a node has left another takes, once, and has it from then on", (store) =>
    Effect.gen(function* () {
      const { nodes, take } = theShared(store)
      expect(yield* nodes).toEqual([])
      const old = aRecord("cred_z", { node: "a\0", epoch: 2, createdAt: 500, state: "active" })
      const young = aRecord("cred_a", { node: "a\0", unsettledUntil: 9_000 })
      const other = aRecord("cred_c", { node: "c" })
      for (const record of [young, other, old, aRecord("cred_n")]) yield* store.insert(record)
      expect([...(yield* nodes)].sort()).toEqual(["", "a\0", "c"])
      const [oldTaken, youngTaken] = [
        { ...old, node: "b" },
        { ...young, node: "b" }
      ]
      expect(yield* take("a\0", "b")).toEqual([oldTaken, youngTaken])
      expect(yield* take("a\0", "b")).toEqual([])
      expect(yield* take("", "b")).toEqual([aRecord("cred_n", { node: "b" })])
      expect([...(yield* nodes)].sort()).toEqual(["b", "c"])
      yield* store.update({ ...old, state: "failed" })
      yield* store.remove("cred_a", "a\0")
      expect(yield* store.list).toEqual(
        [oldTaken, youngTaken, other, aRecord("cred_n", { node: "b" })].sort(byAge)
      )
      yield* store.remove("cred_z", "b")
      expect((yield* store.list).map(({ id }) => id)).not.toContain("cred_z")
    }))
}

const byAge = (a: CredentialRecord, b: CredentialRecord) =>
  a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)
