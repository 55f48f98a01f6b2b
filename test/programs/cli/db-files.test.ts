/** What every command that takes `--db` says of what is no file of a runtime, and that a link is as good as the file. */
import { execFileSync } from "node:child_process"
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as CredentialStoreSql from "../../../src/layers/credentials/CredentialStoreSql.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { CredentialStore } from "../../../src/services/credentials/CredentialStore.js"
import { Store } from "../../../src/services/store/Store.js"
import { aRecord } from "../../layers/credentials/CredentialStore.suite.js"
import { aJob, put } from "../../layers/store/fixtures.js"
import { run } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-db-files-"))
const at = (name: string) => join(folder, name)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const patched = (name: string, offset: number, bytes: Uint8Array) => {
  copyFileSync(at("good"), at(name))
  const file = openSync(at(name), "r+")
  writeSync(file, bytes, 0, bytes.length, offset)
  closeSync(file)
}

beforeAll(async () => {
  const filename = at("good")
  await Effect.runPromise(
    Effect.flatMap(Store, (store) =>
      store.commit({ ops: [put(aJob("job_a", { status: "success", endedAt: Date.now() }))], owners: [] })
    ).pipe(Effect.provide(StoreSqlite.layer({ filename })))
  )
  mkdirSync(at("sub"))
  copyFileSync(filename, at("sub/real"))
  symlinkSync("sub/real", at("link"))
  symlinkSync("nowhere", at("dangling"))
  symlinkSync("circle", at("circle"))
  mkdirSync(at("folder"))
  execFileSync("mkfifo", [at("fifo")])
  writeFileSync(at("text"), "some text, which is no database at all\n".repeat(30))
  writeFileSync(at("empty"), "")
  // In the header: the version of the schema at 60, whose file it is at 68.
  patched("newer", 60, Uint8Array.of(0, 0, 0, 99))
  patched("other", 68, Uint8Array.of(1, 2, 3, 4))
  patched("corrupt", 4_096, new Uint8Array(4_096).fill(255))
})

const commands: Readonly<Record<string, (db: string) => ReadonlyArray<string>>> = {
  "db stats": () => ["db", "stats"],
  "db sweep": () => ["db", "sweep"],
  "db sweep --dry-run": () => ["db", "sweep", "--dry-run"],
  sessions: () => ["sessions"],
  top: () => ["top", "--count", "1"],
  replay: () => ["replay", "--job", "job_a"],
  credentials: () => ["credentials"],
  backup: (db) => ["backup", `${db}.copy`],
  "jobs delete": () => ["jobs", "delete", "job_a"],
  "jobs delete --dry-run": () => ["jobs", "delete", "job_a", "--dry-run"]
}

const kinds = [
  ["missing", "does not exist; name the file of a runtime"],
  ["dangling", "is a link that leads nowhere; name the file of a runtime"],
  ["circle", "its links lead in a circle (ELOOP)"],
  ["folder", "is a directory; name a file in it"],
  ["fifo", "is not a regular file; choose another"],
  ["text", "is not a SQLite database; choose another file"],
  ["empty", "holds no runtime's data; name the file of a runtime"],
  ["newer", "was written by a newer version (schema 99, "],
  ["other", "is the database of another application; choose another file"],
  ["corrupt", "is corrupt; restore it from a backup"]
] as const

describe.each(kinds)("--db of what is %s", (kind, said) => {
  it.each(Object.entries(commands))("arcp %s", async (_, command) => {
    const { code, stderr, stdout } = await run([...command(at(kind)), "--db", at(kind)])
    expect(stderr).toMatch(new RegExp(`^error: --db ${at(kind)}:? `))
    expect(stderr).toContain(said)
    expect([code, stdout]).toEqual([1, ""])
  })
})

it("a backup that is none is not the fault of --db", async () => {
  for (const [kind, said] of kinds) {
    const { code, stderr } = await run(["restore", at(kind), "--db", at(`restored-${kind}`)])
    expect(stderr).toMatch(new RegExp(`^error: ${at(kind)}:? `))
    expect(stderr).toContain(said.replace("the file of a runtime", "a backup"))
    expect(code).toBe(1)
  }
})

describe("a link to a file", () => {
  it("has the credentials of the file, and the file those of the link", async () => {
    const record = aRecord("cred_a", { state: "failed", jobId: "job_a", createdAt: Date.now(), attempts: 1 })
    await Effect.runPromise(
      Effect.flatMap(CredentialStore, (store) => store.insert(record)).pipe(
        Effect.provide(CredentialStoreSql.layerSqlite({ filename: CredentialStoreSql.beside(at("link")) }))
      )
    )
    for (const db of [at("sub/real"), at("link")]) {
      const { code, stdout } = await run(["credentials", "--db", db])
      expect([code, stdout.split("  ")[0]]).toEqual([1, "cred_a"])
    }
  })

  it("is locked, and has a log, as the file is", async () => {
    await Effect.runPromise(
      Effect.flatMap(Store, (store) =>
        Effect.zipRight(
          store.commit({ ops: [put(aJob("job_b", { status: "success", endedAt: Date.now() }))], owners: [] }),
          Effect.promise(async () => {
            const [real, link] = await Promise.all(
              [at("sub/real"), at("link")].map(async (db) =>
                JSON.parse((await run(["db", "stats", "--json", "--db", db])).stdout)
              )
            )
            expect(link.bytes).toEqual(real.bytes)
            expect(link.bytes.log).toBeGreaterThan(0)
            const { stdout } = await run(["doctor", "--json", "--db", at("link")])
            const lock = stdout
              .trimEnd()
              .split("\n")
              .map((line) => JSON.parse(line))
              .find(({ check }) => check === "lock")
            if (process.platform === "linux") expect(lock.said).toBe(`process ${process.pid} has the file`)
          })
        )
      ).pipe(Effect.provide(StoreSqlite.layer({ filename: at("link") })))
    )
  })
})
