import { beforeAll, describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import type { Frame } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory"])

interface Entry {
  readonly job_id: string
  readonly agent: string
  readonly status: string
  readonly created_at: string
  readonly last_event_seq: number
  readonly trace_id: string
  readonly parent_job_id: string | null
  readonly lease: unknown
}

const entriesOf = (frame: Frame) => frame.payload["jobs"] as ReadonlyArray<Entry>

const list = async (client: WireClient, payload: Record<string, unknown> = {}) => {
  const frame = await client.answer(client.request("session.list_jobs", payload))
  expect(frame.type, JSON.stringify(frame.payload)).toBe("session.jobs")
  return frame
}

/** Finished in this order: 5 echo, 1 ver, 1 fail; one sleep runs on. */
let seeded: ReadonlyArray<{ readonly job_id: string; readonly terminalSeq: number }> = []
let sleeping = ""

beforeAll(async () => {
  const client = await WireClient.open(server.url)
  const done: Array<{ job_id: string; terminalSeq: number }> = []
  for (const [agent, input] of [
    ...Array.from({ length: 5 }, (_, n) => ["echo", n] as const),
    ["ver", {}] as const,
    ["fail", { mode: "fail", message: "no" }] as const
  ]) {
    const { accepted, terminal } = await client.run(agent, input)
    done.push({ job_id: accepted.job_id ?? "", terminalSeq: terminal.event_seq ?? 0 })
  }
  sleeping = (await client.accept("sleep", { ms: 600_000 })).job_id ?? ""
  await client.next(({ job_id, type }) => job_id === sleeping && type === "job.event")
  seeded = done
})

describe("session.list_jobs", () => {
  it("lists running and finished jobs of the principal, oldest first", async () => {
    verifies("list-order", "list-entry")
    const client = await WireClient.open(server.url)
    const frame = await list(client)
    const entries = entriesOf(frame)
    expect(entries.map(({ job_id }) => job_id)).toEqual([...seeded.map(({ job_id }) => job_id), sleeping])
    expect(frame.payload["next_cursor"] ?? null).toBeNull()
    expect(entries.map(({ status }) => status)).toEqual([...Array(6).fill("success"), "error", "running"])
    expect(entries[5]).toMatchObject({ agent: "ver@2.0.0", parent_job_id: null, lease: expect.anything() })
    for (const entry of entries) {
      expect(entry.agent).toMatch(/^[a-z]+@.+/)
      expect(entry.trace_id).toMatch(/^[0-9a-f]{32}$/)
      expect(entry.created_at).toMatch(/^\d{4}-\d{2}-\d{2}T[\d:.]+Z$/)
    }
    const seqs = entries.slice(0, 7).map(({ last_event_seq }) => last_event_seq)
    expect(seqs).toEqual(seeded.map(({ terminalSeq }) => terminalSeq))
  })

  it("pages with a cursor meet every job once, also when one is added in between", async () => {
    verifies("list-paging")
    const client = await WireClient.open(server.url, { token: "tok-b" })
    const mine: Array<string | undefined> = []
    for (let n = 0; n < 5; n++) mine.push((await client.run("echo", n)).accepted.job_id)
    const seen: Array<string> = []
    let cursor: unknown
    for (let page = 0; page < 6; page++) {
      const frame = await list(client, { limit: 2, ...(cursor === undefined ? {} : { cursor }) })
      expect(entriesOf(frame).length).toBeLessThanOrEqual(2)
      seen.push(...entriesOf(frame).map(({ job_id }) => job_id))
      if (page === 0) mine.push((await client.run("echo", "late")).accepted.job_id)
      cursor = frame.payload["next_cursor"] ?? undefined
      if (cursor === undefined) break
      expect(typeof cursor).toBe("string")
    }
    expect(cursor).toBeUndefined()
    expect(seen).toEqual(mine)
  })

  it("filters by status, agent and time", async () => {
    verifies("list-filter")
    const client = await WireClient.open(server.url)
    const ids = async (filter: Record<string, unknown>) =>
      entriesOf(await list(client, { filter })).map(({ job_id }) => job_id)
    const all = entriesOf(await list(client))
    expect(await ids({ status: ["running"] })).toEqual([sleeping])
    expect(await ids({ status: ["error", "running"] })).toEqual([seeded[6]?.job_id, sleeping])
    expect(await ids({ agent: "ver" })).toEqual([seeded[5]?.job_id])
    expect(await ids({ agent: "ver@2.0.0" })).toEqual([seeded[5]?.job_id])
    expect(await ids({ agent: "ver@1.0.0" })).toEqual([])
    expect(await ids({ created_after: "2099-01-01T00:00:00Z" })).toEqual([])
    expect(await ids({ created_before: "2001-01-01T00:00:00Z" })).toEqual([])
    // Whether the bound itself belongs to it is not said; what lies beyond it is.
    const middle = all[3]?.created_at ?? ""
    const before = await ids({ created_before: middle })
    const after = await ids({ created_after: middle })
    const at = (earlier: boolean) =>
      all.filter(({ created_at }) => (earlier ? created_at < middle : created_at > middle))
    expect(before).toEqual(expect.arrayContaining(at(true).map(({ job_id }) => job_id)))
    expect(after).toEqual(expect.arrayContaining(at(false).map(({ job_id }) => job_id)))
    expect(before).not.toEqual(expect.arrayContaining([at(false)[0]?.job_id]))
    expect(after).not.toEqual(expect.arrayContaining([at(true)[0]?.job_id]))
  })

  it("shows nothing of another principal", async () => {
    verifies("list-own-principal")
    const client = await WireClient.open(server.url, { token: "tok-b" })
    const listed = entriesOf(await list(client, { limit: 1_000 })).map(({ job_id }) => job_id)
    expect(listed).not.toEqual(expect.arrayContaining([sleeping]))
    expect(listed.some((id) => seeded.some(({ job_id }) => job_id === id))).toBe(false)
  })

  it.each([
    { cursor: "not-a-cursor" },
    { cursor: 5 },
    { cursor: "" },
    { limit: 0 },
    { limit: 1_001 },
    { limit: 1.5 },
    { limit: "10" },
    { filter: { status: ["sleeping"] } },
    { filter: { status: "running" } },
    { filter: { created_after: "yesterday" } },
    { filter: 1 }
  ])("%j is INVALID_REQUEST", async (payload) => {
    verifies("list-invalid", "refusal-shape")
    const client = await WireClient.open(server.url)
    const refused = await client.refusal(client.request("session.list_jobs", payload))
    expect(refused.code).toBe("INVALID_REQUEST")
    await client.ping()
  })

  it("1 and 1000 are limits", async () => {
    verifies("list-paging")
    const client = await WireClient.open(server.url)
    expect(entriesOf(await list(client, { limit: 1 }))).toHaveLength(1)
    expect(entriesOf(await list(client, { limit: 1_000 }))).toHaveLength(8)
  })
})
