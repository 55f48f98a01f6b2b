import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { describe, expect, it } from "@effect/vitest"
import type * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import * as CredentialStoreSql from "../../../src/layers/credentials/CredentialStoreSql.js"
import { runWith } from "../../../src/programs/cli/run/credentials.js"
import { CredentialProvisioner } from "../../../src/services/credentials/CredentialProvisioner.js"
import { type CredentialRecord, CredentialStore } from "../../../src/services/credentials/CredentialStore.js"
import { aRecord } from "../../layers/credentials/CredentialStore.suite.js"
import { Upstream } from "../../layers/credentials/credentials.js"

const tempDatabase = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-cli-credentials-"))),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  ),
  (folder) => path.join(folder, "arcp.db")
)

/** Does something with the file as the runtime that owns it. */
const asRuntime = <A, E>(db: string, body: (store: CredentialStore["Type"]) => Effect.Effect<A, E>) =>
  Effect.flatMap(CredentialStore, body).pipe(
    Effect.provide(CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(db) }))
  )

const arcp = (upstream: Upstream, db: string, flags: { revoke?: boolean; json?: boolean } = {}) =>
  Effect.gen(function* () {
    const out: Array<string> = []
    const err: Array<string> = []
    const real = yield* Effect.console
    const exit = yield* runWith(
      { db: { value: db, from: "flag" }, pg: Option.none(), revoke: false, json: false, ...flags },
      Layer.succeed(CredentialProvisioner, upstream.provisioner)
    ).pipe(
      Effect.either,
      Effect.withConsole({
        ...real,
        log: (line) => Effect.sync(() => out.push(String(line))),
        error: (line) => Effect.sync(() => err.push(String(line)))
      } as Console.Console)
    )
    return { out, err, error: exit._tag === "Left" ? `${exit.left._tag}: ${exit.left.message}` : undefined }
  })

const at = Date.parse("2030-01-01T00:00:00Z")
const left: ReadonlyArray<CredentialRecord> = [
  aRecord("cred_a", { state: "active", jobId: "job_a", createdAt: at - 3_600_000, endpoint: "https://m" }),
  aRecord("cred_b", {
    state: "failed",
    jobId: "job_b",
    createdAt: at - 5_000,
    attempts: 12,
    lastError: "it is down"
  })
]
const withLeft = (db: string) =>
  asRuntime(db, (store) => Effect.forEach(left, (record) => store.insert(record), { discard: true }))
const prepare = Effect.gen(function* () {
  const db = yield* tempDatabase
  const upstream = new Upstream()
  yield* TestClock.setTime(at)
  yield* withLeft(db)
  for (const { id } of left) upstream.live.set(id, "sk-secret")
  return { db, upstream }
})

describe("arcp credentials", () => {
  it.scoped("lists what a runtime left behind", () =>
    Effect.gen(function* () {
      const { db, upstream } = yield* prepare
      const human = yield* arcp(upstream, db)
      // A cron job that watches for them looks at the exit code.
      expect(human.error).toMatch(/^NotRevoked: 2 credentials are outstanding/)
      expect(human.out).toEqual(["cred_a  job_a  active  1h", "cred_b  job_b  failed  5s  it is down"])
      const json = yield* arcp(upstream, db, { json: true })
      expect(json.out.map((line) => JSON.parse(line))).toEqual([
        {
          id: "cred_a",
          credential_id: "cred_a",
          job_id: "job_a",
          principal: "alice",
          state: "active",
          created_at: "2029-12-31T23:00:00.000Z",
          attempts: 0,
          endpoint: "https://m"
        },
        expect.objectContaining({ id: "cred_b", last_error: "it is down", attempts: 12 })
      ])
      expect(upstream.calls).toEqual([])
      expect([...human.out, ...human.err, ...json.out].join()).not.toContain("sk-secret")
    })
  )

  it.scoped("revokes them", () =>
    Effect.gen(function* () {
      const { db, upstream } = yield* prepare
      const { out, error } = yield* arcp(upstream, db, { revoke: true })
      expect(error).toBeUndefined()
      expect(out).toEqual(["cred_a  job_a  revoked  1h", "cred_b  job_b  revoked  5s"])
      expect(upstream.live.size).toBe(0)
      expect(yield* arcp(upstream, db)).toMatchObject({ out: [], err: ["no credential is outstanding"] })
    })
  )

  it.scoped("says which could not be, and keeps them", () =>
    Effect.gen(function* () {
      const { db, upstream } = yield* prepare
      upstream.revokes = ["fail"]
      const { out, error } = yield* arcp(upstream, db, { revoke: true })
      expect(out[0]).toBe("cred_a  job_a  failed  1h  upstream said fail")
      expect(error).toMatch(/^NotRevoked: 1 of 2 could not be revoked/)
      expect((yield* arcp(upstream, db)).out).toEqual(["cred_a  job_a  active  1h  upstream said fail"])
    })
  )

  it.scoped("does not call settled what is not", () =>
    Effect.gen(function* () {
      const { db, upstream } = yield* prepare
      yield* asRuntime(db, (store) =>
        store.insert(aRecord("cred_c", { createdAt: at, unsettledUntil: at + 60_000 }))
      )
      const first = yield* arcp(upstream, db, { revoke: true })
      expect(first.out[2]).toBe("cred_c  job_a  unsettled  0s")
      expect(first.error).toMatch(/run this again after 2030-01-01T00:01:00.000Z/)
      yield* TestClock.adjust("60 seconds")
      const second = yield* arcp(upstream, db, { revoke: true })
      expect(second).toMatchObject({ out: ["cred_c  job_a  revoked  1m"], error: undefined })
    })
  )

  it.scoped("leaves alone what a running runtime's jobs hold", () =>
    Effect.gen(function* () {
      const { db, upstream } = yield* prepare
      yield* asRuntime(db, () =>
        Effect.gen(function* () {
          const { out, err } = yield* arcp(upstream, db, { revoke: true })
          expect(out).toEqual(["cred_b  job_b  revoked  5s"])
          expect(err).toEqual(["a runtime is up: those that its jobs hold are left out"])
        })
      )
      expect(Array.from(upstream.live.keys())).toEqual(["cred_a"])
    })
  )

  it.scoped("says what is wrong with the file, and makes none", () =>
    Effect.gen(function* () {
      const db = yield* tempDatabase
      expect((yield* arcp(new Upstream(), db)).error).toMatch(/^StoreError: .* does not exist; name the file/)
      expect((yield* arcp(new Upstream(), path.dirname(db))).error).toMatch(/^StoreError: .* is a directory/)
      fs.writeFileSync(db, "")
      expect((yield* arcp(new Upstream(), db)).error).toMatch(/^StoreError: .* holds no runtime's data/)
      expect(fs.readdirSync(path.dirname(db))).toEqual(["arcp.db"])
      fs.writeFileSync(CredentialStoreSql.beside(db), "what is this? ".repeat(10))
      expect((yield* arcp(new Upstream(), db)).error).toMatch(/^StoreError: .* is not a SQLite database/)
    })
  )
})
