/** What a store in Postgres does beyond what every store promises. */
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { afterAll, describe } from "vitest"
import { bigintArray, integerArray, textArray } from "../../../../src/layers/store/pg/arrays.js"
import { arrayLiteral } from "../../../../src/layers/store/pg/literals.js"
import * as StorePg from "../../../../src/layers/store/pg/StorePg.js"
import { fromStored, toStored } from "../../../../src/layers/store/pg/text.js"
import { commitUnowned } from "../../../../src/layers/store/unowned.js"
import { Op, type StoreService } from "../../../../src/services/store/Store.js"
import { missing, query } from "../../../testing/Postgres.js"
import { TcpProxy } from "../../../testing/TcpProxy.js"
import { aJob, append, aSession, put, range, seqs, someEvents } from "../fixtures.js"
import { makeStores } from "./layers.js"

it("names keep what text cannot have, and their order", () => {
  const names = ["", "a", "a\0", "a\0b", "a\u0001", "a\u0001\u0001", "a\u0001\u0002", "a\u0002", "b", "é🙂"]
  for (const name of names) assert.strictEqual(fromStored(toStored(name)), name)
  const stored = names.map(toStored)
  assert.deepStrictEqual([...stored].sort(), stored)
  assert.notMatch(stored.join(""), /\0/)
})

const stores = makeStores()
afterAll(stores.drop)

describe.skipIf(missing !== undefined)(`StorePg${missing === undefined ? "" : ` (${missing})`}`, () => {
  let prefixes = 0
  const fresh = () => `own${++prefixes}_`
  const open = (prefix: string, options: Partial<StorePg.Options> = {}) =>
    Effect.flatMap(Effect.promise(stores.url), (url) =>
      StorePg.make({ url: Redacted.make(url), prefix, ...options })
    )
  const sql = (text: string) => Effect.promise(async () => query(await stores.url(), text))
  /** A store whose connections go through a proxy; it is waited for as long as a busy machine may take, where nothing else is said. */
  const proxied = (prefix: string, options: Partial<StorePg.Options> = {}) =>
    Effect.gen(function* () {
      const url = new URL(yield* Effect.promise(stores.url))
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => TcpProxy.start({ host: url.hostname, port: Number(url.port || 5432) })),
        (proxy) => Effect.promise(() => proxy.stop())
      )
      url.host = `127.0.0.1:${proxy.port}`
      return {
        proxy,
        store: yield* open(prefix, { url: Redacted.make(url.href), patience: "30 seconds", ...options })
      }
    })
  const commit = commitUnowned
  const everything = (store: StoreService) => Effect.map(store.events("job_a", 1, 9_999), seqs)

  it.scopedLive("goes on where it was closed, and keeps what was dropped dropped", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      yield* Effect.scoped(
        Effect.flatMap(open(prefix), (store) =>
          commit(store, [
            put(aJob("job_a")),
            append("job_a", 1, 5),
            put(aJob("job_b")),
            append("job_b", 1, 5)
          ])
        )
      )
      const store = yield* open(prefix)
      yield* commit(store, [
        append("job_a", 6, 7),
        Op.TrimJob({ jobId: "job_a", seq: 3 }),
        Op.DropJob({ jobId: "job_b" }),
        put(aJob("job_c")),
        append("job_c", 1, 1)
      ])
      assert.deepStrictEqual(yield* everything(store), range(3, 7))
      assert.deepStrictEqual(yield* store.events("job_b", 1, 10), [])
      assert.deepStrictEqual(seqs(yield* store.events("job_c", 1, 10)), [1])
    })
  )

  it.scopedLive("a commit of what is ordinary is one statement", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const { proxy, store } = yield* proxied(prefix)
      yield* commit(store, [put(aJob("job_a")), Op.PutSession({ session: aSession("sess_a") })])
      let statements = ""
      proxy.judge = (chunk, from) => {
        if (from === "client") statements += chunk.toString("latin1")
        return "pass"
      }
      yield* commit(store, [
        append("job_a", 1, 5),
        Op.PutRun({
          sessionId: "sess_a",
          run: { eventSeq: 1, jobId: "job_a", jobSeq: 1, count: 5, bytes: 9 }
        }),
        put(aJob("job_b")),
        Op.Observe({ sessionId: "sess_a", jobId: "job_b", cursor: 0 }),
        Op.Unobserve({ sessionId: "sess_a", jobId: "job_a" }),
        Op.Alive({ at: 5 })
      ])
      assert.strictEqual(statements.match(/WITH held_jobs AS/g)?.length, 1)
      assert.notMatch(statements, /BEGIN|COMMIT/)
    })
  )

  for (const prepare of [true, false])
    it.scopedLive(
      `a commit, and a look for news, send their text ${prepare ? "once a connection" : "each time, when it is told to"}`,
      () =>
        Effect.gen(function* () {
          const { proxy, store } = yield* proxied(fresh(), { prepare })
          yield* commit(store, [put(aJob("job_a"))])
          let sent = ""
          proxy.judge = (chunk, from) => {
            if (from === "client") sent += chunk.toString("latin1")
            return "pass"
          }
          const news = store.news ?? (() => Effect.dieMessage("it has no news"))
          const after = [{ jobId: "job_a", seq: 0 }]
          for (let i = 1; i <= 4; i++) {
            yield* commit(store, [append("job_a", i, i)])
            const { events } = yield* news({ node: "b", sessions: [], after, limit: 9, maxBytes: 9_999 })
            assert.lengthOf(events, i)
          }
          assert.strictEqual(sent.match(/WITH held_jobs AS/g)?.length, prepare ? 1 : 4)
          assert.strictEqual(sent.match(/WITH place AS/g)?.length, prepare ? 1 : 4)
          assert.deepStrictEqual(yield* everything(store), range(1, 4))
        })
    )

  it.scopedLive("a pooler that has lost what was prepared is found out, and nothing is from then on", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const { proxy, store } = yield* proxied(prefix)
      yield* commit(store, [put(aJob("job_a")), append("job_a", 1, 1)])
      yield* sql(`CREATE SEQUENCE ${prefix}tries`)
      yield* sql(
        `CREATE FUNCTION ${prefix}lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF nextval('${prefix}tries') = 1 THEN RAISE EXCEPTION 'not there' USING ERRCODE = '26000'; END IF;
           RETURN NULL; END $$`
      )
      yield* sql(`CREATE TRIGGER lose BEFORE INSERT ON ${prefix}events EXECUTE FUNCTION ${prefix}lose()`)
      yield* commit(store, [append("job_a", 2, 2)])
      let sent = ""
      proxy.judge = (chunk, from) => {
        if (from === "client") sent += chunk.toString("latin1")
        return "pass"
      }
      for (let i = 3; i <= 5; i++) yield* commit(store, [append("job_a", i, i)])
      assert.strictEqual(sent.match(/WITH held_jobs AS/g)?.length, 3)
      assert.notMatch(sent, /arcp_[0-9a-f]{32}/)
      assert.deepStrictEqual(yield* everything(store), range(1, 5))
    })
  )

  it.live("columns are read as they were written, whatever is in them", () =>
    Effect.gen(function* () {
      const odd = [
        "",
        "NULL",
        "null",
        "a,b",
        "{}",
        '"',
        "\\",
        '\\"',
        '"\\',
        " x ",
        "\n",
        "é🙂",
        '{"a":"\\\\"}'
      ]
      const texts = FastCheck.sample(FastCheck.array(FastCheck.fullUnicodeString(), { maxLength: 20 }), 50)
        .flat()
        .filter((text) => !text.includes("\0"))
      const column = [...odd, null, ...texts]
      const url = yield* Effect.promise(stores.url)
      const read = (type: string, sent: unknown) =>
        Effect.map(
          Effect.promise(() => query(url, `SELECT unnest($1::${type})`, [sent])),
          (rows) =>
            rows.map(([value]) => (typeof value === "string" && type !== "text[]" ? Number(value) : value))
        )
      // Longer than what the writer begins with, and the same text again and again.
      const long = ["€".repeat(40_000), "x".repeat(40_000), "x".repeat(40_000), null, null, "", ""]
      for (const texts of [column, long, [], [null], [""]]) {
        assert.deepStrictEqual(yield* read("text[]", textArray(texts)), texts)
        assert.deepStrictEqual(yield* read("text[]", arrayLiteral(texts)), texts)
      }
      const numbers = [0, -1, 2 ** 53 - 1, 1 - 2 ** 53, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 3]
      assert.deepStrictEqual(yield* read("bigint[]", bigintArray(numbers)), numbers)
      assert.deepStrictEqual(yield* read("bigint[]", arrayLiteral([...numbers, null])), [...numbers, null])
      const small = [0, -1, 2 ** 31 - 1, 3]
      for (const integers of [small, []])
        assert.deepStrictEqual(yield* read("integer[]", integerArray(integers)), integers)
      // What is no text in UTF-8 is replaced, as the driver does with it.
      assert.deepStrictEqual(yield* read("text[]", textArray(["a\ud800b"])), ["a\ufffdb"])
    })
  )

  const cuts = [
    ["before it is sent", "client"],
    ["after it, before its answer", "server"]
  ] as const
  for (const [when, from] of cuts)
    for (const [what, batch] of [
      ["one statement", [append("job_a", 2, 4)]],
      [
        "a transaction",
        [append("job_a", 2, 3), Op.TrimJob({ jobId: "job_a", seq: 1 }), append("job_a", 4, 4)]
      ]
    ] as const)
      it.scopedLive(`a commit whose connection is lost ${when} is applied once: ${what}`, () =>
        Effect.gen(function* () {
          const { proxy, store } = yield* proxied(fresh())
          yield* commit(store, [put(aJob("job_a")), append("job_a", 1, 1)])
          let left = 3
          let armed = from === "client"
          const last = what === "a transaction" ? "COMMIT" : "fence"
          proxy.judge = (chunk, side) => {
            if (left > 0 && side === "client" && chunk.includes(last)) armed = true
            if (left === 0 || !armed || side !== from || (from === "client" && !chunk.includes(last)))
              return "pass"
            left--
            armed = from === "client"
            return "cut"
          }
          yield* commit(store, batch)
          assert.isBelow(left, 3)
          assert.deepStrictEqual(yield* everything(store), range(1, 4))
          yield* commit(store, [append("job_a", 5, 5)])
          assert.deepStrictEqual(yield* everything(store), range(1, 5))
        })
      )

  it.scopedLive("one that was applied after its failure was told ends the store", () =>
    Effect.gen(function* () {
      const { proxy, store } = yield* proxied(fresh(), { patience: "100 millis" })
      yield* commit(store, [put(aJob("job_a")), append("job_a", 1, 1)])
      let armed = false
      proxy.judge = (chunk, side) => {
        if (side === "client" && chunk.includes("fence")) armed = true
        return armed ? (side === "client" && chunk.includes("fence") ? "pass" : "cut") : "pass"
      }
      const first = yield* Effect.flip(commit(store, [append("job_a", 2, 2)]))
      assert.isUndefined(first.fenced)
      proxy.judge = () => "pass"
      const second = yield* Effect.flip(commit(store, [append("job_a", 2, 3)]))
      assert.isTrue(second.fenced)
      // Whoever has it ends, and is started again.
      assert.strictEqual(yield* Effect.flip(store.died ?? Effect.dieMessage("it never dies")), second)
      assert.match(second.message, /has applied a batch of which no answer came/)
      assert.deepStrictEqual(yield* everything(store), range(1, 2))
    })
  )

  it.scopedLive(
    "a database that has lost what it had confirmed ends the store, and gets nothing after the gap",
    () =>
      Effect.gen(function* () {
        const prefix = fresh()
        const store = yield* open(prefix)
        yield* commit(store, [put(aJob("job_a")), append("job_a", 1, 2)])
        yield* commit(store, [append("job_a", 3, 4)])
        // As a replica has it that the last batch did not reach.
        yield* sql(
          `DELETE FROM ${prefix}events WHERE seq > 2; UPDATE ${prefix}writers SET last_commit = last_commit - 1`
        )
        const error = yield* Effect.flip(commit(store, [append("job_a", 5, 5)]))
        assert.isTrue(error.fenced)
        assert.match(error.message, /has lost what it had confirmed: a replica that was behind/)
        assert.deepStrictEqual(yield* everything(store), range(1, 2))
      })
  )

  it.scopedLive("what was not applied is, after Postgres is back, and what came in between is not lost", () =>
    Effect.gen(function* () {
      const { proxy, store } = yield* proxied(fresh(), { patience: "50 millis" })
      yield* commit(store, [put(aJob("job_a")), append("job_a", 1, 1)])
      proxy.judge = (_, side) => (side === "client" ? "cut" : "pass")
      for (let i = 0; i < 3; i++) {
        const error = yield* Effect.flip(commit(store, [append("job_a", 2, 2)]))
        assert.isUndefined(error.fenced)
      }
      proxy.judge = () => "pass"
      yield* commit(store, [append("job_a", 2, 4)])
      assert.deepStrictEqual(yield* everything(store), range(1, 4))
    })
  )

  it.scopedLive("a statement that is not answered is given up, with its connection", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const store = yield* open(prefix, { statementTimeout: "200 millis", patience: "10 seconds" })
      yield* commit(store, [put(aJob("job_a"))])
      const url = yield* Effect.promise(stores.url)
      const locked = yield* Deferred.make<void>()
      const free = yield* Deferred.make<void>()
      const lock = yield* Effect.fork(
        Effect.promise(async () => {
          const { default: pg } = await import("pg")
          const client = new pg.Client({ connectionString: url })
          await client.connect()
          await client.query(`BEGIN; LOCK TABLE ${prefix}events IN EXCLUSIVE MODE`)
          await Effect.runPromise(Deferred.succeed(locked, undefined))
          await Effect.runPromise(Deferred.await(free))
          await client.query("ROLLBACK")
          await client.end()
        })
      )
      yield* Deferred.await(locked)
      const committing = yield* Effect.fork(commit(store, [append("job_a", 1, 3)]))
      yield* Effect.sleep("700 millis")
      assert.isNull(committing.unsafePoll())
      yield* Deferred.succeed(free, undefined)
      yield* Fiber.join(lock)
      yield* Fiber.join(committing)
      assert.deepStrictEqual(yield* everything(store), range(1, 3))
    })
  )

  it.scopedLive(
    "a second runtime is refused while the first is alive, which ends when it is the holder no more",
    () =>
      Effect.gen(function* () {
        const prefix = fresh()
        const lease = "900 millis"
        const store = yield* open(prefix, { lease })
        const refused = yield* Effect.flip(Effect.scoped(open(prefix, { lease })))
        assert.match(
          refused.message,
          new RegExp(`is held by another runtime .*process ${process.pid}.*is alive`)
        )
        yield* commit(store, [put(aJob("job_a"))])
        yield* sql(`UPDATE ${prefix}writers SET id = 'another'`)
        assert.isTrue((yield* Effect.flip(store.died ?? Effect.dieMessage("it can die"))).fenced)
      })
  )

  it.scopedLive("one that has crashed, or hangs, is followed, and writes nothing any more", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const first = yield* Scope.make()
      const a = yield* Scope.extend(open(prefix, { lease: "1 hour" }), first)
      yield* commit(a, [put(aJob("job_a")), append("job_a", 1, 1)])
      yield* sql(`UPDATE ${prefix}writers SET expires = clock_timestamp() - interval '1 second'`)
      const b = yield* open(prefix, { lease: "1 hour" })
      yield* commit(b, [append("job_a", 2, 2)])
      for (const batch of [
        [append("job_a", 2, 2)],
        [append("job_a", 2, 2), Op.TrimJob({ jobId: "job_a", seq: 2 })]
      ]) {
        const error = yield* Effect.flip(commit(a, batch))
        assert.isTrue(error.fenced)
        assert.match(error.message, /another runtime holds the tables/)
      }
      assert.deepStrictEqual(yield* everything(b), range(1, 2))
      // Its end takes nothing from the one that follows.
      yield* Scope.close(first, Exit.void)
      yield* commit(b, [append("job_a", 3, 3)])
    })
  )

  it.scopedLive("a start waits for the lease of one that has crashed; a clean end leaves none", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      yield* Effect.scoped(open(prefix, { lease: "1 minute" }))
      yield* Effect.scoped(open(prefix, { lease: "1 minute" }))
      yield* sql(
        `INSERT INTO ${prefix}writers VALUES ('runtime', 'x', 'elsewhere, process 1', 0, clock_timestamp(), clock_timestamp() + interval '600 ms')`
      )
      yield* Effect.scoped(open(prefix))
    })
  )

  it.scopedLive("a start that waits for a lease can be given up, and takes nothing", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      yield* Effect.scoped(open(prefix))
      yield* sql(
        `INSERT INTO ${prefix}writers VALUES ('runtime', 'x', 'elsewhere, process 1', 0, clock_timestamp(), clock_timestamp() + interval '1 minute')`
      )
      const starting = yield* Effect.fork(Effect.scoped(open(prefix)))
      yield* sql(`SELECT 1 FROM pg_stat_activity WHERE query LIKE '%FROM ${prefix}writers WHERE slot%ORDER BY%'
        AND pid <> pg_backend_pid()`).pipe(
        Effect.filterOrFail((rows) => rows.length > 0),
        Effect.retry(Schedule.spaced("10 millis"))
      )
      yield* Fiber.interrupt(starting)
      // Not at the end of the lease, when it would have had its turn.
      assert.deepStrictEqual(yield* sql(`SELECT id FROM ${prefix}writers`), [["x"]])
    })
  )

  it.scopedLive("of many that begin at once one gets the tables, which are made once", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const exits = yield* Effect.forEach(
        range(1, 5),
        () => Effect.exit(open(prefix, { lease: "600 millis" })),
        {
          concurrency: "unbounded"
        }
      )
      assert.strictEqual(exits.filter(Exit.isSuccess).length, 1)
    })
  )

  it.scopedLive("says what is wrong: no server, no database, a wrong password, a newer schema, no URL", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(stores.url)
      const refusal = (change: (url: URL) => void, options: Partial<StorePg.Options> = {}) => {
        const other = new URL(url)
        change(other)
        return Effect.scoped(open(fresh(), { url: Redacted.make(other.href), ...options })).pipe(
          Effect.flip,
          Effect.tap((error) => assert.notMatch(error.message, /secret|hunter/)),
          Effect.map((error) => error.message)
        )
      }
      assert.match(yield* refusal((u) => (u.port = "1")), /cannot be reached \(ECONNREFUSED\)/)
      assert.match(yield* refusal((u) => (u.pathname = "/nowhere")), /does not exist.*createdb/)
      if (process.env["ARCP_TEST_PG"] === undefined)
        assert.match(yield* refusal((u) => (u.password = "hunter2")), /refuses this user or password/)
      assert.match(yield* refusal((u) => (u.protocol = "mysql:")), /begins with postgres:\/\//)
      assert.match(yield* refusal((u) => u.searchParams.set("sslmode", "verify-full")), /does not offer TLS/)
      const prefix = fresh()
      yield* Effect.scoped(open(prefix))
      yield* sql(`UPDATE ${prefix}store SET version = 99`)
      const newer = yield* Effect.flip(Effect.scoped(open(prefix)))
      assert.match(newer.message, /were written by a newer version \(schema 99, this one knows \d+\)/)
      const odd = yield* Effect.flip(Effect.scoped(open("No prefix")))
      assert.match(odd.message, /cannot be the prefix/)
    })
  )

  it.scopedLive("keeps names that text, or an index, cannot have", () =>
    Effect.gen(function* () {
      const store = yield* open(fresh())
      const job = aJob("job_a", {
        principal: "a\0b",
        submitId: "s\0\u0001",
        idempotencyKey: "\0",
        agent: "x\0@1"
      })
      yield* commit(store, [put(job)])
      assert.deepEqual(yield* store.jobBySubmit("sess_a", "s\0\u0001"), job)
      assert.deepEqual(yield* store.jobByKey("a\0b", "\0"), job)
      assert.deepEqual(yield* store.jobs({ principals: ["a\0b"], agent: "x\0", limit: 9 }), [job])
      // More than an index of Postgres takes.
      const long = Array.from({ length: 20_000 }, (_, i) => `é${i * i}`).join("")
      const other = aJob("job_b", { submitId: long, idempotencyKey: `${long}k`, agent: long })
      yield* commit(store, [put(other)])
      assert.deepEqual(yield* store.jobBySubmit("sess_a", long), other)
      assert.deepEqual(yield* store.jobByKey("alice", `${long}k`), other)
      assert.isUndefined(yield* store.jobByKey("alice", `${long}l`))
    })
  )

  it.scopedLive("frees what was dropped, in bounded steps, and tells what waits", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const store = yield* open(prefix)
      for (let i = 0; i < 3; i++)
        yield* commit(store, [
          put(aJob(`job_${i}`)),
          Op.Append({ jobId: `job_${i}`, events: someEvents(1, 3_000) }),
          Op.PutInput({ jobId: `job_${i}`, input: "{}" })
        ])
      yield* commit(store, [
        Op.DropJob({ jobId: "job_0" }),
        Op.DropJob({ jobId: "job_1" }),
        Op.TrimJob({ jobId: "job_2", seq: 2_001 })
      ])
      assert.strictEqual(yield* store.freeing, 8_000)
      assert.isTrue(yield* store.vacuum)
      assert.isFalse(yield* store.vacuum)
      assert.strictEqual(yield* store.freeing, 0)
      const left = yield* sql(
        `SELECT count(*) FROM ${prefix}events UNION ALL SELECT count(*) FROM ${prefix}inputs`
      )
      assert.deepStrictEqual(left.map(Number), [1_000, 1])
    })
  )
})
