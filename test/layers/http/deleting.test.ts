/** People ask to be forgotten while the server runs: `DELETE /v1/jobs`. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Policy from "../../../src/layers/auth/Policy.js"
import { type Asking, sentOf, served } from "./served.js"

const policy = Policy.layer({ operators: ["ops"] })

type Server = Effect.Effect.Success<ReturnType<typeof served>>

const test = (run: (server: Server) => Promise<void>) =>
  Effect.flatMap(served({ policy }), (server) => Effect.promise(() => run(server)))

const askJson = async ({ ask }: Server, path: string, asking: Asking = {}) => {
  const response = await ask(path, asking)
  const text = await response.text()
  // biome-ignore lint/suspicious/noExplicitAny: what a test reads of an answer is the test
  return { status: response.status, body: (text === "" ? undefined : JSON.parse(text)) as any }
}

const terms = { lease_request: { "agent.delegate": ["**"] } }

const submit = async (server: Server, agent: string, input: unknown, more: Asking = {}): Promise<string> =>
  (await askJson(server, "/v1/jobs", { json: { agent, input, ...terms }, ...more })).body.job_id

const ended = (server: Server, agent: string, input: unknown, headers: Record<string, string> = {}) =>
  submit(server, agent, input, { headers: { prefer: "wait=30", ...headers } })

const remove = (server: Server, path: string, token = "ops") =>
  askJson(server, `/v1/jobs${path}`, { method: "DELETE", token })

describe("deleting", () => {
  it.scopedLive("is for operators; others hear what they may know", () =>
    test(async (server) => {
      const id = await ended(server, "echo", 1)
      expect(await remove(server, `/${id}`, "a")).toMatchObject({
        status: 403,
        body: { code: "PERMISSION_DENIED" }
      })
      expect((await remove(server, `/${id}`, "b")).status).toBe(404)
      expect((await remove(server, "?principal=alice", "a")).status).toBe(403)
      expect((await remove(server, "")).status).toBe(400)
      expect((await remove(server, `/${id}?cancel=perhaps`)).status).toBe(400)
      expect((await askJson(server, `/v1/jobs/${id}`)).status).toBe(200)
      // An operator may delete what they may not see.
      expect((await askJson(server, `/v1/jobs/${id}`, { token: "ops" })).status).toBe(404)
      expect(await remove(server, `/${id}`)).toEqual({ status: 200, body: { jobs: [id], sessions: 0 } })
      expect((await remove(server, `/${id}`)).status).toBe(404)
    })
  )

  it.scopedLive("leaves nothing: the job, its events, its key, and what it has delegated to", () =>
    test(async (server) => {
      const key = { "idempotency-key": "one" }
      const id = await ended(server, "delegate", { agent: "echo", input: 1 }, key)
      const other = await ended(server, "echo", 2)
      const { body: children } = await askJson(server, `/v1/jobs?parent_job_id=${id}`)
      const child = children.jobs[0].job_id
      expect((await remove(server, `/${id}`)).body.jobs.sort()).toEqual([id, child].sort())
      for (const gone of [id, child]) {
        expect((await askJson(server, `/v1/jobs/${gone}`)).status).toBe(404)
        expect((await askJson(server, `/v1/jobs/${gone}/events`)).status).toBe(404)
        expect((await askJson(server, `/v1/jobs/${gone}/result`)).status).toBe(404)
      }
      const { body } = await askJson(server, "/v1/jobs")
      expect(body.jobs.map(({ job_id }: { job_id: string }) => job_id)).toEqual([other])
      expect(await ended(server, "delegate", { agent: "echo", input: 1 }, key)).not.toBe(id)
    })
  )

  it.scopedLive("waits for no job that goes on; it is cancelled first when that is asked for", () =>
    test(async (server) => {
      const id = await submit(server, "delegate", { agent: "sleep", input: { ms: 60_000 } })
      const refused = await remove(server, `/${id}`)
      expect(refused).toMatchObject({ status: 409, body: { details: { reason: "not_ended" } } })
      expect((await askJson(server, `/v1/jobs/${id}`)).body.status).toBe("running")
      const following = server.ask(`/v1/jobs/${id}/events`).then((response) => response.text())
      const gone = await remove(server, `/${id}?cancel=true`)
      expect(gone.status).toBe(200)
      expect(gone.body.jobs).toContain(id)
      // Whoever follows it hears its end, or that it is there no more.
      const last = sentOf(await following).at(-1)
      expect(last?.event === "job.error" || last?.data.problem?.code === "JOB_NOT_FOUND").toBe(true)
      expect((await askJson(server, "/v1/jobs")).body.jobs).toEqual([])
    })
  )

  it.scopedLive("a reader in the middle of it hears that it is there no more", () =>
    test(async (server) => {
      const id = await ended(server, "emit", { count: 20_000, batch: 64 })
      const response = await server.ask(`/v1/jobs/${id}/events`)
      const reader = response.body?.getReader()
      let text = new TextDecoder().decode((await reader?.read())?.value)
      expect((await remove(server, `/${id}`)).status).toBe(200)
      for (;;) {
        const piece = await reader?.read()
        if (piece?.value === undefined) break
        text += new TextDecoder().decode(piece.value)
      }
      const sent = sentOf(text)
      const last = sent.at(-1)
      expect(last?.event).toBe("problem")
      expect(last?.data.problem).toMatchObject({ code: "JOB_NOT_FOUND", status: 404 })
      // What came before is whole.
      const ids = sent.slice(0, -1).map((event) => event.id)
      expect(ids).toEqual(ids.map((_, i) => i + 1))
    })
  )

  it.scopedLive("by several at once deletes it once, and the others hear that it is there no more", () =>
    test(async (server) => {
      for (let round = 0; round < 3; round++) {
        const id = await submit(server, "sleep", { ms: 60_000 })
        const asked = Array.from({ length: 10 }, () => remove(server, `/${id}?cancel=true`))
        const statuses = (await Promise.all(asked)).map(({ status }) => status)
        expect(statuses).toContain(200)
        expect(statuses.filter((status) => status !== 200 && status !== 404)).toEqual([])
      }
    })
  )

  it.scopedLive(
    "of a principal that goes on submitting comes to an end, without what was submitted since",
    () =>
      test(async (server) => {
        let stopped = false
        const jobs = new Set<string>()
        const flood = Array.from({ length: 2 }, async () => {
          while (!stopped) jobs.add(await submit(server, "sleep", { ms: 60_000 }))
        })
        while (jobs.size < 8) await submit(server, "echo", 1)
        const before = [...jobs]
        expect((await remove(server, "?principal=alice&cancel=true")).status).toBe(200)
        for (const id of before) expect((await askJson(server, `/v1/jobs/${id}`)).status).toBe(404)
        stopped = true
        await Promise.all(flood)
      })
  )

  it.scopedLive("of a principal takes jobs, also refused ones, and sessions, and nobody else's", () =>
    test(async (server) => {
      const mine = [await ended(server, "echo", 1), await ended(server, "fail", {})]
      await submit(server, "nobody", 1)
      const running = await submit(server, "sleep", { ms: 60_000 })
      const others = await ended(server, "echo", 3, { authorization: "Bearer b" })
      const { body: theirs } = await askJson(server, "/v1/jobs", { json: { agent: "echo" }, token: "b" })
      expect((await remove(server, "?principal=alice")).status).toBe(409)
      const gone = await remove(server, "?principal=alice&cancel=true")
      expect(gone.status).toBe(200)
      expect(gone.body.jobs).toEqual(expect.arrayContaining([...mine, running, others]))
      expect(gone.body.jobs).toHaveLength(5)
      expect(gone.body.sessions).toBeGreaterThan(0)
      expect((await askJson(server, "/v1/jobs")).body.jobs).toEqual([])
      expect((await askJson(server, `/v1/jobs/${theirs.job_id}`, { token: "b" })).status).toBe(200)
      // Nobody is locked out.
      expect(await ended(server, "echo", 4)).toMatch(/^job_/)
    })
  )
})
