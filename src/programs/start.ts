/**
 * `npm start`: a runtime on a SQLite file, in a process of its own, and the `survey` of this repository over a real
 * WebSocket. When some of the work is done that process is killed and started again: the job goes on where it was, the
 * client resumes its session, and the numbers say that nothing was lost.
 */

import { type ChildProcess, spawn } from "node:child_process"
import { realpathSync } from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../layers/client/ArcpClient.js"
import * as DialerWebSocket from "../layers/transport/DialerWebSocket.js"
import * as Vendor from "../protocol/Vendor.js"
import type { JobEvent } from "../services/client/ArcpClient.js"
import { describe } from "./cli/exit.js"
import * as Screen from "./cli/screen.js"
import { show } from "./cli/view.js"

const token = "npm-start"

class NotAsPromised extends Data.TaggedError("NotAsPromised")<{ readonly message: string }> {}

/** A runtime that runs. */
interface Server {
  readonly url: string
  readonly process: ChildProcess
}

const spawned = (port: string): ChildProcess =>
  spawn(
    process.execPath,
    [
      fileURLToPath(new URL("./arcp.js", import.meta.url)),
      "serve",
      ...["--port", port, "--db", ".arcp/start.db", "--agents", "demo", "--token", `${token}=me`],
      ...["--log-level", "warning"]
    ],
    { stdio: ["ignore", "pipe", "inherit"] }
  )

/** Ends a process with a signal, and waits until it is gone. */
const end = (child: ChildProcess, signal: NodeJS.Signals): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill(signal)
  })

/** Returns the address that a server says it listens at. */
const listening = (child: ChildProcess): Effect.Effect<string, NotAsPromised> =>
  Effect.async((resume) => {
    if (child.stdout !== null)
      createInterface({ input: child.stdout }).once("line", (line) =>
        resume(Effect.succeed(line.replace("listening ", "")))
      )
    child.once("exit", (code) =>
      resume(new NotAsPromised({ message: `arcp serve left with ${code}; what it printed says why` }))
    )
  })

/** Starts `arcp serve` as a process of its own, which is stopped with the scope. */
const start = (port: string) =>
  Effect.acquireRelease(
    Effect.sync(() => spawned(port)),
    (child) => end(child, "SIGTERM")
  ).pipe(Effect.flatMap((process) => Effect.map(listening(process), (url): Server => ({ process, url }))))

/** Kills a server as a crash does, and starts it again on the same port and file. */
const crash = ({ process, url }: Server) =>
  Effect.gen(function* () {
    yield* Console.error(`\nkilling the server: SIGKILL to process ${process.pid}`)
    yield* end(process, "SIGKILL")
    const again = yield* start(new URL(url).port)
    yield* Console.error(`started it again, on the same file: process ${again.process.pid}`)
  })

/** What was seen of the job and of the connection. */
class Seen {
  /** With the end. */
  events = 1
  resumedAt: number | undefined
  /** Runs of the handler. */
  attempts = 1
  steps = 0
  twice = 0
  private readonly ended = new Set<string>()

  /** Takes an event; returns whether the work is far enough. */
  take(event: JobEvent): boolean {
    this.events++
    if (event.kind === "status" && event.body.phase === "recovered") this.attempts++
    if (event.kind === Vendor.step) {
      const { key, state } = event.body as { readonly key: string; readonly state: string }
      if (state === "ended") {
        this.steps++
        if (this.ended.has(key)) this.twice++
        this.ended.add(key)
      }
    }
    return event.kind === "progress" && event.body.current >= (event.body.total ?? Infinity) / 4
  }
}

const program = Effect.gen(function* () {
  const server = yield* start("0")
  yield* Console.error(`runtime ${server.url}, process ${server.process.pid}, SQLite in .arcp/start.db`)
  const client = yield* ArcpClient.make({ token: Redacted.make(token), name: "npm-start" }).pipe(
    Effect.provide(DialerWebSocket.layer({ url: server.url }))
  )
  // Just this: the leased file system looks where a path really is.
  const root = realpathSync(process.cwd())
  const job = yield* client.submit("survey", { root }, { leaseRequest: { "fs.read": [`${root}/**`] } })
  yield* Console.error(`${job.agent} ${job.jobId}\n`)

  const seen = new Seen()
  yield* client.status.changes.pipe(
    Stream.runForEach((status) =>
      Effect.sync(() => {
        if (status._tag === "Connected") seen.resumedAt = status.resumedAt ?? seen.resumedAt
      })
    ),
    Effect.forkScoped
  )
  const farEnough = yield* Deferred.make<void>()
  const each = (event: JobEvent) =>
    Effect.suspend(() =>
      seen.take(event) ? Effect.asVoid(Deferred.succeed(farEnough, undefined)) : Effect.void
    )
  const crashing = Deferred.await(farEnough).pipe(
    Effect.zipRight(crash(server)),
    Effect.zipRight(Effect.never)
  )
  yield* Effect.raceFirst(show(client, job, { json: false, screen: Screen.make(), each }), crashing)

  const { lastEventSeq } = yield* client.resumeState
  const { attempts, events, resumedAt, steps, twice } = seen
  yield* Console.error(
    `\n${events} events, last event_seq ${lastEventSeq}; the client ` +
      (resumedAt === undefined ? "never resumed" : `resumed after event ${resumedAt}`) +
      `\n${steps} steps ended, ${twice} of them twice, in ${attempts} runs of the handler` +
      ": nothing lost, nothing done again that had ended"
  )
  if (events !== lastEventSeq || resumedAt === undefined || attempts !== 2 || twice > 0)
    return yield* new NotAsPromised({ message: "that is not what it should be" })
}).pipe(
  Effect.scoped,
  Effect.timeoutFail({
    duration: "90 seconds",
    onTimeout: () => new NotAsPromised({ message: "the survey took longer than 90 s" })
  })
)

program.pipe(
  Effect.tapErrorCause((cause) => Console.error(describe(cause._tag === "Fail" ? cause.error : cause))),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
