import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import type { Payload } from "./support/Frame.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

const names = (cap: string, payload: Payload) => {
  expect(payload).toMatchObject({ code: "INTERNAL_ERROR", retryable: true })
  expect(payload.details?.["limit"], `details.limit naming ${cap}`).toEqual(expect.any(String))
}

describe.concurrent("caps", () => {
  it("sessions per principal; another principal is not touched", async () => {
    verifies("cap-sessions")
    const { url } = await own.start("--memory", "--limit", "maxSessionsPerPrincipal=3")
    for (let index = 0; index < 3; index++) await WireClient.open(url)
    const client = await WireClient.connect(url)
    client.sendHello()
    names("sessions per principal", (await client.nextOf("session.error")).payload)
    await client.closing()
    await WireClient.open(url, { token: "tok-b" })
  })

  it("concurrent jobs per session; a finished job makes room", async () => {
    verifies("cap-jobs-session")
    const { url } = await own.start("--memory", "--limit", "maxJobsPerSession=2")
    const client = await WireClient.open(url)
    const first = await client.accept("sleep", { ms: 60_000 })
    await client.accept("sleep", { ms: 60_000 })
    names("jobs per session", await client.rejection(client.submit("echo", 1)))
    client.request("job.cancel", {}, { job_id: first.job_id })
    await client.terminal(first.job_id)
    await client.run("echo", 1)
  })

  it("concurrent jobs per principal, over all its sessions", async () => {
    verifies("cap-jobs-principal")
    const { url } = await own.start("--memory", "--limit", "maxJobsPerPrincipal=3")
    const one = await WireClient.open(url)
    const two = await WireClient.open(url)
    await one.accept("sleep", { ms: 60_000 })
    await one.accept("sleep", { ms: 60_000 })
    await two.accept("sleep", { ms: 60_000 })
    names("jobs per principal", await one.rejection(one.submit("echo", 1)))
    names("jobs per principal", await two.rejection(two.submit("echo", 1)))
    await (await WireClient.open(url, { token: "tok-b" })).run("echo", 1)
  })

  it("subscriptions per session", async () => {
    verifies("cap-subscriptions")
    const { url } = await own.start("--memory", "--limit", "maxSubscriptionsPerSession=2")
    const owner = await WireClient.open(url)
    const ids = await Promise.all([1, 2, 3].map(() => owner.accept("sleep", { ms: 60_000 })))
    const watcher = await WireClient.open(url)
    const subscribe = (index: number) => {
      const job_id = ids[index]?.job_id
      return watcher.request("job.subscribe", { job_id }, { job_id })
    }
    for (const index of [0, 1]) {
      expect((await watcher.answer(subscribe(index))).type).toBe("job.subscribed")
    }
    names("subscriptions", await watcher.refusal(subscribe(2)))
    watcher.request("job.unsubscribe", { job_id: ids[0]?.job_id }, { job_id: ids[0]?.job_id })
    expect((await watcher.answer(subscribe(2))).type).toBe("job.subscribed")
  })

  it("connections that do not say hello are let go, and only so many may wait", async () => {
    verifies("cap-hello-time", "cap-pending-hellos")
    const { url } = await own.start(
      "--memory",
      "--limit",
      "helloTimeoutMs=4000",
      "--limit",
      "maxPendingHellos=3"
    )
    const opened = await WireClient.open(url)
    const waiting = await Promise.all([1, 2, 3].map(() => WireClient.connect(url)))
    // Refused at the door or right behind it, but told.
    const tooMany = await WireClient.connect(url).catch((error: Error) => error)
    if (tooMany instanceof Error) expect(tooMany.message).toMatch(/503|429|Unexpected server response/)
    else expect((await tooMany.closing(2_500)).code).toBeGreaterThanOrEqual(1000)
    for (const client of waiting) {
      await client.closing()
      expect(client.frames.map(({ type }) => type).filter((type) => type !== "session.error")).toEqual([])
    }
    await opened.ping()
    await (await WireClient.open(url)).ping()
  })

  it("clients that come back all at once are let in one after the other, however few may wait", async () => {
    verifies("cap-pending-hellos")
    const { url } = await own.start(
      "--memory",
      "--limit",
      "maxPendingHellos=3",
      "--limit",
      "helloTimeoutMs=60000"
    )
    const clients = await Promise.all(Array.from({ length: 60 }, () => WireClient.open(url)))
    await Promise.all(clients.map((client) => client.ping()))
  })
})
