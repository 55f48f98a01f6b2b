/**
 * `npm start`: a runtime on a SQLite file, the `survey` of this repository over a real WebSocket, the connection
 * dropped half way and resumed, and the numbers.
 */

import { spawn } from "node:child_process"
import { realpathSync } from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../layers/client/ArcpClient.js"
import * as DialerWebSocket from "../layers/transport/DialerWebSocket.js"
import type { JobEvent } from "../services/client/ArcpClient.js"
import { describe } from "./cli/exit.js"
import { show } from "./cli/view.js"

const token = "npm-start"

class ServerStopped extends Data.TaggedError("ServerStopped")<{ readonly message: string }> {}

/** `arcp serve` as a process of its own; gives its address, and stops it with the scope. */
const server = Effect.acquireRelease(
  Effect.sync(() =>
    spawn(
      process.execPath,
      [
        fileURLToPath(new URL("./arcp.js", import.meta.url)),
        "serve",
        ...["--port", "0", "--db", ".arcp/start.db", "--agents", "demo", "--token", `${token}=me`],
        ...["--log-level", "warning"]
      ],
      { stdio: ["ignore", "pipe", "inherit"] }
    )
  ),
  (child) =>
    Effect.async<void>((resume) => {
      if (child.exitCode !== null) return resume(Effect.void)
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGTERM")
    })
).pipe(
  Effect.flatMap((child) =>
    Effect.async<string, ServerStopped>((resume) => {
      createInterface({ input: child.stdout }).once("line", (line) =>
        resume(Effect.succeed(line.replace("listening ", "")))
      )
      child.once("exit", (code) =>
        resume(new ServerStopped({ message: `arcp serve left with ${code}; what it printed says why` }))
      )
    })
  )
)

const program = Effect.gen(function* () {
  const url = yield* server
  yield* Console.error(`runtime ${url}, SQLite in .arcp/start.db`)
  const client = yield* ArcpClient.make({ token: Redacted.make(token), name: "npm-start" }).pipe(
    Effect.provide(DialerWebSocket.layer({ url }))
  )
  // Just this: the leased file system looks where a path really is.
  const root = realpathSync(process.cwd())
  const job = yield* client.submit("survey", { root }, { leaseRequest: { "fs.read": [`${root}/**`] } })
  yield* Console.error(`${job.agent} ${job.jobId}\n`)

  let events = 0
  let dropped = false
  let resumedAt: number | undefined
  yield* client.status.changes.pipe(
    Stream.runForEach((status) =>
      Effect.sync(() => {
        if (status._tag === "Connected") resumedAt = status.resumedAt ?? resumedAt
      })
    ),
    Effect.forkScoped
  )
  /** Pulls the plug once the work is half done. */
  const each = (event: JobEvent) =>
    Effect.suspend(() => {
      events++
      const { current = 0, total = 0 } = event.body as { current?: number; total?: number }
      if (dropped || event.kind !== "progress" || total === 0 || current < total / 2) return Effect.void
      dropped = true
      return Effect.zipRight(Console.error("\npulling the plug"), client.dropTransport)
    })
  yield* show(client, job, { json: false, each })

  const { lastEventSeq } = yield* client.resumeState
  yield* Console.error(
    `\n${events + 1} events, last event_seq ${lastEventSeq}, ` +
      (resumedAt === undefined
        ? "never resumed"
        : `resumed after event ${resumedAt}: nothing lost, nothing twice`)
  )
  if (events + 1 !== lastEventSeq || resumedAt === undefined)
    return yield* new ServerStopped({ message: "the stream was not what it should be" })
}).pipe(Effect.scoped)

program.pipe(
  Effect.tapErrorCause((cause) => Console.error(describe(cause._tag === "Fail" ? cause.error : cause))),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
