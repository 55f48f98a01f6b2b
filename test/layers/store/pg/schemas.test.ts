/**
 * Tables in Postgres as every version of the schema has left them, made by the code of that time
 * (`test/fixtures/pg-schema-N.sql`): they are brought up to date, read as they were written, and go on; also when that is
 * interrupted anywhere, and when several do it at once. A new migration comes with a new fixture.
 */
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import pg from "pg"
import { afterAll, describe } from "vitest"
import { naming } from "../../../../src/layers/store/naming.js"
import * as StorePg from "../../../../src/layers/store/pg/StorePg.js"
import {
  createStore,
  createWriters,
  migrations,
  schemaVersion
} from "../../../../src/layers/store/pg/schema.js"
import { CredentialStore } from "../../../../src/services/credentials/CredentialStore.js"
import { Op, Store } from "../../../../src/services/store/Store.js"
import { missing } from "../../../testing/Postgres.js"
import { TcpProxy } from "../../../testing/TcpProxy.js"
import { range, vacuumAll } from "../fixtures.js"
import { goesOn, readsAsLeft } from "../left.js"
import { makeStores } from "./layers.js"

const stores = makeStores()
afterAll(stores.drop)

describe.skipIf(missing !== undefined)(
  `schemas in Postgres${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    let prefixes = 0
    const fresh = () => `old${++prefixes}_`
    let client: pg.Client | undefined
    afterAll(() => client?.end())
    const connected = async (): Promise<pg.Client> => {
      if (client !== undefined) return client
      client = new pg.Client({ connectionString: await stores.url() })
      await client.connect()
      return client
    }
    const sql = (text: string): Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>> =>
      Effect.promise(async () => (await (await connected()).query({ text, rowMode: "array" })).rows)
    const layer = (prefix: string, options: Partial<StorePg.Options> = {}) =>
      Layer.unwrapEffect(
        Effect.map(Effect.promise(stores.url), (url) =>
          StorePg.layer({ url: Redacted.make(url), prefix, ...options })
        )
      )
    const fixture = (version: number, prefix: string): string =>
      fs
        .readFileSync(
          fileURLToPath(new URL(`../../../fixtures/pg-schema-${version}.sql`, import.meta.url)),
          "utf8"
        )
        .replaceAll("arcp_", prefix)
    /** Tables with a new prefix, as a version has left them. */
    const left = (version: number) =>
      Effect.suspend(() => {
        const prefix = fresh()
        return Effect.as(sql(fixture(version, prefix)), prefix)
      })
    /** Columns, constraints, indexes and sequences, by name, without the prefix. */
    const schemaOf = (prefix: string) =>
      Effect.map(
        sql(`
          SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' ||
            coalesce((SELECT collname FROM pg_collation o WHERE o.oid = a.attcollation), '') || ' ' ||
            coalesce((SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
              WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum), '')
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
          WHERE c.relkind = 'r' AND starts_with(c.relname, '${prefix}') AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL SELECT relname, array_to_string(reloptions, ',') FROM pg_class
          WHERE relkind = 'r' AND starts_with(relname, '${prefix}')
          UNION ALL SELECT conname, pg_get_constraintdef(o.oid) FROM pg_constraint o JOIN pg_class c ON c.oid = conrelid
          WHERE starts_with(relname, '${prefix}') AND contype <> 'n'
          UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE starts_with(tablename, '${prefix}')
          UNION ALL SELECT sequencename, data_type || ' ' || increment_by FROM pg_sequences
          WHERE starts_with(sequencename, '${prefix}')
          ORDER BY 1, 2`),
        (rows) => rows.map((row) => row.map((cell) => String(cell).replaceAll(prefix, "")))
      )
    /** The tables that so many of the migrations of today make. */
    const made = (version: number) =>
      Effect.gen(function* () {
        const prefix = fresh()
        const texts = [createStore, createWriters, ...migrations.slice(0, version).flat()]
        yield* sql(texts.map(naming(prefix)).join(";\n"))
        return yield* schemaOf(prefix)
      })
    const versionOf = (prefix: string) =>
      Effect.map(sql(`SELECT version FROM ${prefix}store`), ([row]) => row?.[0])
    const kept = (version: number) => ({
      inputs: true,
      journals: true,
      due: true,
      hooks: true,
      epochs: true,
      numbersOfGone: true,
      cursors: version >= 3,
      wishes: version >= 7
    })
    /** Records of credentials are with it since version 8. */
    const credentialsAsLeft = (version: number) =>
      Effect.gen(function* () {
        const records = yield* (yield* CredentialStore).list
        assert.deepStrictEqual(
          records.map(({ credentialId, epoch, id, node, unsettledUntil }) => [
            ...[id, credentialId, node],
            ...[epoch, unsettledUntil]
          ]),
          version < 8
            ? []
            : [
                ["cred_a", "cred_0", "a", 3, undefined],
                ["cred_b", "cred_b", undefined, undefined, 9_000]
              ]
        )
      })
    /** What was left by a version is all there, twice, and can be gone on with. */
    const isWhole = (version: number, prefix: string) =>
      Effect.gen(function* () {
        for (let round = 0; round < 2; round++)
          yield* Effect.zipRight(readsAsLeft(kept(version)), credentialsAsLeft(version)).pipe(
            Effect.provide(layer(prefix))
          )
        yield* goesOn.pipe(Effect.provide(layer(prefix)))
      })

    describe.each(range(1, schemaVersion))("version %i", (version) => {
      it.live("has the tables that the migrations of today make up to it: none was edited since", () =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* schemaOf(yield* left(version)), yield* made(version))
        })
      )

      it.live("is brought up to date, reads as it was written, and goes on", () =>
        Effect.gen(function* () {
          const prefix = yield* left(version)
          yield* isWhole(version, prefix)
          assert.deepStrictEqual(yield* schemaOf(prefix), yield* made(schemaVersion))
        })
      )
    })

    // Every migration is among what the first version lacks.
    describe("version 1", () => {
      const version = 1
      it.scopedLive("is as it was when the connection is lost before any statement, and then goes on", () =>
        Effect.gen(function* () {
          const prefix = yield* left(version)
          const before = yield* schemaOf(prefix)
          const url = new URL(yield* Effect.promise(stores.url))
          const proxy = yield* Effect.acquireRelease(
            Effect.promise(() => TcpProxy.start({ host: url.hostname, port: Number(url.port || 5432) })),
            (proxy) => Effect.promise(() => proxy.stop())
          )
          url.host = `127.0.0.1:${proxy.port}`
          const through = layer(prefix, { url: Redacted.make(url.href), patience: 0 })
          const statements = migrations.slice(version).flat().length
          // Each chunk from BEGIN to COMMIT is a statement: with BEGIN, the lock, the version, tables and the new version.
          let cuts = 0
          for (let at = 1; ; at++) {
            let sent = 0
            let within = false
            proxy.judge = (chunk, from) => {
              if (from !== "client") return "pass"
              within ||= chunk.includes("BEGIN")
              return within && ++sent === at ? "cut" : "pass"
            }
            const exit = yield* Effect.exit(Effect.void.pipe(Effect.provide(through)))
            if ((yield* versionOf(prefix)) === schemaVersion) break
            assert.isTrue(Exit.isFailure(exit))
            cuts++
            assert.deepStrictEqual([yield* versionOf(prefix), yield* schemaOf(prefix)], [version, before])
          }
          assert.isAtLeast(cuts, statements + 3)
          yield* isWhole(version, prefix)
        })
      )
    })

    describe.each(range(1, schemaVersion - 1))("version %i", (version) => {
      it.live("is brought up to date once when several begin at once", () =>
        Effect.gen(function* () {
          const prefix = yield* left(version)
          const exits = yield* Effect.forEach(
            range(1, 4),
            () => Effect.exit(readsAsLeft(kept(version)).pipe(Effect.provide(layer(prefix)))),
            { concurrency: "unbounded" }
          )
          assert.isAtLeast(exits.filter(Exit.isSuccess).length, 1)
          yield* isWhole(version, prefix)
          assert.deepStrictEqual(yield* schemaOf(prefix), yield* made(schemaVersion))
        })
      )

      it.live("is left alone while a runtime of that version holds it", () =>
        Effect.gen(function* () {
          const prefix = yield* left(version)
          const before = yield* schemaOf(prefix)
          const alive = sql(
            `INSERT INTO ${prefix}writers VALUES ('runtime', 'old', 'elsewhere, process 1', 7, clock_timestamp(),
               clock_timestamp() + interval '10 s')
             ON CONFLICT (slot) DO UPDATE SET expires = excluded.expires`
          )
          yield* alive
          const saysSo = Effect.forever(Effect.zipRight(Effect.sleep("50 millis"), alive))
          const error = yield* Effect.flip(Effect.provide(Effect.void, layer(prefix))).pipe(
            Effect.raceFirst(saysSo)
          )
          assert.match(error.message, /is held by another runtime .*which is alive/)
          assert.deepStrictEqual([yield* versionOf(prefix), yield* schemaOf(prefix)], [version, before])
        })
      )
    })

    it.scopedLive("waits as long as a statement of it takes", () =>
      Effect.gen(function* () {
        const prefix = yield* left(1)
        const url = yield* Effect.promise(stores.url)
        const other = yield* Effect.acquireRelease(
          Effect.promise(async () => {
            const client = new pg.Client({ connectionString: url })
            await client.connect()
            return client
          }),
          (client) => Effect.promise(() => client.end())
        )
        yield* Effect.promise(() => other.query(`BEGIN; LOCK ${prefix}events`))
        const opening = yield* Effect.fork(
          Effect.provide(Effect.void, layer(prefix, { statementTimeout: "1 second" }))
        )
        yield* Effect.sleep("1500 millis")
        assert.isNull(opening.unsafePoll())
        yield* Effect.promise(() => other.query("COMMIT"))
        yield* Fiber.join(opening)
        assert.strictEqual(yield* versionOf(prefix), schemaVersion)
      })
    )

    it.live("a newer one is refused, and left alone", () =>
      Effect.gen(function* () {
        const prefix = yield* left(schemaVersion)
        yield* sql(`UPDATE ${prefix}store SET version = ${schemaVersion + 1}`)
        const before = yield* schemaOf(prefix)
        const error = yield* Effect.flip(Effect.provide(Effect.void, layer(prefix)))
        assert.match(
          error.message,
          new RegExp(
            `written by a newer version \\(schema ${schemaVersion + 1}, this one knows ${schemaVersion}\\)`
          )
        )
        assert.deepStrictEqual(yield* schemaOf(prefix), before)
        assert.deepStrictEqual(yield* sql(`SELECT * FROM ${prefix}writers`), [])
      })
    )

    it.live(
      "numbers of events that the sessions which had them have lost are those that the events were stored with",
      () =>
        Effect.gen(function* () {
          const prefix = yield* left(1)
          const numbers = [
            // Numbered by a session that is gone: two stretches, one event in between that it never had, and one of another job.
            [11, 0],
            [12, 101],
            [13, 102],
            [14, 102],
            [15, 104]
          ] as const
          const [job, other] = (yield* sql(
            `SELECT id FROM ${prefix}jobs WHERE job_id IN ('job_a', 'job_b') ORDER BY job_id`
          )).map(([id]) => id)
          for (const text of [
            `DELETE FROM ${prefix}sessions WHERE session_id = 'sess_b'`,
            `UPDATE ${prefix}jobs SET session_id = 'sess_b', record = replace(record, 'sess_a', 'sess_b') WHERE id = ${job}`,
            `UPDATE ${prefix}events SET owner_seq = 0 WHERE job = ${job}`,
            ...numbers.map(
              ([seq, owner]) =>
                `UPDATE ${prefix}events SET owner_seq = ${owner} WHERE job = ${job} AND seq = ${seq}`
            ),
            // Of one that lives the first twenty numbers were freed.
            `DELETE FROM ${prefix}runs WHERE session_id = 'sess_a' AND event_seq = 1`,
            `UPDATE ${prefix}runs SET job_id = 'job_w' WHERE session_id = 'sess_a' AND event_seq = 21`,
            `UPDATE ${prefix}run_trims SET before = 21, freed = 21 WHERE session_id = 'sess_a'`,
            `UPDATE ${prefix}events SET owner_seq = seq + 9 WHERE job = ${other}`
          ])
            yield* sql(text)
          yield* Effect.gen(function* () {
            const store = yield* Store
            for (const [after, next] of [
              [0, 12],
              [101, 13],
              [102, 15],
              [103, 15],
              [104, undefined]
            ] as const)
              assert.deepStrictEqual(yield* store.numbering("sess_b", "job_a", after), {
                last: 104,
                through: 15,
                next
              })
            assert.deepStrictEqual(yield* store.view("sess_b"), { first: 1, last: 0 })
            assert.deepStrictEqual(yield* store.numbering("sess_a", "job_b", 11), {
              last: 14,
              through: 5,
              next: 3
            })
            assert.deepStrictEqual(yield* store.view("sess_a"), { first: 21, last: 30 })
            yield* vacuumAll
            assert.strictEqual((yield* store.numbering("sess_a", "job_b", 0)).last, 14)
            yield* store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] })
            yield* vacuumAll
          }).pipe(Effect.provide(layer(prefix)))
          assert.deepStrictEqual(
            yield* sql(
              `SELECT (SELECT count(*)::integer FROM ${prefix}runs WHERE session_id = 'sess_b'),
               (SELECT count(*)::integer FROM ${prefix}run_drops)`
            ),
            [[0, 0]]
          )
        })
    )
  }
)
