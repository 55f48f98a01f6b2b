/** Credentials of runtimes in Postgres, from beside them; and what earlier versions kept of them in a file. */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { afterAll, beforeAll, describe } from "vitest"
import * as CredentialStoreMemory from "../../../src/layers/credentials/CredentialStoreMemory.js"
import * as CredentialStoreSql from "../../../src/layers/credentials/CredentialStoreSql.js"
import * as StorePg from "../../../src/layers/store/pg/StorePg.js"
import { movedFrom } from "../../../src/programs/cli/run/provisioning.js"
import { CredentialStore } from "../../../src/services/credentials/CredentialStore.js"
import { Store } from "../../../src/services/store/Store.js"
import { type KeyGateway, startKeyGateway } from "../../e2e/support/KeyGateway.js"
import { aRecord } from "../../layers/credentials/CredentialStore.suite.js"
import { aJob, put } from "../../layers/store/fixtures.js"
import { database, missing, query } from "../../testing/Postgres.js"
import { run } from "./inProcess.js"

const open = (url: string, node?: string) => StorePg.open({ url: Redacted.make(url), node })

/** Ids, and what became of them. */
const lines = (stdout: string) =>
  stdout
    .trim()
    .split("\n")
    .map((line) => line.split("  ").slice(0, 3).join(" "))

describe.skipIf(missing !== undefined)(
  `credentials in Postgres${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    let made: Awaited<ReturnType<typeof database>>
    let gateway: KeyGateway
    let environment: Readonly<Record<string, string>>
    beforeAll(async () => {
      made = await database()
      gateway = await startKeyGateway()
      environment = { ARCP_PG: made.url, ...gateway.env }
    })
    afterAll(async () => {
      await gateway.stop()
      await made.drop()
    })
    const arcp = (...args: ReadonlyArray<string>) => Effect.promise(() => run(args, environment))

    it.scopedLive(
      "those are listed and revoked that no node which is there holds, and deleted jobs tell of theirs",
      () =>
        Effect.gen(function* () {
          assert.match((yield* arcp("credentials")).stderr, /holds no runtime's data/)
          yield* Effect.scoped(
            Effect.gen(function* () {
              const stores = yield* open(made.url, "a")
              const records = Context.get(stores, CredentialStore)
              yield* Context.get(stores, Store).commit({
                ops: [put({ ...aJob("job_a", { status: "success", endedAt: 2_000 }), node: "a" })],
                owners: []
              })
              assert.deepInclude(yield* arcp("credentials"), { code: 0, stdout: "" })
              for (const [id, node, state, jobId] of [
                ["cred_held", "a", "active", "job_a"],
                ["cred_failed", "a", "failed", "job_a"],
                ["cred_left", "b", "active", "job_b"],
                ["cred_alone", undefined, "minting", "job_c"]
              ] as const)
                yield* records.insert(aRecord(id, { state, jobId, ...(node === undefined ? {} : { node }) }))
              const listed = yield* arcp("credentials")
              assert.strictEqual(listed.code, 1)
              assert.deepStrictEqual(lines(listed.stdout).sort(), [
                "cred_alone job_c minting",
                "cred_failed job_a failed",
                "cred_left job_b active"
              ])
              assert.include(listed.stderr, "a runtime is up: those that its jobs hold are left out")
              const json = (yield* arcp("credentials", "--json")).stdout.trim().split("\n")
              assert.deepInclude(
                json.map((line) => JSON.parse(line)).find(({ id }) => id === "cred_left"),
                { node: "b", job_id: "job_b" }
              )
              const revoked = yield* arcp("credentials", "--revoke")
              assert.deepStrictEqual([revoked.code, lines(revoked.stdout).length], [0, 3])
              assert.deepStrictEqual([...gateway.deletions].sort(), [
                "cred_alone",
                "cred_failed",
                "cred_left"
              ])
              assert.deepStrictEqual(
                (yield* records.list).map(({ id }) => id),
                ["cred_held"]
              )
            })
          )
          const deleted = yield* arcp("jobs", "delete", "job_a")
          assert.match(deleted.stderr, /1 credential of them may still be good upstream/)
          assert.deepStrictEqual(
            yield* Effect.promise(() => query(made.url, "SELECT id FROM arcp_credentials")),
            [["cred_held"]]
          )
        })
    )
  }
)

it.scopedLive("what earlier versions recorded in a file is moved once, and revoked from there", () =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-moved-"))),
      (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
    )
    const db = path.join(folder, "arcp.db")
    const file = CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(db) })
    const store = yield* CredentialStoreMemory.make
    const move = Effect.provideService(
      Effect.scoped(Layer.build(movedFrom(db))),
      CredentialStoreMemory.CredentialStore,
      store
    )
    yield* move
    assert.deepStrictEqual(fs.readdirSync(folder), [])
    const left = [aRecord("cred_a", { state: "active", endpoint: "https://m" }), aRecord("cred_b")]
    const inFile = <A, E>(body: (records: CredentialStore["Type"]) => Effect.Effect<A, E>) =>
      Effect.scoped(Effect.flatMap(CredentialStore, body).pipe(Effect.provide(file)))
    yield* inFile((records) =>
      Effect.zipRight(
        Effect.forEach(left, (record) => records.insert(record)),
        // A runtime uses it: what is in there is that one's.
        move
      )
    )
    assert.deepStrictEqual(yield* store.list, [])
    yield* move
    assert.deepStrictEqual(
      yield* store.list,
      left.map((record) => ({ ...record, state: "revoking" as const }))
    )
    assert.deepStrictEqual(yield* inFile(({ list }) => list), [])
  })
)

it.scopedLive("one that cannot be moved keeps no other, and is named", () =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-stuck-"))),
      (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
    )
    const db = path.join(folder, "arcp.db")
    const file = CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(db) })
    const inFile = <A, E>(body: (records: CredentialStore["Type"]) => Effect.Effect<A, E>) =>
      Effect.scoped(Effect.flatMap(CredentialStore, body).pipe(Effect.provide(file)))
    yield* inFile((records) =>
      Effect.forEach(["cred_a", "cred_b", "cred_c"], (id) => records.insert(aRecord(id)))
    )
    const store = yield* CredentialStoreMemory.make
    yield* store.insert(aRecord("cred_a", { jobId: "job_other" }))
    const said: Array<string> = []
    const logger = Logger.make(({ message }) => void said.push(String(message)))
    yield* Effect.scoped(Layer.build(movedFrom(db))).pipe(
      Effect.provideService(CredentialStoreMemory.CredentialStore, store),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
    assert.deepStrictEqual(
      (yield* inFile(({ list }) => list)).map(({ id }) => id),
      ["cred_a"]
    )
    assert.deepStrictEqual((yield* store.list).map(({ id }) => id).sort(), ["cred_a", "cred_b", "cred_c"])
    assert.match(
      said.join("\n"),
      /1 records of credentials stay in .*: cred_a \(there is a credential cred_a already\)/
    )
  })
)
