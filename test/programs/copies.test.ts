/** Which copies of Effect and of this package a module of agents is given, and what Node keeps of what it compiled. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync
} from "node:fs"
import * as NodeModule from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, expect, it } from "vitest"
import { loadDriver } from "../../src/layers/store/sqliteDriver.js"
import { listening, Program } from "../e2e/support/Program.js"
import { WireClient } from "../e2e/support/WireClient.js"

const root = fileURLToPath(new URL("../../", import.meta.url))
const installed = (name: string) => join(root, "node_modules", name)
const folder = mkdtempSync(join(tmpdir(), "arcp-copies-"))
afterAll(() => rmSync(folder, { recursive: true }))

const programs: Array<Program> = []
afterEach(async () => {
  for (const program of programs.splice(0)) {
    program.signal("SIGKILL")
    await program.exited
  }
})

/** What a module finds out about the copies that it is given. */
const agents = `
import * as FileSystem from "@effect/platform/FileSystem"
import * as PlatformError from "@effect/platform/Error"
import * as STM from "effect/STM"
import { Context, Effect, ParseResult, Schema } from "effect"
import * as OneByOne from "effect/Effect"
import { Agent, Errors, Job, Lease } from "effect-arcp"
import { isArcpError } from "effect-arcp/Errors"
import { RuntimeSqlite } from "effect-arcp/node"

const prototype = (value) => Object.getPrototypeOf(value)
const copies = Agent.make("copies", { version: "1.0.0" })
export const agents = [
  Agent.handle(copies, () =>
    Effect.gen(function* () {
      const { jobId } = yield* Job.Job
      const files = yield* FileSystem.FileSystem
      const refused = yield* Effect.flip(files.readFileString("/etc/hostname"))
      const lease = yield* Lease.Lease
      const error = yield* Effect.flip(lease.authorize("fs.read", "/etc/hostname"))
      const wrong = yield* Effect.flip(Schema.decodeUnknown(Schema.Number)("one"))
      return {
        where: new URL(import.meta.resolve("effect/Effect")).pathname,
        same: [
          jobId.startsWith("job_"),
          refused instanceof PlatformError.SystemError,
          error instanceof Errors.PermissionDenied,
          prototype(yield* Effect.context()) === prototype(Context.empty()),
          wrong instanceof ParseResult.ParseError,
          OneByOne.succeed === Effect.succeed,
          (yield* STM.commit(STM.succeed(1))) === 1,
          typeof RuntimeSqlite.layer === "function",
          isArcpError === Errors.isArcpError
        ]
      }
    })
  )
]
`

let projects = 0
/** A folder with this package installed in it, and what else is given: a file of the module of agents. */
const project = (packages: Readonly<Record<string, string>>): string => {
  const at = join(folder, `project-${++projects}`)
  for (const [name, path] of Object.entries({ "effect-arcp": root, ...packages })) {
    const link = join(at, "node_modules", name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(path, link, "junction")
  }
  const file = join(at, "agents.mjs")
  writeFileSync(file, agents)
  return file
}

/** An Effect of another version, which is the installed one by another name. */
const otherEffect = (): string => {
  const at = join(folder, "effect-3.99.0")
  mkdirSync(at)
  const exports = { "./package.json": "./package.json", ".": "./index.js", "./*": "./index-*.js" }
  writeFileSync(join(at, "package.json"), JSON.stringify({ type: "module", version: "3.99.0", exports }))
  for (const [file, module] of [
    ["index.js", "index"],
    ["index-STM.js", "STM"],
    ["index-Effect.js", "Effect"]
  ])
    writeFileSync(
      join(at, file as string),
      `export * from ${JSON.stringify(new URL(`../../node_modules/effect/dist/esm/${module}.js`, import.meta.url))}`
    )
  return at
}

const serve = (file: string, env: NodeJS.ProcessEnv = {}) => {
  const args = ["serve", "--memory", "--port", "0", "--token", "tok-a=alice", "--agents", file]
  const program = new Program(args, env)
  programs.push(program)
  return program
}

const copiesOf = async (file: string) => {
  const client = await WireClient.open(await listening(serve(file)))
  const { terminal } = await client.run("copies", {})
  return terminal.payload.result as { readonly where: string; readonly same: ReadonlyArray<boolean> }
}

it("a module that imports the versions that are inside runs on the bundled copies, which the server runs on", async () => {
  const file = project({ effect: installed("effect"), "@effect/platform": installed("@effect/platform") })
  const { where, same } = await copiesOf(file)
  expect(where).toMatch(/\/dist\/programs\/shared\/effect\/dist\/esm\/Effect\.js$/)
  expect(same).toEqual(same.map(() => true))
})

it("a module with another version of Effect runs, and the server with it, on what is installed", async () => {
  const file = project({ effect: otherEffect(), "@effect/platform": installed("@effect/platform") })
  const { where, same } = await copiesOf(file)
  expect(where).toMatch(/\/effect-3\.99\.0\/index-Effect\.js$/)
  expect(same).toEqual(same.map(() => true))
})

/** What is in a folder for caches after a server that was given it has ended. */
const kept = async (cache: string): Promise<ReadonlyArray<string>> => {
  const file = project({ effect: installed("effect"), "@effect/platform": installed("@effect/platform") })
  const program = serve(file, { NODE_DISABLE_COMPILE_CACHE: undefined, XDG_CACHE_HOME: cache })
  await listening(program)
  program.signal("SIGTERM")
  expect((await program.leaves()).code).toBe(0)
  const at = join(cache, "effect-arcp")
  return existsSync(at) ? readdirSync(at) : []
}

it("what was compiled is kept in a folder of this user's; by Node itself too, from 22.1 on", async () => {
  const cache = join(folder, "cache")
  const files = await kept(cache)
  expect(files).toHaveLength("enableCompileCache" in NodeModule ? 2 : 1)
  const at = join(cache, "effect-arcp")
  const ours = join(at, files.find((name) => name.startsWith("serve-")) ?? "")
  for (const path of [at, ours]) expect(statSync(path).mode & 0o077).toBe(0)

  // What is not whole is not taken, and written anew.
  const { size } = statSync(ours)
  truncateSync(ours, size >> 1)
  expect(await kept(cache)).toEqual(files)
  expect(statSync(ours).size).toBeGreaterThan(size * 0.9)
})

it("what a short command has compiled is kept when it ends, also of one that closes a database", async () => {
  const cache = join(folder, "doctor-cache")
  const file = join(folder, "other.db")
  const database = (await loadDriver()).open(file)
  database.exec("CREATE TABLE other (a)")
  await database.close()
  const program = new Program(["doctor", "--db", file], {
    NODE_DISABLE_COMPILE_CACHE: undefined,
    XDG_CACHE_HOME: cache
  })
  programs.push(program)
  await program.leaves()
  expect(readdirSync(join(cache, "effect-arcp")).some((name) => name.startsWith("doctor-"))).toBe(true)
})

it("nothing is kept where others could write it", async () => {
  const cache = join(folder, "shared-cache")
  mkdirSync(join(cache, "effect-arcp"), { recursive: true })
  chmodSync(join(cache, "effect-arcp"), 0o777)
  expect(await kept(cache)).toEqual([])
  const linked = join(folder, "linked-cache")
  mkdirSync(join(linked, "elsewhere"), { recursive: true })
  symlinkSync(join(linked, "elsewhere"), join(linked, "effect-arcp"))
  expect(await kept(linked)).toEqual([])
})
