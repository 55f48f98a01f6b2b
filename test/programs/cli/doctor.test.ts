/** `arcp doctor`: what is found, what it says to do, and that it leaves everything as it is. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync
} from "node:fs"
import { createServer as createHttp } from "node:http"
import { type AddressInfo, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeEach, expect, it } from "vitest"
import type { Finding } from "../../../src/programs/cli/run/doctor/finding.js"
import { checkNode } from "../../../src/programs/cli/run/doctor/systemChecks.js"
import { listening, Program, serveArgs } from "../../e2e/support/Program.js"
import { run, serving } from "./inProcess.js"

const top = mkdtempSync(join(tmpdir(), "arcp-doctor-"))
afterAll(() => rmSync(top, { recursive: true }))
let folder = ""
let db = ""
beforeEach(() => {
  folder = mkdtempSync(join(top, "f-"))
  db = join(folder, "arcp.db")
})

/** Findings by their check, and the exit code. */
const doctor = async (args: ReadonlyArray<string> = [], environment: Record<string, string> = {}) => {
  const { code, stderr, stdout } = await run(["doctor", "--db", db, "--port", "0", "--json", ...args], {
    XDG_CONFIG_HOME: folder,
    HOME: folder,
    ...environment
  })
  expect(stderr).toBe("")
  const found = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Finding)
  for (const { level, todo } of found) expect(todo !== undefined).toBe(level !== "ok")
  return { code, of: (check: string) => found.find((finding) => finding.check === check), found }
}

it("says of a link that it leads nowhere, or in a circle, and looks at the rest", async () => {
  for (const to of [join(folder, "nothing"), db]) {
    symlinkSync(to, db)
    const { code, of } = await doctor()
    expect(code).toBe(1)
    expect(of("file")?.level).toBe("fail")
    expect(of("file")?.said).toContain("leads nowhere")
    expect(of("clock")?.level).toBe("ok")
    rmSync(db)
  }
})

/** Runs as a user who may not enter the folder. */
const outside = async <A>(use: () => Promise<A>): Promise<A> => {
  const isRoot = process.getuid?.() === 0
  chmodSync(folder, isRoot ? 0o700 : 0)
  if (isRoot) process.seteuid?.(65_534)
  try {
    return await use()
  } finally {
    if (isRoot) process.seteuid?.(0)
    chmodSync(folder, 0o700)
  }
}

it.skipIf(process.geteuid === undefined)(
  "says of a file in a folder that is not for this user that it is not, and looks at the rest",
  async () => {
    await withFile()
    // What is imported is imported by who may read it.
    await doctor()
    const { code, found, of } = await outside(doctor)
    expect(code).toBe(1)
    for (const check of ["file", "schema", "contexts"])
      expect(of(check)).toMatchObject({
        level: "fail",
        said: expect.stringMatching(/EACCES|cannot be opened/),
        todo: expect.stringMatching(/user/)
      })
    expect(found.map(({ check }) => check)).toContain("clock")
    for (const args of [
      ["backup", "copy.db"],
      ["db", "sweep"],
      ["db", "stats"],
      ["jobs", "delete", "job_1"],
      ["sessions"],
      ["credentials"]
    ]) {
      const { code, stderr } = await outside(() => run([...args, "--db", db]))
      expect(stderr, args.join(" ")).toMatch(
        /^error: .*cannot be opened; check that it and its folder may be read/
      )
      expect(code).toBe(1)
    }
  }
)

const withFile = () => serving(["--token", "secret=me", "--db", db, "--log-level", "none"], async () => {})

it("finds everything well where a server has run and one runs, takes no lock and changes nothing", async () => {
  await withFile()
  const before = readFileSync(db)
  const names = readdirSync(folder)
  const { code, found } = await doctor()
  expect(found.filter(({ level }) => level !== "ok")).toEqual([])
  expect(code).toBe(0)
  expect(found.map(({ check }) => check)).toEqual([
    "node",
    "sqlite",
    "port",
    "contexts",
    "file",
    "folder",
    "schema",
    "lock",
    "log",
    "disk",
    "clock",
    "jwt keys",
    "provisioner"
  ])
  expect(readFileSync(db).equals(before)).toBe(true)
  expect(readdirSync(folder)).toEqual(names)

  const server = new Program(serveArgs(["--port", "0", "--db", db]))
  try {
    const port = new URL(await listening(server)).port
    const beside = await doctor()
    expect(beside.of("lock")?.said).toBe(`process ${server.child.pid} has the file`)
    expect(beside.code).toBe(0)
    const lines = await run(["doctor", "--db", db, "--port", port], { HOME: folder, XDG_CONFIG_HOME: folder })
    expect(lines.stdout).toMatch(
      new RegExp(`^ok {4}port {9}127.0.0.1:${port} is taken, while process ${server.child.pid}`, "m")
    )
    expect(lines.code).toBe(0)
  } finally {
    server.signal("SIGTERM")
    expect((await server.leaves()).code).toBe(0)
  }
})

it("says what is missing, open to others, damaged, newer, or left by a killed runtime", async () => {
  const none = await doctor()
  expect(none.of("file")).toMatchObject({ level: "warn", said: expect.stringMatching(/does not exist/) })
  expect(none.code).toBe(0)
  expect(existsSync(db)).toBe(false)

  await withFile()
  chmodSync(db, 0o644)
  chmodSync(folder, 0o777)
  const open = await doctor()
  expect(open.of("file")).toMatchObject({
    level: "warn",
    said: expect.stringMatching(/mode 0644/),
    todo: expect.stringMatching(/^chmod 600/)
  })
  expect(open.of("folder")).toMatchObject({ level: "warn", todo: expect.stringMatching(/^chmod go-w/) })
  expect(open.code).toBe(0)
  chmodSync(db, 0o600)
  chmodSync(folder, 0o700)

  const later = Date.now() / 1000 + 3_600
  utimesSync(db, later, later)
  expect((await doctor()).of("clock")).toMatchObject({ level: "warn", todo: expect.stringMatching(/NTP/) })

  writeFileSync(`${db}-wal`, "x".repeat(100))
  expect((await doctor()).of("log")).toMatchObject({
    level: "warn",
    said: expect.stringMatching(/a killed runtime left/)
  })
  rmSync(`${db}-wal`)

  const bytes = readFileSync(db)
  bytes.writeUInt32BE(99, 60)
  writeFileSync(db, bytes)
  const newer = await doctor()
  expect(newer.of("schema")).toMatchObject({
    level: "fail",
    said: expect.stringMatching(/newer version \(schema 99/)
  })
  expect(newer.code).toBe(1)
})

it("says of what is no database of a runtime what to do about that, and nothing else", async () => {
  const said = async () => {
    const { code, of } = await doctor()
    expect(code).toBe(1)
    const { said, todo } = of("schema") ?? {}
    return `${said}; ${todo}`.replace(db, "DB")
  }
  mkdirSync(db)
  expect(await said()).toBe("DB is a directory; name a file in it")
  rmdirSync(db)
  writeFileSync(db, "rubbish".repeat(1_000))
  expect(await said()).toBe("DB is not a SQLite database; choose another file")
  rmSync(db)
  await withFile()
  const bytes = readFileSync(db)
  bytes.writeUInt32BE(99, 60)
  writeFileSync(db, bytes)
  expect(await said()).toMatch(
    /^DB was written by a newer version \(.*\); use that version, or choose another file$/
  )
  bytes.writeUInt32BE(1234, 68)
  writeFileSync(db, bytes)
  expect(await said()).toBe("DB is the database of another application; choose another file")
})

it("says of a port, a key set, a gateway and the contexts what is the matter", async () => {
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve))
  const port = String((taken.address() as AddressInfo).port)
  try {
    const text = await run(["doctor", "--db", db, "--port", port], { HOME: folder, XDG_CONFIG_HOME: folder })
    expect(text.stdout).toMatch(
      /^fail {2}port {9}127\.0\.0\.1:\d+ is taken by another program; end that one/m
    )
    expect(text.code).toBe(1)
  } finally {
    await new Promise((resolve) => taken.close(resolve))
  }
  const dead = `http://127.0.0.1:${port}`
  const seen: Array<string | undefined> = []
  const server = createHttp((request, response) => {
    seen.push(request.headers.authorization)
    if (request.url === "/keys")
      return response.end(
        JSON.stringify({
          keys: [
            { kty: "RSA", alg: "RS256" },
            { kty: "OKP", crv: "Ed25519" }
          ]
        })
      )
    if (request.url === "/empty") return response.end("{}")
    response.statusCode = request.headers.authorization === "Bearer good" ? 200 : 401
    response.end("{}")
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    const jwks = async (address: string) => (await doctor(["--jwt-jwks", address])).of("jwt keys")
    expect(await jwks(`${url}/keys`)).toMatchObject({
      level: "warn",
      said: expect.stringMatching(/RS256, Ed25519$/),
      todo: expect.stringMatching(/https/)
    })
    expect(await jwks(`${url}/empty`)).toMatchObject({
      level: "fail",
      said: expect.stringMatching(/no keys/)
    })
    expect(await jwks(dead)).toMatchObject({
      level: "fail",
      said: expect.stringMatching(/cannot be fetched/)
    })
    expect(await jwks("nowhere")).toMatchObject({ level: "fail" })
    const gateway = async (environment: Record<string, string>) =>
      (await doctor([], environment)).of("provisioner")
    expect(await gateway({ ARCP_LITELLM_URL: url, ARCP_LITELLM_KEY: "good" })).toMatchObject({ level: "ok" })
    expect(await gateway({ ARCP_LITELLM_URL: url, ARCP_LITELLM_KEY: "bad" })).toMatchObject({
      level: "fail",
      said: expect.stringMatching(/refuses the key/)
    })
    expect(await gateway({ ARCP_LITELLM_URL: dead, ARCP_LITELLM_KEY: "good" })).toMatchObject({
      level: "fail",
      said: expect.stringMatching(/cannot be reached/)
    })
    expect(await gateway({ ARCP_LITELLM_URL: url })).toMatchObject({
      level: "fail",
      said: expect.stringMatching(/KEY is not/)
    })
    expect(seen).toContain("Bearer good")
  } finally {
    await new Promise((resolve) => server.close(resolve))
  }
  expect((await doctor([], { ARCP_JWT_SECRET: "short" })).of("jwt keys")).toMatchObject({ level: "warn" })
  await run(["context", "add", "x", "--url", "ws://127.0.0.1:1/arcp", "--token", "t"], {
    XDG_CONFIG_HOME: folder,
    HOME: folder
  })
  expect((await doctor()).of("contexts")).toMatchObject({ level: "ok" })
  chmodSync(join(folder, "arcp", "config.json"), 0o644)
  expect((await doctor()).of("contexts")).toMatchObject({
    level: "warn",
    todo: expect.stringMatching(/^chmod 600/)
  })
  expect(checkNode("18.20.1").level).toBe("fail")
})
