/** A file into which something else has written: every command and the server come to an end, and name what is damaged. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { afterAll, beforeEach, expect, it } from "vitest"
import * as StoreSqlite from "../../src/layers/store/StoreSqlite.js"
import { Op, Store } from "../../src/services/store/Store.js"
import { statements } from "../e2e/support/sqlite.js"
import { aJob, aRun, aSession, someEvents } from "../layers/store/fixtures.js"
import { run, serving } from "./cli/inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-damaged-"))
afterAll(() => rmSync(folder, { recursive: true }))

const db = join(folder, "arcp.db")
/** It stands for whatever steers a terminal. */
const steering = "\u001b[2J\u202e"

/** A file with a session, a job that runs, and what that delegated to. */
const write = Effect.gen(function* () {
  const { commit } = yield* Store
  const ops = [
    Op.PutSession({ session: aSession("sess_a") }),
    Op.PutJob({ job: aJob("job_a") }),
    Op.PutJob({ job: aJob("job_b", { parentJobId: "job_a", sessionId: "sess_a" }) }),
    Op.Append({ jobId: "job_a", events: someEvents(1, 5) }),
    Op.PutRun({ sessionId: "sess_a", run: aRun(1, 5) })
  ]
  yield* commit({ ops, owners: [] })
}).pipe(Effect.provide(StoreSqlite.layer({ filename: db })))

beforeEach(async () => {
  for (const suffix of ["", "-wal", "-shm", ".lock"]) rmSync(`${db}${suffix}`, { force: true })
  await Effect.runPromise(write)
})

const record = (change: string) =>
  `UPDATE jobs SET record = json_set(record, ${change}) WHERE job_id = 'job_a'`
const serve = ["serve", "--port", "0", "--agents", "conformance", "--token", "secret=alice"]

it.each([
  ["no JSON", "UPDATE jobs SET record = '{\"jobId\":\"job_a\",nope' WHERE job_id = 'job_a'", "no JSON"],
  ["null", "UPDATE jobs SET record = 'null' WHERE job_id = 'job_a'", "record has to be an object"],
  ["a wrong type", record(`'$.createdAt', 'yesterday'`), "record.createdAt has to be a time"],
  ["a time that there is not", record("'$.createdAt', 1e300"), "record.createdAt has to be a time"],
  ["a number in the place of a text", record("'$.sessionId', 5"), "record.sessionId has to be a text"],
  ["a survival without its parts", record("'$.survival', json('{}')"), "record.survival.identity has to be"],
  ["another status", record(`'$.status', '${steering}'`), "record.status has to be"]
])("a record that is %s is named, and nothing goes on with it", async (_, statement, why) => {
  await statements(db, statement)
  for (const args of [serve, ["replay", "--job", "job_a"], ["replay", "--job", "job_a", "--tree"]]) {
    const { code, stderr, stdout } = await run([...args, "--db", db])
    expect(code).toBe(1)
    expect(stderr).toMatch(/the record of (job_a|a job) is damaged/)
    expect(stderr).toContain(why)
    expect(stderr).toContain("restore it from a backup")
    expect(stdout + stderr).not.toMatch(/TypeError|SyntaxError|\u001b|\u202e/)
  }
})

it("a session that is damaged is named", async () => {
  await statements(db, "UPDATE sessions SET record = json_set(record, '$.features', 'ack')")
  for (const args of [["sessions"], serve]) {
    const { code, stderr } = await run([...args, "--db", db])
    expect(code).toBe(1)
    expect(stderr).toContain(
      "the record of sess_a is damaged (record.features has to be a list, and is of type string)"
    )
  }
})

it("jobs that are above themselves do not keep the start for ever", async () => {
  await statements(db, record("'$.parentJobId', 'job_b'"))
  const { code, stderr } = await run([...serve, "--db", db])
  expect(code).toBe(1)
  expect(stderr).toMatch(/the record of job_[ab] is damaged \(it is above itself\)/)
  const tree = await run(["replay", "--job", "job_a", "--tree", "--db", db])
  expect(tree.code).toBe(0)
})

it.each([
  ["descend", "UPDATE events SET seq = -seq"],
  ["are no texts", "UPDATE events SET payload = x'80ff'"],
  ["come again", "UPDATE extents SET count = 9223372036854775807"]
])("events that %s are not read for ever", async (_, statement) => {
  if (statement.includes("extents")) {
    const more = [Op.Append({ jobId: "job_b", events: someEvents(1, 5) })]
    await Effect.runPromise(
      Effect.flatMap(Store, ({ commit }) => commit({ ops: more, owners: [] })).pipe(
        Effect.provide(StoreSqlite.layer({ filename: db }))
      )
    )
  }
  await statements(db, statement)
  for (const more of [[], ["--steps"]]) {
    const { code, stderr } = await run(["replay", "--job", "job_a", ...more, "--db", db])
    expect(code).toBe(1)
    expect(stderr).toContain("the log of job_a is damaged")
  }
})

it("a call of a hook that is damaged is given up, and the others are made", async () => {
  await statements(
    db,
    "INSERT INTO hook_events VALUES ('job_a', 1, '{nope'), ('job_a', 2, 'null'), ('job_a', 3, '{\"kind\":\"toString\"}')"
  )
  const secret = join(folder, "secret")
  writeFileSync(secret, `whsec_${Buffer.alloc(32, 1).toString("base64")}`, { mode: 0o600 })
  let told = () => {}
  const once = new Promise<void>((resolve) => {
    told = resolve
  })
  const receiver = createServer((request, response) => {
    request.resume()
    response.end()
    told()
  })
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve))
  const { port } = receiver.address() as AddressInfo
  let printed = ""
  try {
    await serving(
      [
        ...serve.slice(3),
        "--db",
        db,
        "--webhook",
        `http://127.0.0.1:${port}/`,
        "--webhook-secret-file",
        secret
      ],
      // Of the job that the last process left: it is ended, and that is told.
      () => once,
      (text) => {
        printed += text
      }
    )
  } finally {
    receiver.close()
  }
  expect(printed).toContain("nobody is told of job_a: what is stored of the call is damaged")
  const left = await statements(db, "SELECT seq FROM hook_events WHERE seq < 4")
  expect(left).toEqual([])
})
