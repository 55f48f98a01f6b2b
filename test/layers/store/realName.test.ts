/** A file has one name for its lock and for what is beside it, also while it is still to be made where a link leads. */
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { credentialsBeside, realName } from "../../../src/layers/store/sqliteFile.js"

const root = realpathSync(mkdtempSync(join(tmpdir(), "arcp-real-name-")))
afterAll(() => rmSync(root, { recursive: true }))
const at = (...names: ReadonlyArray<string>) => join(root, ...names)

it("is where a link leads, though there is nothing yet", () => {
  mkdirSync(at("data"))
  symlinkSync("data", at("folder"))
  symlinkSync("data/a.db", at("a.db"))
  symlinkSync("../a.db", at("data", "again.db"))
  for (const name of [at("a.db"), at("data", "again.db"), at("folder", "again.db"), at("folder", "a.db")])
    expect(realName(name)).toBe(at("data", "a.db"))
  expect(credentialsBeside(at("a.db"))).toBe(at("data", "a.db.credentials"))
  // A circle, and what is there not at all, stay what they are called.
  symlinkSync("y.db", at("x.db"))
  symlinkSync("x.db", at("y.db"))
  expect([at("x.db"), at("y.db")]).toContain(realName(at("x.db")))
  expect(realName(at("none", "b.db"))).toBe(at("none", "b.db"))
})

it.scoped("two runtimes by two names have one file, from the first start on", () =>
  Effect.gen(function* () {
    symlinkSync("data/b.db", at("b.db"))
    yield* Layer.build(StoreSqlite.layer({ filename: at("b.db") }))
    const beside = ["", ".lock"].map((end) => existsSync(`${at("data", "b.db")}${end}`))
    expect(beside).toEqual([true, true])
    expect(existsSync(`${at("b.db")}.lock`)).toBe(false)
  })
)
