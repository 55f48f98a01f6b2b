import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import type { Frame } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory"])
const unknownJob = "job_01HZZZZZZZZZZZZZZZZZZZZZZZ"

const subscribe = (client: WireClient, job_id: string | undefined, payload: Record<string, unknown> = {}) =>
  client.request("job.subscribe", { job_id, ...payload }, { job_id })

const subscribed = async (client: WireClient, job_id: string | undefined, payload = {}) => {
  const frame = await client.answer(subscribe(client, job_id, payload))
  expect(frame.type, JSON.stringify(frame.payload)).toBe("job.subscribed")
  return frame
}

/** All but `back_pressure`, which is said to each session that lags, and to no other. */
const contents = (frames: ReadonlyArray<Frame>) =>
  frames
    .map(({ type, payload }) => ({ type, payload }))
    .filter(({ payload }) => (payload["body"] as { phase?: unknown } | undefined)?.phase !== "back_pressure")

describe("history and live", () => {
  it("join without gap or duplicate, wherever the subscriber comes in", async () => {
    verifies("subscribe-join", "subscribe-first")
    const owner = await WireClient.open(server.url)
    const { job_id } = await owner.accept("emit", { count: 200, delayMs: 2 })
    const watchers: Array<WireClient> = []
    for (const at of [1, 40, 41, 90, 150]) {
      await owner.next(({ event_seq }) => event_seq === at)
      const watcher = await WireClient.open(server.url)
      await subscribed(watcher, job_id, { history: true })
      watchers.push(watcher)
    }
    await owner.terminal(job_id)
    const expected = contents(owner.eventsOf(job_id))
    expect(expected).toHaveLength(202)
    for (const watcher of watchers) {
      await watcher.terminal(job_id)
      expect(contents(watcher.eventsOf(job_id))).toEqual(expected)
      const first = watcher.frames.findIndex((frame) => frame.job_id === job_id)
      expect(watcher.frames[first]?.type).toBe("job.subscribed")
    }
  })

  it("while one job emits flat out, many subscribers all see the same", async () => {
    verifies("subscribe-join")
    const owner = await WireClient.open(server.url)
    const watchers = await Promise.all(Array.from({ length: 10 }, () => WireClient.open(server.url)))
    const { job_id } = await owner.accept("emit", { count: 3_000, batch: 8 })
    await Promise.all(watchers.map((watcher) => subscribed(watcher, job_id, { history: true })))
    await owner.terminal(job_id)
    const expected = contents(owner.eventsOf(job_id))
    for (const watcher of watchers) {
      await watcher.terminal(job_id)
      expect(contents(watcher.eventsOf(job_id))).toEqual(expected)
    }
  })

  it("without history only what is new arrives", async () => {
    verifies("subscribe-live")
    const owner = await WireClient.open(server.url)
    const { job_id } = await owner.accept("emit", { count: 100, delayMs: 3 })
    await owner.next(({ event_seq }) => event_seq === 30)
    const watcher = await WireClient.open(server.url)
    await subscribed(watcher, job_id)
    await watcher.terminal(job_id)
    await owner.terminal(job_id)
    const all = contents(owner.eventsOf(job_id))
    const live = contents(watcher.eventsOf(job_id))
    expect(live.length).toBeLessThanOrEqual(72)
    expect(live).toEqual(all.slice(all.length - live.length))
  })

  it("from_event_seq leaves the older out, in the submitter's numbering", async () => {
    verifies("subscribe-from")
    const owner = await WireClient.open(server.url)
    await owner.run("echo", 1)
    const { accepted, events } = await owner.run("emit", { count: 10 })
    const from = events[4]?.event_seq ?? 0
    const watcher = await WireClient.open(server.url)
    await subscribed(watcher, accepted.job_id, { history: true, from_event_seq: from })
    await watcher.terminal(accepted.job_id)
    expect(contents(watcher.eventsOf(accepted.job_id))).toEqual(contents(events.slice(5)))
  })

  it("a finished job gives its history and its terminal message", async () => {
    verifies("subscribe-finished")
    const owner = await WireClient.open(server.url)
    const { accepted, events } = await owner.run("emit", { count: 10 })
    const watcher = await WireClient.open(server.url)
    const answer = await subscribed(watcher, accepted.job_id, { history: true })
    expect(answer.payload["current_status"]).toBe("success")
    await watcher.terminal(accepted.job_id)
    expect(contents(watcher.eventsOf(accepted.job_id))).toEqual(contents(events))
  })

  it("interleaves with the subscriber's own jobs in one numbering", async () => {
    verifies("subscribe-own-seq")
    const owner = await WireClient.open(server.url)
    const watcher = await WireClient.open(server.url)
    const mine = await watcher.accept("emit", { count: 100, delayMs: 2 })
    const { job_id } = await owner.accept("emit", { count: 100, delayMs: 2 })
    await subscribed(watcher, job_id, { history: true })
    await Promise.all([watcher.terminal(job_id), watcher.terminal(mine.job_id), owner.terminal(job_id)])
    expect(watcher.session.lastSeq).toBe(204)
    expect(contents(watcher.eventsOf(job_id))).toEqual(contents(owner.eventsOf(job_id)))
  })
})

describe("the answer", () => {
  it("describes the job", async () => {
    verifies("subscribe-answer")
    const owner = await WireClient.open(server.url)
    const accepted = await owner.accept("sleep", { ms: 60_000 }, { lease_request: { "tool.call": ["a"] } })
    await owner.next(({ type }) => type === "job.event")
    const watcher = await WireClient.open(server.url)
    await watcher.run("echo", 1)
    const { payload } = await subscribed(watcher, accepted.job_id)
    expect(payload).toMatchObject({
      job_id: accepted.job_id,
      current_status: "running",
      agent: accepted.payload["agent"],
      lease: { "tool.call": ["a"] },
      parent_job_id: null,
      trace_id: accepted.payload.trace_id,
      "x-vendor.effect-arcp.created_at": accepted.payload.accepted_at,
      subscribed_from: 2
    })
    expect(payload).toHaveProperty("replayed")
  })

  it.each([{ from_event_seq: -1 }, { from_event_seq: "1" }, { history: "yes" }])(
    "%j is INVALID_REQUEST",
    async (payload) => {
      verifies("subscribe-invalid", "refusal-shape")
      const owner = await WireClient.open(server.url)
      const { accepted } = await owner.run("echo", 1)
      const refused = await owner.refusal(subscribe(owner, accepted.job_id, payload))
      expect(refused.code).toBe("INVALID_REQUEST")
    }
  )

  it("another principal's job and no job at all look the same: JOB_NOT_FOUND", async () => {
    verifies("subscribe-not-found", "security-indistinguishable")
    const owner = await WireClient.open(server.url)
    const { accepted } = await owner.run("echo", "private")
    const bob = await WireClient.open(server.url, { token: "tok-b" })
    const foreign = await bob.refusal(subscribe(bob, accepted.job_id, { history: true }))
    const unknown = await bob.refusal(subscribe(bob, unknownJob, { history: true }))
    const bare = (payload: typeof foreign, id: string | undefined) =>
      JSON.stringify({ ...payload, details: Object.keys(payload.details ?? {}) }).replaceAll(id ?? "", "ID")
    expect(foreign).toMatchObject({ code: "JOB_NOT_FOUND", details: { job_id: accepted.job_id } })
    expect(bare(foreign, accepted.job_id)).toBe(bare(unknown, unknownJob))
    await bob.ping()
    expect(bob.frames.filter(({ type }) => type.startsWith("job."))).toEqual([])
  })
})

describe("job.unsubscribe", () => {
  it("is silent and idempotent, and ends the stream; subscribing again starts one", async () => {
    verifies("unsubscribe")
    const owner = await WireClient.open(server.url)
    const { job_id } = await owner.accept("emit", { count: 400, delayMs: 3 })
    const watcher = await WireClient.open(server.url)
    await subscribed(watcher, job_id, { history: true })
    await watcher.next(({ event_seq }) => event_seq === 5)
    for (let index = 0; index < 2; index++) watcher.request("job.unsubscribe", { job_id }, { job_id })
    watcher.request("job.unsubscribe", { job_id: unknownJob }, { job_id: unknownJob })
    await watcher.ping()
    await watcher.silence((frame) => frame.type !== "session.ping", 200)
    expect(watcher.frames.filter(({ type }) => type === "session.error")).toEqual([])
    await subscribed(watcher, job_id, { history: true })
    await watcher.terminal(job_id)
    await owner.terminal(job_id)
    const all = contents(owner.eventsOf(job_id))
    expect(contents(watcher.eventsOf(job_id)).slice(-all.length)).toEqual(all)
  })
})

describe("features that a client asks for", () => {
  const feature = (name: string) => `x-vendor.effect-arcp.${name}`
  const asking = (name: string, token?: string) =>
    WireClient.open(server.url, {
      features: ["subscribe", "ack", "x-vendor.effect-arcp.requests", feature(name)],
      ...(token === undefined ? {} : { token })
    })

  it("submitted_input: the input comes with the answer, to whose token covers the job", async () => {
    verifies("subscribe-input")
    const owner = await WireClient.open(server.url)
    const { job_id } = await owner.accept("steps", { count: 1 })
    await owner.terminal(job_id)
    const told = await subscribed(await asking("submitted_input"), job_id)
    expect(told.payload[feature("submitted_input")]).toEqual({ count: 1 })
    const untold = await subscribed(await WireClient.open(server.url), job_id)
    expect(untold.payload).not.toHaveProperty(feature("submitted_input"))
  })

  it("transient: nobody comes back to the session, and others of its principal may cancel its jobs", async () => {
    verifies("session-transient")
    const owner = await asking("transient")
    const { job_id } = await owner.accept("sleep", { ms: 60_000 })
    owner.drop()
    const other = await WireClient.open(server.url)
    const cancel = async () => (await other.answer(other.request("job.cancel", {}, { job_id }))).type
    // The runtime may hear of the end of the one after this.
    while ((await cancel()) !== "job.cancelled") await other.ping()
    const late = await WireClient.resuming(server.url, owner.session)
    const refused = await late.next(({ type }) => type === "session.error")
    expect(refused.payload["code"]).toBe("RESUME_WINDOW_EXPIRED")
  })

  it("unobserved: accepts, refusals and what is subscribed to, and nothing else", async () => {
    verifies("session-unobserved")
    const client = await asking("unobserved")
    const quiet = await client.accept("emit", { count: 20 })
    const refused = await client.rejection(client.submit("nobody", null))
    expect(refused["code"]).toBe("AGENT_NOT_AVAILABLE")
    const { job_id } = await client.accept("emit", { count: 20, delayMs: 5 })
    await subscribed(client, job_id, { history: true })
    await client.terminal(job_id)
    expect(client.eventsOf(job_id)).toHaveLength(22)
    expect(client.eventsOf(quiet.job_id)).toEqual([])
  })
})
