import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { type Frame, features } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory"])

const chunksOf = (events: ReadonlyArray<Frame>) =>
  events.flatMap(({ payload }) => (payload.kind === "result_chunk" ? [payload.body ?? {}] : []))

const decoded = (chunks: ReadonlyArray<Record<string, unknown>>) =>
  Buffer.concat(
    chunks.map(({ data, encoding }) => Buffer.from(String(data), encoding === "base64" ? "base64" : "utf8"))
  )

const expected = (chunks: number, size: number) =>
  Buffer.concat(Array.from({ length: chunks }, (_, index) => Buffer.alloc(size, 97 + (index % 26))))

describe("a streamed result", () => {
  it.each([
    { chunks: 5, size: 100 },
    { chunks: 30, size: 64, encoding: "base64" },
    { chunks: 1, size: 1 },
    { chunks: 40, size: 100_000 }
  ])("%j arrives in order and whole", async (input) => {
    verifies("stream-chunks", "stream-result")
    const client = await WireClient.open(server.url)
    const { events, terminal } = await client.run("chunks", input)
    const chunks = chunksOf(events)
    expect(chunks.map(({ chunk_seq }) => chunk_seq)).toEqual(chunks.map((_, index) => index))
    expect(new Set(chunks.map(({ result_id }) => result_id)).size).toBe(1)
    expect(chunks.map(({ more }) => more)).toEqual(chunks.map((_, index) => index < chunks.length - 1))
    expect(new Set(chunks.map(({ encoding }) => encoding))).toEqual(new Set([input.encoding ?? "utf8"]))
    const bytes = decoded(chunks)
    expect(bytes.equals(expected(input.chunks, input.size))).toBe(true)
    expect(terminal.payload).toMatchObject({
      final_status: "success",
      result_id: chunks[0]?.["result_id"],
      result_size: bytes.length
    })
    expect(terminal.payload["result_id"]).toMatch(/^res_[0-9A-HJKMNP-TV-Z]{26}$/)
    expect(terminal.payload).not.toHaveProperty("result")
  })

  it("goes on over a reconnect", async () => {
    verifies("stream-chunks")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("chunks", { chunks: 300, size: 20_000 })
    await client.next(({ event_seq }) => event_seq === 10)
    client.drop()
    await client.closing()
    const again = await WireClient.resume(server.url, client.session, { from: 0 })
    await again.terminal(job_id)
    expect(decoded(chunksOf(again.eventsOf(job_id))).equals(expected(300, 20_000))).toBe(true)
  })

  it("a chunk beyond the cap ends the job, with an error the client can read", async () => {
    verifies("cap-chunk")
    const client = await WireClient.open(server.url)
    const { events, terminal } = await client.run("chunks", { chunks: 1, size: 3 * 1024 * 1024 })
    if (terminal.type === "job.error") {
      expect(terminal.payload.code).toBe("INTERNAL_ERROR")
      expect(terminal.payload.details?.["limit"]).toEqual(expect.any(String))
    } else {
      const chunks = chunksOf(events)
      expect(Math.max(...chunks.map(({ data }) => String(data).length))).toBeLessThanOrEqual(1024 * 1024)
      expect(decoded(chunks).equals(expected(1, 3 * 1024 * 1024))).toBe(true)
    }
  })

  it("without result_chunk it is inline, or refused at submit; never in chunks", async () => {
    verifies("stream-not-negotiated")
    const wanted = features.filter((feature) => feature !== "result_chunk")
    const client = await WireClient.open(server.url, { features: wanted })
    const answer = await client.answer(client.submit("chunks", { chunks: 3, size: 10 }))
    if (answer.type === "job.accepted") {
      const end = await client.terminal(answer.job_id)
      expect(JSON.stringify(end.payload.result)).toContain(expected(3, 10).toString())
    } else {
      expect(answer).toMatchObject({ type: "job.error", payload: { code: "INVALID_REQUEST" } })
    }
    expect(chunksOf(client.frames)).toEqual([])
  })
})
