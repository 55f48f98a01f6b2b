/** `arcp serve` over plain HTTP, by the real curl: through the death of the server, and at the pace of who reads. */
import { spawn } from "node:child_process"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { expect, it } from "vitest"
import { listening, residentMiB, serveArgs } from "../e2e/support/Program.js"
import { ownServers } from "../e2e/support/Server.js"
import { sentOf } from "../layers/http/served.js"

const own = ownServers()

const start = async (...args: ReadonlyArray<string>) => {
  const program = own.program(serveArgs(args))
  const base = (await listening(program)).replace(/^ws/, "http").replace(/\/arcp$/, "")
  return { program, base }
}

/** Runs curl; gives what it printed, and stops it once that is `enough`. */
const curl = (args: ReadonlyArray<string>, enough: (text: string) => boolean = () => false) =>
  new Promise<string>((resolve) => {
    const child = spawn("curl", ["-sN", "-m", "60", "-H", "authorization: Bearer tok-a", ...args])
    let text = ""
    child.stdout.setEncoding("utf8").on("data", (more: string) => {
      text += more
      if (enough(text)) child.kill()
    })
    child.on("close", () => resolve(text))
  })

const submit = async (base: string, agent: string, input: unknown): Promise<string> => {
  const text = await curl([
    `${base}/v1/jobs`,
    "-H",
    "content-type: application/json",
    "-d",
    JSON.stringify({ agent, input })
  ])
  return JSON.parse(text).job_id
}

/** What has come whole: curl may be cut off in the middle of a message. */
const whole = (text: string) => sentOf(text.slice(0, text.lastIndexOf("\n\n") + 2))

it("curl follows a durable job through kill -9 of the server, without gap or duplicate", async () => {
  const db = join(own.directory(), "arcp.db")
  const first = await start("--db", db, "--port", "0")
  const id = await submit(first.base, "steps", { count: 12, ms: 60 })
  const seen = [
    ...whole(
      await curl([`${first.base}/v1/jobs/${id}/events`], (text) => {
        if (!text.includes("step 4")) return false
        first.program.signal("SIGKILL")
        return false
      })
    )
  ]
  await first.program.leaves()
  expect(seen.at(-1)?.event).toBe("job.event")
  // On the same port: a curl that is told to tries until it is there, and goes on where it was.
  const port = new URL(first.base).port
  const waiting = curl([
    ...["--retry", "60", "--retry-delay", "1", "--retry-connrefused"],
    `${first.base}/v1/jobs/${id}/events`,
    ...["-H", `last-event-id: ${seen.at(-1)?.id}`]
  ])
  const second = await start("--db", db, "--port", port)
  const path = `${second.base}/v1/jobs/${id}/events`
  const before = seen.length
  // A drop of the client's own, and then to the end.
  const dropped = whole(
    await curl([path, "-H", `last-event-id: ${seen.at(-1)?.id}`], (text) => text.includes("data:"))
  )
  seen.push(...dropped)
  seen.push(...whole(await curl([path, "-H", `last-event-id: ${seen.at(-1)?.id}`])))
  expect(seen.map(({ id }) => id)).toEqual(seen.map((_, i) => i + 1))
  expect(seen.at(-1)?.event).toBe("job.result")
  const waited = whole(await waiting)
  expect(waited).toEqual(seen.slice(seen.length - waited.length))
  expect(waited[0]?.id).toBe(before + 1)
  expect(seen.at(-1)?.data.payload.result).toEqual({ count: 12 })
  expect(await curl([`${second.base}/v1/jobs/${id}/result`])).toBe('{"count":12}\n')
})

it("a reader that is slow gets 100 000 events, and the server does not grow with them", async () => {
  const { base, program } = await start(
    "--db",
    join(own.directory(), "arcp.db"),
    "--synchronous",
    "NORMAL",
    "--port",
    "0"
  )
  const id = await submit(base, "emit", { count: 100_000, batch: 64 })
  const answer = await fetch(`${base}/v1/jobs/${id}/events`, {
    headers: { authorization: "Bearer tok-a", accept: "application/x-ndjson" }
  })
  let expected = 1
  let rest = ""
  let most = 0
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader()
  for (;;) {
    const piece = (await reader?.read())?.value
    if (piece === undefined) break
    await setTimeout(5)
    const lines = (rest + piece).split("\n")
    rest = lines.pop() ?? ""
    for (const line of lines) {
      // Parsed once in a while: what is looked at is the order.
      const seq = Number(/^\{"seq":(\d+),/.exec(line)?.[1])
      if (seq !== expected++) expect(seq).toBe(expected - 1)
    }
    most = Math.max(most, await residentMiB(program.child.pid ?? -1))
  }
  expect(expected).toBe(100_003)
  expect(most).toBeLessThan(450)
})

it("is off with --no-http", async () => {
  const { base } = await start("--memory", "--no-http", "--port", "0")
  expect((await fetch(`${base}/v1/jobs`)).status).toBe(404)
})
