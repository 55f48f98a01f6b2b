/** What a hostile runtime and its agents say must not steer the terminal of whoever reads it. */
import type { AddressInfo } from "node:net"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { WebSocketServer } from "ws"
import * as Scripted from "../../../src/testing/ScriptedRuntime.js"
import { run } from "./inProcess.js"

/**
 * C0, OSC, a link (OSC 8), DEL, C1 (CSI, OSC, DCS as one character), bidirectional controls, separators, what is not seen, and
 * what is harmless.
 */
const evil =
  "a\u001b[2J\u001b]0;t\u0007\u001b]8;;http://x\u001b\\\u0000\u0008\r\u007f\u009b31m\u009d\u0090\u202e\u2066\u2069\u200f\u061c" +
  "\u2028\u2029\u200b\u2060\ufeff\u180e\u{e0041}\u00ad\u034f\u115f\u3164\uffa0\u2800\u{1d173}\u{e0101} é\u{1f600}"
const steering =
  /\u034f|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\p{Cs}\u{e0000}-\u{e0fff}\u00ad\u115f\u1160\u3164\uffa0\u2800\u{1d173}-\u{1d17a}]/u

const answer = (text: string): ReadonlyArray<string> => {
  const { id, type, payload } = JSON.parse(text) as Scripted.Received
  switch (type) {
    case "session.hello":
      return [
        Scripted.welcome(["agent_versions", "list_jobs", "subscribe", "progress"], {
          capabilities: {
            encodings: ["json"],
            features: ["agent_versions", "list_jobs", "subscribe", "progress"],
            agents: [{ name: evil, versions: [`1${evil}`], default: `1${evil}` }]
          }
        })
      ]
    case "session.list_jobs":
      return [
        Scripted.message("session.jobs", {
          request_id: id,
          jobs: [
            {
              job_id: `job_${evil}`,
              agent: evil,
              status: "running",
              lease: {},
              parent_job_id: null,
              created_at: evil,
              trace_id: "0".repeat(32),
              last_event_seq: 0
            }
          ],
          next_cursor: null
        })
      ]
    case "job.submit":
      return [
        Scripted.accepted(id, { agent: evil }),
        Scripted.event(1, { level: "warn", message: evil }),
        Scripted.event(2, { phase: evil, message: evil }, "status"),
        Scripted.event(3, { current: 1, total: 2, message: evil }, "progress"),
        Scripted.event(4, { [evil]: evil }, `x-vendor.${evil}`),
        payload["input"] === "fail"
          ? Scripted.message(
              "job.error",
              {
                code: "PERMISSION_DENIED",
                message: evil,
                retryable: false,
                final_status: "error",
                completed_at: "2026-01-01T00:00:00Z"
              },
              { job_id: "job_1", event_seq: 5 }
            )
          : Scripted.result(5, { result: payload["input"] === "object" ? { [evil]: evil } : evil })
      ]
    case "job.subscribe":
      return [
        Scripted.subscribed(id, 0).replace('"x@1"', () => JSON.stringify(evil)),
        Scripted.result(1, { result: evil })
      ]
    case "session.bye":
      return []
    default:
      return []
  }
}

let server: WebSocketServer
let flags: ReadonlyArray<string> = []
beforeAll(async () => {
  server = new WebSocketServer({ port: 0, host: "127.0.0.1" })
  server.on("connection", (socket) =>
    socket.on("message", (data) => {
      for (const frame of answer(String(data))) socket.send(frame)
    })
  )
  await new Promise((resolve) => server.once("listening", resolve))
  flags = ["--token", "t", "--url", `ws://127.0.0.1:${(server.address() as AddressInfo).port}/arcp`]
})
afterAll(() => new Promise((resolve) => server.close(resolve)))

/** As on a terminal. */
const onTerminal = async <A>(use: () => Promise<A>): Promise<A> => {
  const before = process.stdout.isTTY
  process.stdout.isTTY = true
  try {
    return await use()
  } finally {
    process.stdout.isTTY = before
  }
}

const commands: ReadonlyArray<readonly [name: string, args: ReadonlyArray<string>]> = [
  ["agents", ["agents"]],
  ["jobs", ["jobs"]],
  ["watch", ["watch", "job_1"]],
  ["submit", ["submit", "x", "--input", '"text"']],
  ["submit, an object", ["submit", "x", "--input", '"object"']],
  ["submit, a failure", ["submit", "x", "--input", '"fail"']]
]

describe("nothing that a runtime says steers a terminal", () => {
  it.each(commands)("%s", async (_, args) => {
    const { stdout, stderr } = await onTerminal(() => run([...args, ...flags]))
    expect(stdout + stderr).not.toMatch(steering)
    expect(stdout + stderr).toContain("é\u{1f600}")
  })

  it.each(commands)("%s --json says it in escapes, and says the same", async (_, args) => {
    const { stdout, stderr } = await run([...args, "--json", ...flags])
    expect(stdout + stderr).not.toMatch(steering)
    const found: Array<unknown> = []
    for (const line of stdout.trim().split("\n"))
      JSON.parse(line, (name, value) => {
        found.push(name, value)
        return value
      })
    expect(found.some((value) => value === evil || value === `1${evil}`)).toBe(true)
  })

  it("a result that is not for a terminal is as it was sent", async () => {
    const { stdout } = await run(["submit", "x", "--input", '"text"', ...flags])
    expect(stdout).toBe(`${evil}\n`)
  })
})
