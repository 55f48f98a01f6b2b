/** `arcp db` and `arcp jobs delete`: what is in a file, what is due to go, and that what is deleted is gone from its bytes. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { afterAll, beforeEach, describe, expect, it } from "vitest"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { Op, Store } from "../../../src/services/store/Store.js"
import { aJob, aRun, aSession, put, someEvents } from "../../layers/store/fixtures.js"
import { run, serving } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-cli-care-"))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0
let db = ""
beforeEach(() => {
  db = join(folder, `${++files}.db`)
})

const store = <A, E>(body: (store: Store["Type"]) => Effect.Effect<A, E>, filename = db) =>
  Effect.runPromise(Effect.flatMap(Store, body).pipe(Effect.provide(StoreSqlite.layer({ filename }))))
const commit = (...ops: ReadonlyArray<Op>) => store((store) => store.commit({ ops: ops, owners: [] }))

/** Everything that a file and what is beside it holds. */
const bytesOf = (filename: string): string =>
  readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((name) => name.startsWith(filename) && !name.endsWith(".lock"))
    .map((name) => readFileSync(name, "latin1"))
    .join("\n")

const lines = (text: string) => text.trimEnd().split("\n")
const values = (text: string) => lines(text).map((line) => JSON.parse(line) as Record<string, unknown>)
const day = 86_400_000
const ago = (ms: number) => Date.now() - ms

const ended = (jobId: string, at: number, fields = {}) =>
  put(aJob(jobId, { status: "success", createdAt: at - 1, endedAt: at, ...fields }))

/** Sessions that were seen now, or long ago; jobs that have ended now, long ago and read, long ago and not read. */
const mixed = async () => {
  await commit(
    ended("job_old", ago(3 * day)),
    ended("job_older", ago(4 * day), { principal: "bob" }),
    ended("job_unread", ago(3 * day)),
    ended("job_left", ago(3 * day)),
    ended("job_new", ago(3_600_000)),
    put(aJob("job_run", { createdAt: ago(5 * day) })),
    ...["job_old", "job_unread", "job_left", "job_new"].map((jobId) =>
      Op.Append({ jobId, events: someEvents(1, 5) })
    ),
    Op.PutSession({ session: aSession("sess_here", { attached: false, lastSeenAt: ago(1_000) }) }),
    Op.PutSession({ session: aSession("sess_gone", { attached: false, lastSeenAt: ago(day) }) }),
    Op.PutRun({ sessionId: "sess_here", run: aRun(1, 5, "job_unread", 1) }),
    Op.PutRun({ sessionId: "sess_gone", run: aRun(1, 5, "job_left", 1) })
  )
}

describe("arcp db sweep", () => {
  it("says what would go and why not the rest, changes nothing, and then does just that", async () => {
    await mixed()
    const before = readFileSync(db)
    const tried = await run(["db", "sweep", "--db", db, "--dry-run"])
    expect(tried).toMatchObject({ code: 0, stderr: "" })
    expect(lines(tried.stdout)).toEqual([
      "due: 3 jobs that ended longer ago than jobRetention",
      "due: 1 session that can no longer be resumed",
      "kept: 1 job that ended less than jobRetention ago; the next is due in 22h",
      "kept: 1 job of which a session that can be resumed has not read everything",
      "kept: 1 job not ended",
      "kept: 1 session that can be resumed"
    ])
    expect(readFileSync(db).equals(before)).toBe(true)

    const swept = await run(["db", "sweep", "--db", db, "--json"])
    expect(swept).toMatchObject({ code: 0, stderr: "" })
    expect(
      values(swept.stdout)
        .flatMap(({ job_id }) => job_id ?? [])
        .sort()
    ).toEqual(["job_left", "job_old", "job_older"])
    expect(values(swept.stdout).at(-1)).toEqual({
      kept: { unfinished: 1, recent: 1, needed: 1, over: 0, sessions: 1 }
    })
    const left = await store((store) => store.jobs({ principals: "everyone", limit: 99 }))
    expect(left.map(({ jobId }) => jobId).sort()).toEqual(["job_new", "job_run", "job_unread"])
    expect(
      await store((store) => Effect.all([store.session("sess_gone"), store.events("job_unread", 1, 99)]))
    ).toEqual([undefined, someEvents(1, 5)])
    expect(bytesOf(db)).not.toContain("job_left")
    expect((await run(["db", "sweep", "--db", db])).stdout).toMatch(/^forgotten: nothing$/m)
  })

  it("takes the limits that its server has, and refuses others in words", async () => {
    await mixed()
    const sweep = (...limits: ReadonlyArray<string>) =>
      run(["db", "sweep", "--db", db, "--dry-run", ...limits.flatMap((limit) => ["--limit", limit])])
    expect((await sweep("jobRetention=7 days")).stdout).toMatch(/^due: 1 session/)
    // The oldest that nobody needs go first.
    const capped = await run([
      "db",
      "sweep",
      "--db",
      db,
      "--dry-run",
      "--json",
      "--limit",
      "jobRetention=7 days",
      "--limit",
      "maxRetainedJobs=2"
    ])
    expect(values(capped.stdout).filter(({ job_id }) => job_id !== undefined)).toEqual(
      ["job_old", "job_left"].map((job_id) => ({
        job_id,
        principal: "alice",
        why: "maxRetainedJobs",
        forgotten: false
      }))
    )
    for (const [limit, said] of [
      ["jobRetnetion=1 day", /there is no option jobRetnetion.*jobRetention/],
      ["jobRetention=soon", /--limit jobRetention/]
    ] as const) {
      const { code, stderr } = await sweep(limit)
      expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(said) })
    }
  })
})

describe("arcp db stats", () => {
  it("says what is there, of whom, and what is due, also while a server has the file", async () => {
    await mixed()
    const { code, stderr, stdout } = await run(["db", "stats", "--db", db])
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toMatch(/\.db {2}[\d.]+ kB \(.*free\), log 0 B, schema \d+$/m)
    expect(stdout).toMatch(/^2 sessions; jobs: 1 running, 5 success$/m)
    expect(stdout).toMatch(/^events +20 +[\d.]+ [kM]?B$/m)
    expect(stdout).toMatch(/^alice +5 +1 +20 +[\d.]+ k?B +5d$/m)
    expect(stdout).toMatch(/^echo@1\.0\.0 +6 +1 +20/m)
    expect(stdout).toMatch(/jobRetention=1d .*resumeWindow=10m/)
    expect(stdout).toMatch(/^due: 3 jobs/m)
    for (const line of lines(stdout)) expect(line.length, line).toBeLessThanOrEqual(200)
    await serving(["--token", "secret=me", "--db", db, "--log-level", "none"], async () => {
      const [value] = values((await run(["db", "stats", "--db", db, "--json"])).stdout)
      expect(value).toMatchObject({ statuses: {}, retention: { jobRetention: "1d" } })
    })
  })
})

describe("arcp jobs delete", () => {
  /** Marks of somebody, wherever something of theirs is kept. */
  const marks = [
    "secret-input",
    "secret-event",
    "secret-step",
    "secret-key",
    "secret-hook",
    "carol",
    "job_c1",
    "job_c2"
  ]
  const person = async () => {
    const filler = "x".repeat(900)
    await commit(
      put(aJob("job_a")),
      ended("job_c1", ago(1_000), { principal: "carol", sessionId: "sess_c", idempotencyKey: "secret-key" }),
      ended("job_c2", ago(1_000), { principal: "carol", sessionId: "sess_c", parentJobId: "job_c1" }),
      put(
        aJob("job_c3", {
          principal: "carol",
          sessionId: "sess_c",
          rejected: true,
          status: "error",
          endedAt: ago(1_000)
        })
      ),
      Op.PutInput({ jobId: "job_c1", input: '{"name":"secret-input"}' }),
      Op.PutJournal({
        jobId: "job_c1",
        entries: [{ kind: "step", key: "one", ordinal: 1, about: "{}", value: `"secret-step ${filler}"` }]
      }),
      Op.PutHookEvent({ event: { jobId: "job_c1", seq: 3, text: '{"x":"secret-hook"}' } }),
      Op.PutHookEvent({ event: { jobId: "job_a", seq: 1, text: '{"x":"stays"}' } }),
      Op.PutSession({ session: aSession("sess_c", { principal: "carol" }) }),
      Op.PutSession({ session: aSession("sess_a") }),
      Op.PutRun({ sessionId: "sess_c", run: aRun(1, 40, "job_c1", 1) }),
      Op.Observe({ sessionId: "sess_c", jobId: "job_c1", cursor: 0 })
    )
    // In many commits, between those of others, so that pages are shared.
    await store((store) =>
      Effect.forEach(
        Array.from({ length: 40 }, (_, i) => i + 1),
        (seq) =>
          store.commit({
            ops: ["job_c1", "job_c2", "job_a"].map((jobId) => {
              const text = jobId === "job_a" ? "stays" : "secret-event"
              return Op.Append({
                jobId,
                events: someEvents(seq, seq, { payload: JSON.stringify({ text, filler }) })
              })
            }),
            owners: []
          }),
        { discard: true }
      )
    )
  }

  it("of a principal leaves nothing of them in the bytes of the file, and everything of others", async () => {
    await person()
    for (const mark of marks) expect(bytesOf(db)).toContain(mark)
    const tried = await run(["jobs", "delete", "--db", db, "--principal", "carol", "--dry-run"])
    expect(tried).toMatchObject({
      code: 0,
      stderr: "2 jobs, 1 submit that began none and 1 session would be deleted\n"
    })
    const done = await run(["jobs", "delete", "--db", db, "--principal", "carol", "--json"])
    expect(done).toMatchObject({ code: 0, stderr: "" })
    expect(
      values(done.stdout)
        .map((value) => value["job_id"] ?? value["session_id"])
        .sort()
    ).toEqual(["job_c1", "job_c2", "job_c3", "sess_c"])
    const bytes = bytesOf(db)
    for (const mark of [...marks, "sess_c", "job_c3"]) expect(bytes, mark).not.toContain(mark)
    expect(bytes).toContain("stays")
    await store((store) =>
      Effect.gen(function* () {
        expect((yield* store.events("job_a", 1, 99)).length).toBe(40)
        expect((yield* store.hookEvents({ jobId: "", seq: 0 }, 9)).map(({ text }) => text)).toEqual([
          '{"x":"stays"}'
        ])
        expect(yield* store.jobByKey("carol", "secret-key")).toBeUndefined()
        // The file goes on.
        yield* store.commit({ ops: [Op.Append({ jobId: "job_a", events: someEvents(41, 41) })], owners: [] })
      })
    )
    const again = await run(["jobs", "delete", "--db", db, "--principal", "carol"])
    expect(again).toMatchObject({ code: 0, stderr: "0 jobs and 0 sessions deleted\n" })
  })

  it("tells submits that began no job from jobs", async () => {
    await commit(
      ended("job_a", ago(9_000)),
      put(aJob("job_b", { agent: "nobody", status: "error", rejected: true, endedAt: ago(8_000) })),
      put(aJob("job_c", { rejected: true, endedAt: ago(7_000), answeredWith: "job_a" }))
    )
    const args = ["jobs", "delete", "--db", db, "--principal", "alice"]
    expect(await run([...args, "--dry-run"])).toEqual({
      code: 0,
      stdout: [
        "job_a  success  echo@1.0.0  would be deleted",
        "job_b  refused  nobody  would be deleted",
        "job_c  repeat of job_a  echo@1.0.0  would be deleted\n"
      ].join("\n"),
      stderr: "1 job, 2 submits that began none and 0 sessions would be deleted\n"
    })
    expect(
      values((await run([...args, "--json"])).stdout).map(({ job_id, repeats, status }) => [
        job_id,
        status,
        repeats
      ])
    ).toEqual([
      ["job_a", "success", undefined],
      ["job_b", "refused", undefined],
      ["job_c", "repeated", "job_a"]
    ])
  })

  it("of a job takes what it has delegated to with it", async () => {
    await person()
    const { code, stdout } = await run(["jobs", "delete", "job_c1", "--db", db])
    expect(code).toBe(0)
    expect(lines(stdout).map((line) => line.split(" ")[0])).toEqual(["job_c2", "job_c1"])
    const bytes = bytesOf(db)
    for (const mark of ["secret-input", "secret-event", "secret-step", "secret-key", "secret-hook"])
      expect(bytes, mark).not.toContain(mark)
    expect(await store((store) => store.session("sess_c"))).toBeDefined()
  })

  it("refuses what has not ended, a part of something that has not, and what is not there", async () => {
    await commit(
      put(aJob("job_p")),
      ended("job_q", ago(1_000), { parentJobId: "job_p" }),
      put(aJob("job_d", { principal: "dave" }))
    )
    const refused = async (args: ReadonlyArray<string>, said: RegExp, code: number) => {
      const before = await store((store) => store.jobs({ principals: "everyone", limit: 9 }))
      const result = await run(["jobs", "delete", "--db", db, ...args])
      expect(result).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(said) })
      expect(await store((store) => store.jobs({ principals: "everyone", limit: 9 }))).toEqual(before)
    }
    const whose = { identity: {}, features: [] }
    const begun = { restart: "rerun", attempt: 1, deaths: 0, progress: 0 } as const
    // One that waits to begin, and one that waits and is a record only.
    await commit(
      put(aJob("job_w", { status: "pending", queued: { ...whose, startAt: Date.now() + day } })),
      put(aJob("job_zz", { survival: { ...whose, ...begun, waiting: { dueAt: Date.now() + day } } }))
    )
    for (const [id, status] of [
      ["job_w", "pending"],
      ["job_zz", "running"]
    ] as const) {
      await refused([id], new RegExp(`${id} \\(${status}\\) would go on`), 1)
      expect((await run(["jobs", "delete", id, "--cancel", "--db", db])).code).toBe(0)
      expect(bytesOf(db)).not.toContain(id)
    }
    await refused(["job_d"], /job_d \(running\) would go on .*--cancel/, 1)
    await refused(["--principal", "dave"], /job_d \(running\)/, 1)
    await refused(["job_q"], /job_q is part of job_p, which has not ended/, 1)
    await refused(["job_x"], /--db \S+ has no such job; --db names another, and --running asks/, 1)
    await refused(["job_x", "--dry-run"], /has no such job/, 1)
    await refused([], /needs a job, or --principal/, 2)
    await refused(["job_d", "--principal", "dave"], /not both/, 2)
    expect((await run(["jobs", "delete", "job_p", "--cancel", "--db", db])).code).toBe(0)
    expect(bytesOf(db)).not.toContain("job_q")
    const none = join(folder, "none.db")
    expect(await run(["jobs", "delete", "job_x", "--db", none])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/none\.db does not exist/)
    })
    expect(existsSync(none)).toBe(false)
  })

  it("is refused while a server has the file", async () => {
    await serving(["--token", "secret=me", "--db", db, "--log-level", "none"], async () => {
      const { code, stderr } = await run(["jobs", "delete", "--principal", "me", "--db", db])
      expect(code).toBe(1)
      expect(stderr).toMatch(/another arcp runtime .*uses/)
    })
  })
})
