import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { features } from "./support/Frame.js"
import { ownServers, sharedServer } from "./support/Server.js"
import { SessionRecord } from "./support/SessionRecord.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory"])

const dropped = async (client: WireClient) => {
  client.drop()
  await client.closing()
  return client.session
}

const refusedResume = async (client: WireClient) => {
  const { payload } = await client.nextOf("session.error")
  await client.closing()
  return payload
}

describe("replay", () => {
  it("continues a running job without gap, duplicate or new ids", async () => {
    verifies("resume-replay", "jobs-ignore-detach", "event-id-stable")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("emit", { count: 300, delayMs: 1 })
    await client.next(({ event_seq }) => event_seq === 50)
    const session = await dropped(client)
    const again = await WireClient.resume(server.url, session, { from: 10 })
    const end = await again.terminal(job_id)
    // 10 seen before, then status, 300 logs and the result.
    expect(end.event_seq).toBe(302)
    expect(again.eventsOf(job_id).map((frame) => frame.event_seq)).toEqual(
      Array.from({ length: 292 }, (_, index) => index + 11)
    )
  })

  it("from the newest event replays nothing", async () => {
    verifies("resume-equal")
    const client = await WireClient.open(server.url)
    await client.run("echo", 1)
    const again = await WireClient.resume(server.url, await dropped(client))
    await again.ping()
    expect(again.frames.map(({ type }) => type)).toEqual(["session.welcome", "session.pong"])
    const next = await again.run("echo", 2)
    expect(next.events[0]?.event_seq).toBe(client.session.lastSeq - 1)
  })

  it("from 0 replays all of 20 000 events, and what is emitted meanwhile", async () => {
    verifies("resume-long")
    // Without ack nothing but the jobs' own events is numbered.
    const wanted = features.filter((feature) => feature !== "ack")
    const client = await WireClient.open(server.url, { features: wanted })
    const first = await client.accept("emit", { count: 20_000, batch: 64 })
    await client.terminal(first.job_id)
    const second = await client.accept("emit", { count: 300, delayMs: 2 })
    const again = await WireClient.resume(server.url, await dropped(client), { from: 0, features: wanted })
    await again.terminal(second.job_id)
    expect(again.session.lastSeq).toBe(20_304)
    expect(again.frames.filter((frame) => frame.event_seq !== undefined)).toHaveLength(20_304)
  })

  it("two sessions detached at once keep to themselves", async () => {
    verifies("resume-replay")
    const clients = [await WireClient.open(server.url), await WireClient.open(server.url, { token: "tok-b" })]
    const tokens = ["tok-a", "tok-b"]
    const jobs = await Promise.all(clients.map((client) => client.accept("emit", { count: 50, delayMs: 2 })))
    await Promise.all(clients.map(dropped))
    await Promise.all(
      clients.map(async (client, index) => {
        const again = await WireClient.resume(server.url, client.session, { token: tokens[index] ?? "" })
        await again.terminal(jobs[index]?.job_id)
        expect(again.session.lastSeq).toBe(52)
      })
    )
  })
})

describe("refusals", () => {
  it("a wrong principal, an unknown session and a wrong token get the same answer", async () => {
    verifies("resume-refused-alike")
    const client = await WireClient.open(server.url)
    const session = await dropped(client)
    const stranger = new SessionRecord()
    stranger.id = "sess_01HZZZZZZZZZZZZZZZZZZZZZZZ"
    stranger.resumeToken = `rt_${"0".repeat(64)}`
    const bob = await refusedResume(await WireClient.resuming(server.url, session, { token: "tok-b" }))
    const unknown = await refusedResume(await WireClient.resuming(server.url, stranger))
    const wrong = await refusedResume(
      await WireClient.resuming(server.url, session, { resumeToken: stranger.resumeToken })
    )
    expect(bob).toMatchObject({ code: "RESUME_WINDOW_EXPIRED", retryable: false })
    const bare = ({ code, message, retryable }: typeof bob) => ({ code, message, retryable })
    expect(bare(unknown)).toEqual(bare(bob))
    expect(bare(wrong)).toEqual(bare(bob))
    // None of it touched the session.
    await (await WireClient.resume(server.url, session)).ping()
  })

  it("the bearer token is verified first", async () => {
    verifies("resume-bearer-first")
    const client = await WireClient.open(server.url)
    const session = await dropped(client)
    const payload = await refusedResume(await WireClient.resuming(server.url, session, { token: "nobody" }))
    expect(payload.code).toBe("UNAUTHENTICATED")
  })

  it.each([1_000, -1, 0.5, "1", 2 ** 53])("last_event_seq %j is INVALID_REQUEST", async (from) => {
    verifies("resume-beyond")
    const client = await WireClient.open(server.url)
    await client.run("echo", 1)
    const session = await dropped(client)
    const asking = await WireClient.resuming(server.url, session, {
      payload: { resume: { session_id: session.id, resume_token: session.resumeToken, last_event_seq: from } }
    })
    const { payload } = await asking.nextOf("session.error")
    expect(payload.code).toBe("INVALID_REQUEST")
    await (await WireClient.resume(server.url, session)).run("echo", 2)
  })
})

describe("the resume token", () => {
  it("rotates; the old one works until a frame was sent on the resumed transport", async () => {
    verifies("resume-rotation")
    const client = await WireClient.open(server.url)
    const session = await dropped(client)
    const first = session.resumeToken
    const quiet = await WireClient.resume(server.url, session, { resumeToken: first })
    expect(session.resumeToken).not.toBe(first)
    await dropped(quiet)
    const again = await WireClient.resume(server.url, session, { resumeToken: first })
    await again.ping()
    const newest = session.resumeToken
    await dropped(again)
    const late = await WireClient.resuming(server.url, session, { resumeToken: first })
    expect((await refusedResume(late)).code).toBe("RESUME_WINDOW_EXPIRED")
    await (await WireClient.resume(server.url, session, { resumeToken: newest })).ping()
  })

  it("a welcome lost in flight does not strand the session, however often", async () => {
    verifies("resume-rotation")
    const client = await WireClient.open(server.url)
    const session = await dropped(client)
    const token = session.resumeToken
    for (let index = 0; index < 10; index++) {
      const lost = await WireClient.resuming(server.url, session, { resumeToken: token })
      lost.drop()
    }
    await (await WireClient.resume(server.url, session, { resumeToken: token })).run("echo", 1)
  })
})

describe("what continues", () => {
  it("a resume supersedes the attached transport: 4001", async () => {
    verifies("resume-supersedes")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("emit", { count: 200, delayMs: 2 })
    await client.next(({ event_seq }) => event_seq === 5)
    const again = await WireClient.resume(server.url, client.session, { from: 5 })
    expect((await client.closing()).code).toBe(4001)
    await again.terminal(job_id)
    expect(again.session.lastSeq).toBe(202)
  })

  it("cancel authority", async () => {
    verifies("resume-keeps-all")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("sleep", { ms: 60_000 })
    const again = await WireClient.resume(server.url, await dropped(client))
    again.request("job.cancel", {}, { job_id })
    await again.nextOf("job.cancelled")
    expect((await again.terminal(job_id)).payload.code).toBe("CANCELLED")
  })

  it("subscriptions", async () => {
    verifies("resume-keeps-all")
    const owner = await WireClient.open(server.url)
    const { job_id } = await owner.accept("emit", { count: 100, delayMs: 3 })
    const watcher = await WireClient.open(server.url)
    await watcher.answer(watcher.request("job.subscribe", { job_id, history: true }, { job_id }))
    await watcher.next(({ event_seq }) => event_seq === 3)
    const again = await WireClient.resume(server.url, await dropped(watcher))
    await again.terminal(job_id)
    expect(again.session.lastSeq).toBe(102)
  })

  it("the feature set is renegotiated", async () => {
    verifies("resume-renegotiates")
    const client = await WireClient.open(server.url)
    const again = await WireClient.resume(server.url, await dropped(client), { features: ["ack"] })
    expect((await again.refusal(again.request("session.list_jobs"))).code).toBe("INVALID_REQUEST")
    const third = await WireClient.resume(server.url, await dropped(again))
    expect((await third.answer(third.request("session.list_jobs"))).type).toBe("session.jobs")
  })

  it("a submit sent again after a lost answer gets the same answer and starts nothing", async () => {
    verifies("submit-same-id")
    const client = await WireClient.open(server.url)
    const id = client.submit("emit", { count: 3, startDelayMs: 100 })
    const accepted = await client.answer(id)
    const again = await WireClient.resume(server.url, await dropped(client))
    const repeated = await again.answer(again.submit("emit", { count: 3, startDelayMs: 100 }, {}, { id }))
    expect(repeated.payload).toEqual(accepted.payload)
    await again.terminal(accepted.job_id)
    await again.ping()
    expect(again.session.lastSeq).toBe(5)
  })

  it("a rejection is replayed", async () => {
    verifies("submit-rejection-replayed")
    const client = await WireClient.open(server.url)
    const id = client.submit("no-such-agent", {})
    const rejected = await client.rejection(id)
    const again = await WireClient.resume(server.url, await dropped(client), { from: 0 })
    expect(await again.rejection(id)).toEqual(rejected)
  })
})

describe("the window", () => {
  const own = ownServers()

  it("outlives silence but not the window", async () => {
    verifies("resume-window")
    const { url } = await own.start("--memory", "--resume-window-sec", "1")
    const kept = await WireClient.open(url)
    const lost = await WireClient.open(url)
    await dropped(lost)
    // A session with a transport attached does not run out, however quiet it is.
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    await kept.ping()
    const late = await WireClient.resuming(url, lost.session)
    expect((await refusedResume(late)).code).toBe("RESUME_WINDOW_EXPIRED")
  })

  it("a backlog older than what is retained is RESUME_WINDOW_EXPIRED; the retained rest still resumes", async () => {
    verifies("resume-evicted")
    const { url } = await own.start("--memory", "--limit", "maxRetainedEvents=320")
    const client = await WireClient.open(url)
    await client.run("emit", { count: 3_000, batch: 16 })
    const session = await dropped(client)
    const late = await WireClient.resuming(url, session, { from: 0 })
    expect((await refusedResume(late)).code).toBe("RESUME_WINDOW_EXPIRED")
    const again = await WireClient.resume(url, session)
    await again.run("echo", 1)
  })
})
