/** Records of credentials in Postgres: the contract, and who may write which. */
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import pg from "pg"
import { afterAll, describe } from "vitest"
import * as StorePg from "../../../src/layers/store/pg/StorePg.js"
import { CredentialStore, type SharedCredentials } from "../../../src/services/credentials/CredentialStore.js"
import { absent, type Fenced, Op, Store, type StoreError } from "../../../src/services/store/Store.js"
import { missing, query } from "../../testing/Postgres.js"
import { TcpProxy } from "../../testing/TcpProxy.js"
import { aJob, put, range } from "../store/fixtures.js"
import { makeStores } from "../store/pg/layers.js"
import { aRecord, suite } from "./CredentialStore.suite.js"

const stores = makeStores()
afterAll(stores.drop)

const title = (what: string) => `${what}${missing === undefined ? "" : ` (${missing})`}`

describe.skipIf(missing !== undefined)(title("records of credentials in Postgres"), () => {
  suite("Postgres", stores.layer(), { shared: true })
  suite("Postgres, of a node", stores.layer({ node: "b" }), { shared: true })

  let prefixes = 0
  const fresh = () => `creds${++prefixes}_`
  const sql = (text: string) => Effect.promise(async () => query(await stores.url(), text))
  const open = (prefix: string, node?: string, options: Partial<StorePg.Options> = {}) =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(stores.url)
      const opened = yield* StorePg.open({ url: Redacted.make(url), prefix, node, ...options })
      const credentials = Context.get(opened, CredentialStore)
      return {
        ...credentials,
        shared: credentials.shared as SharedCredentials,
        store: Context.get(opened, Store)
      }
    })
  /** What is done to a node that is taken for gone. */
  const bury = (prefix: string, node: string) =>
    sql(`DELETE FROM ${prefix}writers WHERE slot = 'node ${node}'`)

  it.scopedLive("a node that was taken for gone writes nothing more, and what it has left is another's", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const [a, b] = [yield* open(prefix, "a"), yield* open(prefix, "b")]
      const left = aRecord("cred_a", { node: "a", epoch: 1 })
      yield* a.insert(left)
      assert.deepStrictEqual(yield* b.shared.take("a", "b"), [])
      yield* bury(prefix, "a")
      const writes: ReadonlyArray<Effect.Effect<unknown, StoreError | Fenced>> = [
        a.insert(aRecord("cred_b", { node: "a" })),
        a.update({ ...left, state: "active" }),
        a.update({ ...left, state: "revoking" }),
        a.remove("cred_a", "a"),
        a.shared.take("b", "a")
      ]
      for (const write of writes) {
        const error = yield* Effect.flip(write)
        assert.deepStrictEqual([error._tag, "fenced" in error && error.fenced], ["StoreError", true])
      }
      assert.deepStrictEqual(yield* b.list, [left])
      assert.deepStrictEqual(yield* b.shared.take("a", "b"), [{ ...left, node: "b" }])
      // Back under its name, it has nothing of what was taken.
      yield* Effect.scoped(
        Effect.gen(function* () {
          const again = yield* open(prefix, "a")
          yield* again.update({ ...left, attempts: 9 })
          yield* again.remove("cred_a", "a")
        })
      )
      assert.deepStrictEqual(yield* b.list, [{ ...left, node: "b" }])
    })
  )

  it.scopedLive("what is to be held states the epoch of its job; what is to be revoked does not", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const a = yield* open(prefix, "a")
      const job = (node: string, epoch: number) => put({ ...aJob("job_a"), node, epoch })
      const of = (id: string, epoch: number) => aRecord(id, { jobId: "job_a", node: "a", epoch })
      // Before its job is stored.
      yield* a.insert(of("cred_a", 1))
      yield* a.store.commit({ ops: [job("a", 1)], owners: [{ job: "job_a", epoch: absent }] })
      yield* a.update({ ...of("cred_a", 1), state: "active" })
      const moved = Op.MoveJob({ jobId: "job_a", node: "b", epoch: 2, cancelRequested: undefined })
      yield* a.store.commit({ ops: [moved], owners: [{ job: "job_a", epoch: 1 }] })
      const refused = [
        a.insert(of("cred_b", 1)),
        a.insert(of("cred_b", 2)),
        a.update({ ...of("cred_a", 1), state: "active" })
      ]
      for (const write of refused) assert.strictEqual((yield* Effect.flip(write))._tag, "Fenced")
      yield* a.update({ ...of("cred_a", 1), state: "revoking" })
      assert.deepStrictEqual(yield* a.list, [{ ...of("cred_a", 1), state: "revoking" }])
      yield* a.remove("cred_a", "a")
      const back = Op.MoveJob({ jobId: "job_a", node: "a", epoch: 3, cancelRequested: undefined })
      yield* a.store.commit({ ops: [back], owners: [{ job: "job_a", epoch: 2 }] })
      assert.strictEqual((yield* Effect.flip(a.insert(of("cred_c", 1))))._tag, "Fenced")
      yield* a.insert(of("cred_c", 3))
      assert.deepStrictEqual(yield* a.list, [of("cred_c", 3)])
    })
  )

  it.scopedLive("a runtime that is alone goes on with what nodes have left", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const left = aRecord("cred_a", { node: "a", epoch: 4, jobId: "job_a" })
      yield* Effect.scoped(Effect.flatMap(open(prefix, "a"), ({ insert }) => insert(left)))
      const alone = yield* open(prefix)
      assert.deepStrictEqual(yield* alone.list, [left])
      yield* alone.update({ ...left, state: "revoking" })
      yield* alone.remove("cred_a", "a")
      assert.deepStrictEqual(yield* alone.list, [])
    })
  )

  it.scopedLive("a record that is written while its node is buried is there before that, or not at all", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const [a, b] = [yield* open(prefix, "a"), yield* open(prefix, "b")]
      const client = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const client = new pg.Client({ connectionString: await stores.url() })
          await client.connect()
          return client
        }),
        (client) => Effect.promise(() => client.end())
      )
      const say = (text: string) => Effect.promise(() => client.query(text))
      yield* say(`BEGIN; DELETE FROM ${prefix}writers WHERE slot = 'node a'`)
      const inserting = yield* Effect.fork(Effect.flip(a.insert(aRecord("cred_a", { node: "a" }))))
      // It waits for whoever takes its place, whatever it has seen.
      const waits = sql(`SELECT 1 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()`)
      while ((yield* waits).length === 0) yield* Effect.sleep("5 millis")
      assert.isNull(inserting.unsafePoll())
      yield* say("COMMIT")
      const error = yield* Fiber.join(inserting)
      assert.deepStrictEqual([error._tag, "fenced" in error && error.fenced], ["StoreError", true])
      assert.deepStrictEqual(yield* b.list, [])
    })
  )

  it.scopedLive("of nodes that take at once each record is one's", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const others = ["b", "c", "d"]
      const all = yield* Effect.forEach(others, (node) => open(prefix, node))
      const left = range(10, 40).map((n) => aRecord(`cred_${n}`, { node: "a" }))
      yield* Effect.forEach(left, (record) => all[0]?.insert(record) ?? Effect.void)
      const taken = yield* Effect.forEach(all, ({ shared }, i) => shared.take("a", others[i] ?? ""), {
        concurrency: "unbounded"
      })
      const ids = taken.flat().map(({ id }) => id)
      assert.deepStrictEqual(
        [...ids].sort(),
        left.map(({ id }) => id)
      )
    })
  )

  it.scopedLive("a record whose answer is lost is sent again, and is one", () =>
    Effect.gen(function* () {
      const url = new URL(yield* Effect.promise(stores.url))
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => TcpProxy.start({ host: url.hostname, port: Number(url.port || 5432) })),
        (proxy) => Effect.promise(() => proxy.stop())
      )
      url.host = `127.0.0.1:${proxy.port}`
      const a = yield* open(fresh(), "a", { url: Redacted.make(url.href), patience: "30 seconds" })
      yield* a.list
      let isSent = false
      let cuts = 0
      proxy.judge = (chunk, from) => {
        if (from === "client" && chunk.includes("AS c (id")) isSent = true
        if (from !== "server" || !isSent || cuts > 0) return "pass"
        cuts++
        return "cut"
      }
      const record = aRecord("cred_a", { node: "a", epoch: 1 })
      yield* a.insert(record)
      assert.strictEqual(cuts, 1)
      assert.deepStrictEqual(yield* a.list, [record])
    })
  )
})
