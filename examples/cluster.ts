// Three nodes on one Postgres. A client is moved between them while its job runs, then the node that runs the job is killed, and
// another goes on with it. Every number arrives once.
//
//   npm run example cluster                   # with a Postgres of its own, from the binaries that are installed
//   ARCP_PG=postgres://… npm run example cluster
//
// The same for containers is in cluster/.

import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { connect, createServer, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { Effect, Schedule, Schema, Stream } from "effect"
import { Agent, ArcpClient, Job } from "effect-arcp"
import { DialerWebSocket } from "effect-arcp/node"

const Tally = Agent.make("tally", {
  version: "1.0.0",
  input: Schema.Int,
  output: Schema.Int,
  durable: true
})

/** What each node hosts: it counts. Each number is a step, which ends once in the life of a job. */
export const agents = [
  Agent.handle(Tally, (to) =>
    Effect.gen(function* () {
      const job = yield* Job.Job
      for (let current = 1; current <= to; current++) {
        yield* job.step(`number ${current}`, Effect.succeed(current))
        yield* Effect.sleep("50 millis")
      }
      return to
    })
  )
]

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  return typeof address === "object" && address !== null ? address.port : 0
}

/** A Postgres in a folder of its own, for as long as the scope. */
const ownPostgres = Effect.gen(function* () {
  const versions = "/usr/lib/postgresql"
  const [version] = existsSync(versions) ? readdirSync(versions).sort((a, b) => Number(b) - Number(a)) : []
  if (version === undefined) return yield* Effect.dieMessage("no Postgres here: install it, or set ARCP_PG")
  const bin = join(versions, version, "bin")
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-cluster-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  // Postgres refuses to run as root.
  const idOf = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }))
  const user = process.getuid?.() === 0 ? { uid: idOf("-u"), gid: idOf("-g") } : {}
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid)
  const data = join(folder, "data")
  execFileSync(join(bin, "initdb"), ["-D", data, "-U", "arcp", "-A", "trust"], { ...user, stdio: "ignore" })
  const port = yield* Effect.promise(freePort)
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(join(bin, "postgres"), ["-D", data, "-p", `${port}`, "-h", "127.0.0.1", "-k", folder], {
        ...user,
        stdio: "ignore"
      })
    ),
    (child) => ended(child, "SIGINT")
  )
  const isReady = Effect.try(() =>
    execFileSync(join(bin, "pg_isready"), ["-h", "127.0.0.1", "-p", `${port}`], { stdio: "ignore" })
  )
  yield* Effect.retry(isReady, { times: 600, schedule: Schedule.spaced("100 millis") })
  return `postgres://arcp@127.0.0.1:${port}/postgres`
})

/** Ends a process, and waits until it is gone. */
const ended = (child: ChildProcess, signal: NodeJS.Signals): Effect.Effect<void> =>
  Effect.promise(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    await once(child, "exit")
  })

const program = fileURLToPath(
  new URL("dist/programs/arcp.js", import.meta.resolve("effect-arcp/package.json"))
)

/** A node: `arcp serve` as a process of its own, which hosts what this file exports. */
const node = (name: string, database: string) =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(
          process.execPath,
          [
            ...[program, "serve", "--cluster", "--node", name, "--port", "0"],
            ...["--agents", fileURLToPath(import.meta.url), "--token", "secret=me", "--log-level", "warning"]
          ],
          { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ARCP_PG: database } }
        )
      ),
      (child) => ended(child, "SIGTERM")
    )
    const [line] = yield* Effect.promise(() => once(createInterface({ input: child.stdout }), "line"))
    return { name, process: child, port: Number(new URL(String(line).replace("listening ", "")).port) }
  })

type Node = Effect.Effect.Success<ReturnType<typeof node>>

/** Stands for a load balancer: passes connections on to one node, and cuts them when it is told another. */
const balancer = Effect.gen(function* () {
  const open = new Set<Socket>()
  let port = 0
  const server = createServer((client) => {
    const upstream = connect(port, "127.0.0.1")
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client]
    ] as const) {
      open.add(socket)
      socket
        .on("error", () => {})
        .on("close", () => {
          open.delete(socket)
          other.destroy()
        })
      socket.pipe(other)
    }
  })
  yield* Effect.acquireRelease(
    Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening")),
    () =>
      Effect.sync(() => {
        server.close()
        for (const socket of open) socket.destroy()
      })
  )
  const address = server.address()
  return {
    url: `ws://127.0.0.1:${typeof address === "object" ? address?.port : 0}/arcp`,
    moveTo: (node: Node) => {
      port = node.port
      for (const socket of open) socket.destroy()
    }
  }
})

/** The number whose step has ended, if the event says that. */
const numberOf = (event: ArcpClient.JobEvent): number | undefined => {
  if (event.kind !== "x-vendor.effect-arcp.step") return undefined
  const { key, state } = event.body as { readonly key: string; readonly state: string }
  return state === "ended" ? Number(key.replace("number ", "")) : undefined
}

const main = Effect.gen(function* () {
  const database = process.env.ARCP_PG ?? (yield* ownPostgres)
  const [a, b, c] = yield* Effect.all([node("a", database), node("b", database), node("c", database)], {
    concurrency: "unbounded"
  })
  const { moveTo, url } = yield* balancer
  moveTo(a)
  const client = yield* ArcpClient.make({ token: "secret" }).pipe(
    Effect.provide(DialerWebSocket.layer({ url }))
  )
  const job = yield* client.submit(Tally, 60)
  console.log(`${job.jobId} runs on node a, to which its client is connected`)

  const seen: Array<number> = []
  yield* Stream.runForEach(job.events, (event) =>
    Effect.gen(function* () {
      const number = numberOf(event)
      if (number === undefined) return
      seen.push(number)
      if (number === 15) {
        console.log("at 15: the client is moved to node b, the job stays on a")
        moveTo(b)
      } else if (number === 30) {
        console.log("at 30: node a is killed (SIGKILL); another goes on with the job")
        yield* ended(a.process, "SIGKILL")
      } else if (number === 45) {
        console.log("at 45: the client is moved to node c")
        moveTo(c)
      }
    })
  )
  console.log(`result: ${yield* job.result}`)
  const missing = 60 - new Set(seen).size
  console.log(`numbers: ${seen.length}, missing: ${missing}, twice: ${seen.length - new Set(seen).size}`)
  if (!seen.every((number, i) => number === i + 1) || seen.length !== 60) process.exitCode = 1
})

// `arcp serve` reads this file too, for its agents.
if (process.argv[1] === fileURLToPath(import.meta.url)) await Effect.runPromise(Effect.scoped(main))
