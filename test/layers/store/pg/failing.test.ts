/** What a store in Postgres does with what Postgres answers, when it does not answer, and over TLS. */
import { execFileSync } from "node:child_process"
import { chownSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { afterAll, describe } from "vitest"
import * as StorePg from "../../../../src/layers/store/pg/StorePg.js"
import { commitUnowned } from "../../../../src/layers/store/unowned.js"
import type { StoreService } from "../../../../src/services/store/Store.js"
import { cluster, missing, missingBinaries, query } from "../../../testing/Postgres.js"
import { aJob, append, put, range, seqs } from "../fixtures.js"
import { makeStores } from "./layers.js"

const stores = makeStores()
afterAll(stores.drop)

let prefixes = 0
const open = (url: string, options: Partial<StorePg.Options> = {}) => {
  const prefix = `fails${++prefixes}_`
  return Effect.map(StorePg.make({ url: Redacted.make(url), prefix, ...options }), (store) => ({
    prefix,
    store
  }))
}
const commit = commitUnowned
const everything = (store: StoreService) => Effect.map(store.events("job_a", 1, 9_999), seqs)
const sql = (url: string, text: string) => Effect.promise(() => query(url, text))
const until = <A>(effect: Effect.Effect<A>, ready: (a: A) => boolean) =>
  effect.pipe(
    Effect.filterOrFail(ready),
    Effect.retry(Schedule.intersect(Schedule.spaced("10 millis"), Schedule.recurs(1_000)))
  )

describe.skipIf(missing !== undefined)(
  `what Postgres answers${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    /** Answers with a code, so often; a sequence counts, as what it counts is not undone. */
    const answering = (code: string, times: number) =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(stores.url)
        const { prefix, store } = yield* open(url, { patience: "10 seconds" })
        yield* commit(store, [put(aJob("job_a")), append("job_a", 1, 1)])
        yield* sql(url, `CREATE SEQUENCE ${prefix}tries`)
        yield* sql(
          url,
          `CREATE FUNCTION ${prefix}fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF nextval('${prefix}tries') <= ${times} THEN RAISE EXCEPTION 'of the test' USING ERRCODE = '${code}'; END IF;
           RETURN NULL; END $$`
        )
        yield* sql(
          url,
          `CREATE TRIGGER fail BEFORE INSERT ON ${prefix}events EXECUTE FUNCTION ${prefix}fail()`
        )
        return { url, prefix, store }
      })

    for (const [code, what] of [
      ["08006", "the connection failed"],
      ["57P01", "an administrator ends the connection"],
      ["57P02", "the server has crashed"],
      ["57P03", "the server starts"],
      ["57014", "the statement was cancelled, or took longer than the server lets it"],
      ["40001", "serialization"],
      ["40P01", "a deadlock"],
      ["55P03", "a lock"],
      ["53200", "no memory"],
      ["53300", "too many connections"],
      ["25006", "the server is read-only: a replica, or not yet the primary"],
      ["23505", "somebody else has inserted it"]
    ] as const)
      it.scopedLive(`is tried again: ${code}, ${what}`, () =>
        Effect.gen(function* () {
          const { store } = yield* answering(code, 2)
          yield* commit(store, [append("job_a", 2, 3)])
          assert.deepStrictEqual(yield* everything(store), range(1, 3))
        })
      )

    for (const [code, what, message] of [
      ["53100", "the disk is full", /the disk of .* is full/],
      ["42501", "no permission", /does not let this user/],
      ["22P02", "a value that it does not take", /of the test/],
      ["XX000", "an error inside of it", /of the test/],
      ["P0001", "a trigger of the operator's", /of the test/]
    ] as const)
      it.scopedLive(`is told at once, and ends nothing: ${code}, ${what}`, () =>
        Effect.gen(function* () {
          const { prefix, store, url } = yield* answering(code, 1)
          const error = yield* Effect.flip(commit(store, [append("job_a", 2, 3)]))
          assert.match(error.message, message)
          assert.isUndefined(error.fenced)
          assert.deepStrictEqual((yield* sql(url, `SELECT last_value::integer FROM ${prefix}tries`))[0], [1])
          // The log tries what it keeps again, and it is applied once.
          yield* commit(store, [append("job_a", 2, 3)])
          assert.deepStrictEqual(yield* everything(store), range(1, 3))
        })
      )

    it.scopedLive(
      "a database that is made read-only, and writable again: its commits wait, and then go on",
      () =>
        Effect.gen(function* () {
          const url = yield* Effect.promise(stores.url)
          const { store } = yield* open(url, { patience: "60 seconds" })
          yield* commit(store, [put(aJob("job_a"))])
          const name = new URL(url).pathname.slice(1)
          const others = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = '${name}' AND pid <> pg_backend_pid() AND application_name = 'effect-arcp'`
          yield* sql(url, `ALTER DATABASE ${name} SET default_transaction_read_only = on`)
          yield* sql(url, others)
          const committing = yield* Effect.fork(commit(store, [append("job_a", 1, 3)]))
          // Connections that were made since are read-only, and are thrown away with each refusal.
          yield* Effect.sleep("200 millis")
          assert.isNull(committing.unsafePoll())
          yield* sql(
            url,
            `BEGIN READ WRITE; ALTER DATABASE ${name} RESET default_transaction_read_only; COMMIT`
          )
          yield* Fiber.join(committing)
          assert.deepStrictEqual(yield* everything(store), range(1, 3))
        })
    )

    it.scopedLive(
      "a statement that the server gives up, as statement_timeout of the database says, is applied once",
      () =>
        Effect.gen(function* () {
          const url = yield* Effect.promise(stores.url)
          const name = new URL(url).pathname.slice(1)
          yield* sql(url, `ALTER DATABASE ${name} SET statement_timeout = '2s'`)
          yield* Effect.addFinalizer(() => sql(url, `ALTER DATABASE ${name} RESET statement_timeout`))
          const { prefix, store } = yield* open(url, { patience: "60 seconds" })
          yield* commit(store, [put(aJob("job_a"))])
          yield* sql(url, `CREATE SEQUENCE ${prefix}tries`)
          yield* sql(
            url,
            `CREATE FUNCTION ${prefix}slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF nextval('${prefix}tries') = 1 THEN PERFORM pg_sleep(60); END IF; RETURN NULL; END $$`
          )
          yield* sql(
            url,
            `CREATE TRIGGER slow BEFORE INSERT ON ${prefix}events EXECUTE FUNCTION ${prefix}slow()`
          )
          yield* commit(store, [append("job_a", 1, 3)])
          assert.deepStrictEqual(yield* everything(store), range(1, 3))
          assert.isAtLeast(Number((yield* sql(url, `SELECT last_value FROM ${prefix}tries`))[0]?.[0]), 2)
        })
    )
  }
)

const notOurs =
  missingBinaries ?? (process.platform === "linux" ? undefined : "processes are paused on Linux only")

describe.skipIf(notOurs !== undefined)(
  `a server of ours${notOurs === undefined ? "" : ` (${notOurs})`}`,
  () => {
    const server = Effect.acquireRelease(Effect.promise(cluster), (made) => Effect.promise(made.close))
    const backendOf = (url: string) =>
      Effect.map(
        sql(
          url,
          "SELECT pid FROM pg_stat_activity WHERE application_name = 'effect-arcp' AND backend_type = 'client backend'"
        ),
        (rows) => rows.map(([pid]) => Number(pid))
      )
    /** Pauses processes for the scope at the longest. */
    const paused = (pids: ReadonlyArray<number>) => {
      const signal = (name: NodeJS.Signals) =>
        Effect.sync(() => {
          for (const pid of pids)
            try {
              process.kill(pid, name)
            } catch {
              // It has ended.
            }
        })
      return Effect.as(
        Effect.acquireRelease(signal("SIGSTOP"), () => signal("SIGCONT")),
        signal("SIGCONT")
      )
    }

    it.scopedLive(
      "hangs, one connection of it or as a whole: what is sent is given up, sent again, and applied once",
      () =>
        Effect.gen(function* () {
          const { url } = yield* server
          const { store } = yield* open(url, {
            statementTimeout: "300 millis",
            connectTimeout: "300 millis",
            patience: "60 seconds",
            lease: "1 hour"
          })
          yield* commit(store, [put(aJob("job_a")), append("job_a", 1, 1)])
          const backends = yield* backendOf(url)
          const goOn = yield* paused(backends)
          // The next connection does it.
          yield* commit(store, [append("job_a", 2, 3)])
          assert.deepStrictEqual(yield* everything(store), range(1, 3))
          // What was sent to the one that hung is found there, and refused as it is applied already.
          yield* goOn
          yield* until(backendOf(url), (left) => !backends.some((pid) => left.includes(pid)))
          assert.deepStrictEqual(yield* everything(store), range(1, 3))

          const postmaster = yield* Effect.map(sql(url, "SHOW data_directory"), ([row]) =>
            Number(readFileSync(join(String(row?.[0]), "postmaster.pid"), "utf8").split("\n")[0])
          )
          const children = readFileSync(`/proc/${postmaster}/task/${postmaster}/children`, "utf8")
          const all = [postmaster, ...children.trim().split(" ").map(Number)]
          const goOnAll = yield* paused(all)
          const committing = yield* Effect.fork(commit(store, [append("job_a", 4, 5)]))
          yield* Effect.sleep("800 millis")
          assert.isNull(committing.unsafePoll())
          yield* goOnAll
          yield* Fiber.join(committing)
          yield* commit(store, [append("job_a", 6, 6)])
          assert.deepStrictEqual(yield* everything(store), range(1, 6))
        })
    )

    it.scopedLive("speaks TLS: with the certificate that its URL trusts, and with no other", () =>
      Effect.gen(function* () {
        const { url } = yield* server
        const folder = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-tls-"))),
          (made) => Effect.sync(() => rmSync(made, { recursive: true }))
        )
        const openssl = (...args: ReadonlyArray<string>) =>
          execFileSync("openssl", args, { cwd: folder, stdio: "pipe" })
        for (const name of ["ca", "other"])
          openssl(
            ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
            ...["-subj", `/CN=${name}`, "-days", "1", "-keyout", `${name}.key`, "-out", `${name}.crt`]
          )
        openssl(
          ...["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
          ...["-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr"]
        )
        writeFileSync(join(folder, "names"), "subjectAltName=IP:127.0.0.1")
        openssl(
          ...["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
          ...["-days", "1", "-extfile", "names", "-out", "server.crt"]
        )
        const data = String((yield* sql(url, "SHOW data_directory"))[0]?.[0])
        const { gid, uid } = statSync(data)
        for (const file of ["server.crt", "server.key"]) {
          writeFileSync(join(data, file), readFileSync(join(folder, file)), { mode: 0o600 })
          chownSync(join(data, file), uid, gid)
        }
        yield* sql(url, "ALTER SYSTEM SET ssl = on")
        yield* sql(url, "SELECT pg_reload_conf()")
        yield* until(sql(url, "SHOW ssl"), ([row]) => row?.[0] === "on")

        const over = (ca: string | undefined, host = "127.0.0.1") => {
          const other = new URL(url)
          other.hostname = host
          other.searchParams.set("sslmode", "verify-full")
          if (ca !== undefined) other.searchParams.set("sslrootcert", join(folder, ca))
          return open(other.href)
        }
        const { store } = yield* over("ca.crt")
        yield* commit(store, [put(aJob("job_a")), append("job_a", 1, 3)])
        assert.deepStrictEqual(yield* everything(store), range(1, 3))
        const encrypted = yield* sql(
          url,
          "SELECT DISTINCT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'effect-arcp'"
        )
        assert.deepStrictEqual(encrypted, [[true]])
        const refusal = (ca: string | undefined, host?: string) =>
          Effect.map(Effect.flip(Effect.scoped(over(ca, host))), ({ message }) => message)
        assert.match(yield* refusal("other.crt"), /certificate that is not trusted.*sslrootcert=FILE/)
        assert.match(yield* refusal(undefined), /certificate that is not trusted.*sslrootcert=FILE/)
        assert.match(yield* refusal("ca.crt", "localhost"), /certificate .* another name/)
        assert.match(yield* refusal("nothing.crt"), /file that the URL .* names cannot be read.*nothing\.crt/)
      })
    )
  }
)
