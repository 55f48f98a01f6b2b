/**
 * Scenarios about the client of this package, beside a loop of `ws` and `JSON.parse` that does nothing else, over the same
 * server: events that are read, and a streamed result that is written to disk.
 */
import { createHash } from "node:crypto"
import { closeSync, createReadStream, fsyncSync, openSync, rmSync, writeSync } from "node:fs"
import { join } from "node:path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { WebSocket } from "ws"
import * as ArcpClient from "../../dist/layers/client/ArcpClient.js"
import * as DialerWebSocket from "../../dist/layers/transport/DialerWebSocket.js"
import { stopwatch } from "./common.mjs"

/** Frames between two acknowledgements: few enough for chunks of 64 KiB. */
const ackEvery = 32

/** What a person writes who needs nothing but one job: `onFrame` gets its events, and some are acknowledged. */
const bareJob = ({ target: { token, url }, agent, input, onFrame, onSubmit }) =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(url, { perMessageDeflate: false })
    const send = (type, payload, more) =>
      ws.send(JSON.stringify({ arcp: "1.1", id: type, type, payload, ...more }))
    let session_id
    ws.on("error", reject)
    ws.on("close", () => reject(new Error("the connection closed")))
    ws.on("open", () =>
      send("session.hello", {
        client: { name: "bare", version: "1" },
        auth: { scheme: "bearer", token },
        capabilities: { features: ["ack", "result_chunk"] }
      })
    )
    ws.on("message", (data) => {
      const frame = JSON.parse(data.toString())
      if (frame.event_seq % ackEvery === 0)
        send("session.ack", { last_processed_seq: frame.event_seq }, { session_id })
      if (frame.type === "session.welcome") {
        session_id = frame.payload.session_id
        onSubmit()
        send("job.submit", { agent, input }, { session_id })
      } else if (frame.type === "job.event") onFrame(frame)
      else if (frame.type === "job.result") {
        resolve(frame)
        ws.close()
      } else if (frame.type === "job.error") reject(new Error(frame.payload.message))
    })
  })

/** Runs a job with our client. */
const ourJob = ({ target: { token, url }, agent, input, onSubmit, use }) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.make({ token: Redacted.make(token) })
    onSubmit()
    const job = yield* client.submit(agent, input)
    return yield* use(job)
  }).pipe(
    Effect.scoped,
    Effect.provide(DialerWebSocket.layer({ url })),
    Effect.provide(NodeFileSystem.layer),
    Effect.runPromise
  )

/** One job that emits flat out, read event by event. */
export const read = async ({ target, reader, count, size }) => {
  const input = { count, size, batch: 64 }
  let seen = 0
  let stop
  const job = {
    target,
    agent: "emit",
    input,
    onSubmit: () => {
      stop = stopwatch()
    }
  }
  if (reader === "bare")
    await bareJob({
      ...job,
      onFrame: ({ payload }) => {
        if (payload.kind === "log") seen++
      }
    })
  else
    await ourJob({
      ...job,
      use: ({ events, result }) =>
        Stream.runForEach(events, (event) => {
          if (event.kind === "log") seen++
          return Effect.void
        }).pipe(Effect.zipRight(result))
    })
  const { busy, cpuUs, ms } = stop()
  if (seen !== count) throw new Error(`${seen} events of ${count}`)
  return { values: { rate: (count / ms) * 1000, cpu: cpuUs / count }, units: count, busy }
}

/** Resident bytes of this process at their highest from now on. */
const peakRss = () => {
  let peak = process.memoryUsage.rss()
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss())
  }, 20)
  return () => {
    clearInterval(timer)
    return Math.max(peak, process.memoryUsage.rss())
  }
}

const digestOfFile = async (path) => {
  const hash = createHash("sha256")
  for await (const data of createReadStream(path)) hash.update(data)
  return hash.digest("hex")
}

/** What the agent sends: chunk after chunk of one letter each. */
const digestSent = (chunks, chunkBytes) => {
  const hash = createHash("sha256")
  for (let i = 0; i < chunks; i++) hash.update(Buffer.alloc(chunkBytes, 97 + (i % 26)))
  return hash.digest("hex")
}

/** A streamed result of `chunks` chunks of `chunkBytes`, written to a file as it comes, and looked at. */
export const download = async ({ target, reader, chunks, chunkBytes, directory }) => {
  globalThis.gc?.()
  const path = join(directory, `result-${process.pid}`)
  const before = process.memoryUsage.rss()
  const peak = peakRss()
  let stop
  const job = {
    target,
    agent: "chunks",
    input: { chunks, size: chunkBytes, encoding: "base64" },
    onSubmit: () => {
      stop = stopwatch()
    }
  }
  try {
    if (reader === "bare") {
      const fd = openSync(path, "w")
      await bareJob({
        ...job,
        onFrame: ({ payload: { body, kind } }) => {
          if (kind === "result_chunk") writeSync(fd, Buffer.from(body.data, body.encoding))
        }
      })
      fsyncSync(fd)
      closeSync(fd)
    } else await ourJob({ ...job, use: ({ resultAsFile }) => resultAsFile(path) })
    const { busy, ms } = stop()
    const growth = peak() - before
    if ((await digestOfFile(path)) !== digestSent(chunks, chunkBytes))
      throw new Error("the file is not what was sent")
    const mebibytes = (chunks * chunkBytes) / 1024 ** 2
    return { values: { rate: mebibytes / (ms / 1000), rss: growth / 1024 ** 2 }, units: mebibytes, busy }
  } finally {
    peak()
    rmSync(path, { force: true })
  }
}
