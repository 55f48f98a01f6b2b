import { createHmac } from "node:crypto"
import { describe, expect, inject, it } from "vitest"
import { verifies } from "./requirements.js"
import { features } from "./support/Frame.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })
const secret = "a secret of thirty-two characters"

const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url")
/** The runtime takes a token for half a minute after its `exp`: the clock tolerance. */
const tolerance = 30
/** A token that holds for so many seconds from now. */
const token = (seconds: number, sub = "alice") => {
  const exp = Math.floor(Date.now() / 1_000) + seconds - tolerance
  const signed = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded({ sub, exp })}`
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`
}
/** Long enough to say hello and submit on a busy machine, short enough to wait for. */
const short = 8
const renewal = [...features, "x-vendor.effect-arcp.renewal"]

const start = (...args: ReadonlyArray<string>) => own.start("--memory", "--jwt-secret", secret, ...args)

/** Closed by the runtime: by its code, or over stdio by the end of the process. */
const closedByEnd = async (client: WireClient) => {
  const { code } = await client.closing()
  expect(code).toBe(inject("transport") === "stdio" ? 0 : 4003)
}

describe.concurrent("a token that ends", () => {
  it("with renewal: UNAUTHENTICATED, and the transport closes", async () => {
    verifies("token-ends")
    const { url } = await start()
    const client = await WireClient.open(url, { token: token(short), features: renewal })
    await client.accept("sleep", { ms: 60_000 })
    expect((await client.nextOf("session.error")).payload).toMatchObject({
      code: "UNAUTHENTICATED",
      retryable: false
    })
    await closedByEnd(client)
  })

  it("and the session is there for a fresh token of the same principal; jobs run on", async () => {
    verifies("token-ends-resumable")
    const { url } = await start()
    const client = await WireClient.open(url, { token: token(short), features: renewal })
    const { job_id } = await client.accept("sleep", { ms: (short + 4) * 1_000 })
    const { session } = client
    await closedByEnd(client)
    const refused = async (presented: string, code: string) => {
      const late = await WireClient.resuming(url, session, { token: presented, features: renewal })
      expect((await late.nextOf("session.error")).payload.code).toBe(code)
      await late.closing()
    }
    await refused(token(-1), "UNAUTHENTICATED")
    await refused("garbage", "UNAUTHENTICATED")
    await refused(token(600, "bob"), "RESUME_WINDOW_EXPIRED")
    const again = await WireClient.resume(url, session, { token: token(600), features: renewal })
    expect((await again.terminal(job_id)).type).toBe("job.result")
    await again.run("echo", 1)
  })

  it("without renewal: requests are refused, its jobs go on, and it closes with the last of them", async () => {
    verifies("token-ends-finish")
    const { url } = await start()
    const client = await WireClient.open(url, { token: token(short) })
    const { job_id } = await client.accept("sleep", { ms: (short + 6) * 1_000 })
    const asked = async () => (await client.answer(client.request("session.list_jobs"))).payload.code
    while ((await asked()) === undefined) await new Promise((resolve) => setTimeout(resolve, 250))
    expect(await asked()).toBe("UNAUTHENTICATED")
    const cancel = client.request("job.cancel", {}, { job_id })
    expect((await client.answer(cancel)).payload.code).toBe("UNAUTHENTICATED")
    expect((await client.rejection(client.submit("echo", 1))).code).toBe("UNAUTHENTICATED")
    await client.ping()
    expect((await client.terminal(job_id)).type).toBe("job.result")
    await closedByEnd(client)
  })

  it("with tokenExpiry close: the transport closes, whatever runs", async () => {
    verifies("token-ends-close")
    const { url } = await start("--limit", "tokenExpiry=close")
    const client = await WireClient.open(url, { token: token(short) })
    await client.accept("sleep", { ms: 60_000 })
    expect((await client.nextOf("session.error")).payload.code).toBe("UNAUTHENTICATED")
    await closedByEnd(client)
  })

  it("that is renewed before goes on beyond its end, and the one before it ends nothing", async () => {
    verifies("token-renewed-early")
    const { url } = await start()
    const client = await WireClient.open(url, { token: token(short), features: renewal })
    const { job_id } = await client.accept("sleep", { ms: (short + 3) * 1_000 })
    const { session } = client
    const again = await WireClient.resume(url, session, { token: token(600), features: renewal })
    expect((await client.closing()).code).toBe(4001)
    expect((await again.terminal(job_id)).type).toBe("job.result")
    await again.run("echo", 1)
    expect(again.frames.filter(({ type }) => type === "session.error")).toEqual([])
  })
})

describe("failed logins", () => {
  it("are slowed down for their address only, also behind a proxy", async () => {
    verifies("auth-slowed")
    const { url } = await start("--trust-proxy", "127.0.0.1", "--limit", "failedLoginInterval=3 seconds")
    const from = async (address: string, presented: string) => {
      const client = await WireClient.connect(url, { ws: { headers: { "x-forwarded-for": address } } })
      client.sendHello({ token: presented })
      return client.next(({ type }) => type === "session.error" || type === "session.welcome")
    }
    const answered: Array<string> = []
    for (let i = 0; i < 5; i++) await from("192.0.2.1", "nobody")
    const slowed = from("192.0.2.1", "nobody").then(({ payload }) => answered.push(String(payload.code)))
    const other = await from("192.0.2.2", "nobody")
    const good = await from("192.0.2.1", token(600))
    expect([other.payload.code, good.type, ...answered]).toEqual(["UNAUTHENTICATED", "session.welcome"])
    await slowed
    expect(answered).toEqual(["UNAUTHENTICATED"])
  })
})
