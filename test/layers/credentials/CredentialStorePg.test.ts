/** Records of credentials in Postgres: the contract, and who may write which. */
import { assert, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import pg from "pg"
import { afterAll, describe } from "vitest"
import * as RuntimeCluster from "../../../src/layers/cluster/RuntimeCluster.js"
import * as Credentials from "../../../src/layers/credentials/Credentials.js"
import * as IdGenerator from "../../../src/layers/runtime/IdGenerator.js"
import * as StorePg from "../../../src/layers/store/pg/StorePg.js"
import { CredentialProvisioner } from "../../../src/services/credentials/CredentialProvisioner.js"
import { CredentialStore, type SharedCredentials } from "../../../src/services/credentials/CredentialStore.js"
import { absent, type Fenced, Op, Store, type StoreError } from "../../../src/services/store/Store.js"
import { missing, query } from "../../testing/Postgres.js"
import { TcpProxy } from "../../testing/TcpProxy.js"
import { aJob, put, range } from "../store/fixtures.js"
import { makeStores } from "../store/pg/layers.js"
import { aRecord, suite } from "./CredentialStore.suite.js"
import { aJob as aHolder, Upstream } from "./credentials.js"

const stores = makeStores()
afterAll(stores.drop)

const pause = Effect.withClock(Effect.sleep("20 millis"), Clock.make())
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

  it.scopedLive("nothing is taken from a node that comes back right then", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const [a, b] = [yield* open(prefix, "a"), yield* open(prefix, "b")]
      const left = aRecord("cred_a", { node: "a", epoch: 1 })
      yield* a.insert(left)
      yield* bury(prefix, "a")
      const client = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const client = new pg.Client({ connectionString: await stores.url() })
          await client.connect()
          return client
        }),
        (client) => Effect.promise(() => client.end())
      )
      const ask = (text: string) => Effect.promise(() => client.query(text))
      yield* ask("BEGIN")
      yield* ask(`SELECT pg_advisory_xact_lock(hashtextextended('${prefix}writers', 0))`)
      yield* ask(
        `INSERT INTO ${prefix}writers VALUES ('node a', 'x', 'a', 0, clock_timestamp(), clock_timestamp() + interval '1 minute')`
      )
      const taking = yield* Effect.fork(b.shared.take("a", "b"))
      const waits = sql(
        `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid IN
           (SELECT pid FROM pg_stat_activity WHERE query LIKE '%''${prefix}writers''%')`
      )
      while ((yield* waits).length === 0 && taking.unsafePoll() === null) yield* pause
      yield* ask("COMMIT")
      assert.deepStrictEqual(yield* Fiber.join(taking), [])
      assert.deepStrictEqual(yield* b.list, [left])
    })
  )

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

  /** Says something to Postgres, in a session of its own. */
  const saying = Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const client = new pg.Client({ connectionString: await stores.url() })
        await client.connect()
        return client
      }),
      (client) => Effect.promise(() => client.end())
    ),
    (client) => (text: string) => Effect.promise(() => client.query(text))
  )
  const somebodyWaits = (others: number) =>
    Effect.gen(function* () {
      const waiting =
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
      while ((yield* sql(waiting)).length < others) yield* Effect.sleep("5 millis")
    })

  it.scopedLive("a record that is written while its node is buried is there before that, or not at all", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const [a, b] = [yield* open(prefix, "a"), yield* open(prefix, "b")]
      const say = yield* saying
      yield* say(`BEGIN; DELETE FROM ${prefix}writers WHERE slot = 'node a'`)
      const inserting = yield* Effect.fork(Effect.flip(a.insert(aRecord("cred_a", { node: "a" }))))
      // It waits for whoever takes its place, whatever it has seen.
      yield* somebodyWaits(1)
      assert.isNull(inserting.unsafePoll())
      yield* say("COMMIT")
      const error = yield* Fiber.join(inserting)
      assert.deepStrictEqual([error._tag, "fenced" in error && error.fenced], ["StoreError", true])
      assert.deepStrictEqual(yield* b.list, [])
    })
  )

  it.scopedLive("whoever follows under a name sees what was being written under it", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const old = yield* open(prefix, "a", { lease: "1 minute" })
      const say = yield* saying
      const record = aRecord("cred_a", { node: "a", epoch: 1 })
      // It waits for another of its name, which then is not there.
      yield* say(
        `BEGIN; INSERT INTO ${prefix}credentials VALUES ('cred_a', '', '', '', '', '', '', 0, 0, 0, 0, '', '', 0)`
      )
      const inserting = yield* Effect.fork(old.insert(record))
      yield* somebodyWaits(1)
      // Nor is it in the way of a commit.
      yield* old.store.commit({ ops: [put({ ...aJob("job_z"), node: "a" })], owners: [] })
      yield* sql(`UPDATE ${prefix}writers SET expires = '-infinity'`)
      const following = yield* Effect.fork(open(prefix, "a"))
      yield* somebodyWaits(2)
      assert.isNull(following.unsafePoll())
      yield* say("ROLLBACK")
      yield* Fiber.join(inserting)
      const young = yield* Fiber.join(following)
      assert.deepStrictEqual(yield* young.list, [record])
      const error = yield* Effect.flip(old.insert(aRecord("cred_b", { node: "a" })))
      assert.deepStrictEqual([error._tag, "fenced" in error && error.fenced], ["StoreError", true])
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

  it.scoped(
    "credentials of a node are left alone while it is there, and revoked once when it is not; it mints and revokes nothing then",
    () =>
      Effect.gen(function* () {
        const upstream = new Upstream()
        const url = yield* Effect.promise(stores.url)
        const sql = (text: string) => Effect.promise(() => query(url, text))
        const rows = sql("SELECT node, epoch::integer, state FROM nodes_credentials ORDER BY node")
        const start = (node: string) =>
          Effect.map(
            Layer.build(
              Credentials.layer({ shutdownGrace: "0 millis" }).pipe(
                Layer.provide(Layer.succeed(CredentialProvisioner, upstream.provisioner)),
                Layer.provide(IdGenerator.layer()),
                Layer.provide(RuntimeCluster.layer({ url: Redacted.make(url), prefix: "nodes_", node }))
              )
            ),
            Context.get(Credentials.Credentials)
          )
        const a = yield* start("a")
        const [b, c] = [yield* start("b"), yield* start("c")]
        upstream.profiles = ["one", "two"]
        yield* a.mint(aHolder("job_a", { epoch: 2 }))
        upstream.profiles = ["one"]
        yield* b.mint(aHolder("job_b"))
        const held = [
          ["a", 2, "active"],
          ["a", 2, "active"]
        ]
        for (let looks = 0; looks < 3; looks++) yield* Effect.zipRight(TestClock.adjust("5 seconds"), pause)
        assert.deepStrictEqual(yield* rows, [...held, ["b", 1, "active"]])
        // As those do who take it for gone; it has not heard of it.
        yield* sql("UPDATE nodes_nodes SET incarnation = '', expires = '-infinity' WHERE name = 'a'")
        yield* sql("DELETE FROM nodes_writers WHERE slot = 'node a'")
        const error = yield* Effect.flip(a.mint(aHolder("job_z")))
        assert.match(error.message, /the credential store failed/)
        yield* a.release("job_a")
        while ((yield* rows).length > 1) yield* Effect.zipRight(TestClock.adjust("5 seconds"), pause)
        assert.deepStrictEqual(yield* rows, [["b", 1, "active"]])
        yield* Effect.zipRight(TestClock.adjust("1 minute"), pause)
        assert.deepStrictEqual(
          upstream.calls.filter((call) => !call.startsWith("mint")),
          ["revoke", "revoke"]
        )
        assert.deepStrictEqual(upstream.calls.filter((call) => call.startsWith("mint")).length, 3)
        assert.strictEqual(upstream.live.size, 1)
        assert.deepStrictEqual([b.held("job_b").length, yield* c.outstanding], [1, []])
      })
  )
})
