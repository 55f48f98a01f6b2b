/** A file into which something else has written: every command and the server come to an end, and name what is damaged. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import * as ArcpClient from "../../src/layers/client/ArcpClient.js"
import * as StoreSqlite from "../../src/layers/store/StoreSqlite.js"
import * as DialerWebSocket from "../../src/layers/transport/DialerWebSocket.js"
import { Op, Store } from "../../src/services/store/Store.js"
import { statements } from "../e2e/support/sqlite.js"
import { aJob, aRun, aSession, someEvents } from "../layers/store/fixtures.js"
import { run, serving } from "./cli/inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-damaged-"))
afterAll(() => rmSync(folder, { recursive: true }))

const db = join(folder, "arcp.db")
const whole = join(folder, "whole.db")
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
}).pipe(Effect.provide(StoreSqlite.layer({ filename: whole })))

beforeAll(() => Effect.runPromise(write))
beforeEach(() => {
  for (const suffix of ["", "-wal", "-shm", ".lock"]) rmSync(`${db}${suffix}`, { force: true })
  copyFileSync(whole, db)
})

const record = (change: string) =>
  `UPDATE jobs SET record = json_set(record, ${change}) WHERE job_id = 'job_a'`
const serve = ["serve", "--port", "0", "--agents", "conformance", "--token", "secret=alice"]

// What else a record may be: see layers/store/intact.test.ts.
it.each([
  ["no JSON", "UPDATE jobs SET record = '{\"jobId\":\"job_a\",nope' WHERE job_id = 'job_a'", "no JSON"],
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

it("a session that is damaged is named, and keeps nobody else's from being served", async () => {
  await statements(db, "UPDATE sessions SET record = json_set(record, '$.features', 'ack')")
  const named = "the record of sess_a is damaged (record.features has to be a list, and is of type string)"
  const { code, stderr } = await run(["sessions", "--db", db])
  expect(code).toBe(1)
  expect(stderr).toContain(named)
  let printed = ""
  await serving(
    inFile,
    async (address) => expect((await overHttp(address, "")).status).toBe(200),
    (text) => {
      printed += text
    }
  )
  expect(printed).toContain(named)
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
    expect(stderr).toMatch(/(the log|event 1) of job_a is damaged/)
  }
})

const alice = { authorization: "Bearer secret" }
const inFile = ["--agents", "conformance", "--token", "secret=alice", "--db", db]
const overHttp = (address: string, path: string, headers: Readonly<Record<string, string>> = {}) =>
  fetch(`${address.replace(/^ws/, "http").replace(/\/arcp$/, "")}/v1/jobs/job_a${path}`, {
    headers: { ...alice, ...headers }
  })
const third = { reason: "damaged", job_id: "job_a", seq: 3 }
const remedy = "event 3 of job_a is damaged in the store; who runs the server can restore it from a backup"

// What is damaged inside is found by whoever parses it: see eventProblem, and layers/store/intact.test.ts for what else it may be.
describe.each([
  // It would be two frames, and the end of a format whose lines end there.
  ["several lines", "'{' || char(10) || '\"kind\":\"log\"}'", "its payload has line breaks"]
])("an event whose payload is %s", (_, payload, why) => {
  beforeEach(async () => {
    await statements(db, `UPDATE events SET payload = ${payload} WHERE seq = 3`)
  })

  it("is named to whoever follows by HTTP, after those before it and before those after it", async () => {
    let printed = ""
    await serving(
      inFile,
      async (address) => {
        const lines = (await (await overHttp(address, "/events", { accept: "application/x-ndjson" })).text())
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line))
        expect(lines.map(({ seq }) => seq)).toEqual([1, 2, undefined])
        expect(lines[2].problem).toMatchObject({ status: 500, code: "INTERNAL_ERROR", retryable: false })
        expect(lines[2].problem.details).toEqual(third)
        expect(lines[2].problem.detail).toContain(remedy)
        const told = await (await overHttp(address, "/events", { accept: "text/event-stream" })).text()
        expect([...told.matchAll(/^(?:id|event): (.*)$/gm)].map(([, name]) => name)).toEqual([
          "1",
          "job.event",
          "2",
          "job.event",
          "problem"
        ])
        // Whoever does without it goes on after it.
        const rest = await (await overHttp(address, "/events", { "last-event-id": "3" })).text()
        expect([...rest.matchAll(/^id: (.*)$/gm)].map(([, id]) => id)).toEqual(["4", "5", "6"])
      },
      (text) => {
        printed += text
      }
    )
    expect(printed).toContain(`event 3 of job_a is damaged (${why}); restore it from a backup`)
    expect(printed).not.toMatch(/SyntaxError|TypeError|\bat .*:\d+:\d+/)
  })

  it("is told to a session in its place, which gets what comes after it", async () => {
    await serving(inFile, async (url) => {
      const [said, end] = await Effect.runPromise(
        Effect.gen(function* () {
          const client = yield* ArcpClient.make({ token: Redacted.make("secret") })
          const job = yield* client.subscribe("job_a", { history: true })
          const events = yield* Stream.runCollect(job.events)
          return [Chunk.toReadonlyArray(events), yield* Effect.flip(job.result)] as const
        }).pipe(Effect.scoped, Effect.provide(DialerWebSocket.layer({ url, allowInsecure: true })))
      )
      expect(said).toHaveLength(5)
      expect(said[2]).toMatchObject({ kind: "log", body: { level: "critical", attributes: third } })
      expect(String(Object(said[2]?.body).message)).toContain(remedy)
      expect(end).toMatchObject({ code: "INTERNAL_ERROR", details: { reason: "runtime_restart" } })
    })
  })

  it("ends a replay with its name, and no other command", async () => {
    for (const more of [[], ["--steps"]]) {
      const { code, stderr, stdout } = await run(["replay", "--job", "job_a", ...more, "--db", db])
      expect(code).toBe(1)
      expect(stderr).toContain(`event 3 of job_a is damaged (${why}); restore it from a backup`)
      expect(stdout.match(/"seq":\d/g) ?? []).toEqual(more.length === 0 ? ['"seq":1', '"seq":2'] : [])
    }
    for (const command of [
      ["replay", "--job", "job_a", "--tree"],
      ["sessions"],
      ["db", "stats"],
      ["db", "sweep", "--dry-run"],
      ["db", "sweep"],
      ["backup", join(folder, `${crypto.randomUUID()}.db`)],
      ["jobs", "delete", "job_a", "--yes"]
    ])
      expect((await run([...command, "--db", db])).stderr).not.toMatch(/damaged|Error/)
  })
})

it.each([
  ["job.error", '{"code":7}', "payload.code has to be a text that is not empty"],
  ["job.result", '{"final_status":"success","result_id":7}', "payload.result_id has to be a text"]
])(
  "an end that is damaged (%s, %s) is one answer to whoever asks for the result",
  async (type, payload, why) => {
    await serving(inFile, async () => {})
    await statements(db, `UPDATE events SET type = '${type}', payload = '${payload}' WHERE seq = 6`)
    let printed = ""
    await serving(
      inFile,
      async (address) => {
        const answers = [
          await overHttp(address, "/result"),
          await overHttp(address, "/result", { prefer: "wait=1" })
        ]
        for (const answer of answers) {
          expect(answer.status).toBe(500)
          expect(answer.headers.get("content-type")).toBe("application/problem+json")
          expect(answer.headers.get("retry-after")).toBe(null)
          const said = await answer.json()
          expect(said).toMatchObject({ retryable: false, details: { ...third, seq: 6 } })
          expect(said.detail).toContain(remedy.replace("event 3", "event 6"))
        }
        const end = await Effect.runPromise(
          Effect.gen(function* () {
            const client = yield* ArcpClient.make({ token: Redacted.make("secret") })
            const job = yield* client.subscribe("job_a", { history: true })
            return yield* Effect.flip(job.result)
          }).pipe(Effect.scoped, Effect.provide(DialerWebSocket.layer({ url: address, allowInsecure: true })))
        )
        expect(end).toMatchObject({ code: "INTERNAL_ERROR", details: { ...third, seq: 6 } })
      },
      (text) => {
        printed += text
      }
    )
    expect(printed).toContain(why)
    expect(printed).not.toMatch(/SyntaxError|TypeError/)
  }
)

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
