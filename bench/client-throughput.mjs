/**
 * `npm run bench:client`: events per second that our client hands to `Stream.runForEach`, from one job that emits flat
 * out over a WebSocket, against a loop of `ws` and `JSON.parse` that does nothing else. Alternately over the same
 * server, each first in every other round; and the processor time of this process per event, which tells more when
 * the server is the slower side.
 */
import { tmpdir } from "node:os"
import { parseArgs } from "node:util"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { WebSocket } from "ws"
import * as ArcpClient from "../dist/layers/client/ArcpClient.js"
import * as DialerWebSocket from "../dist/layers/transport/DialerWebSocket.js"
import { startServer, stopAll } from "./processes.mjs"
import { median } from "./stats.mjs"

const { values: flags } = parseArgs({
  options: {
    runs: { type: "string", default: "9" },
    events: { type: "string", default: "100000" }
  }
})
const runs = Number(flags.runs)
const count = Number(flags.events)
const input = { count, size: 100, batch: 64 }

/** What a person writes who needs nothing but the events. */
const naive = ({ token, url }) =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(url, { perMessageDeflate: false })
    const send = (type, payload, more) =>
      ws.send(JSON.stringify({ arcp: "1.1", id: type, type, payload, ...more }))
    let seen = 0
    let from
    ws.on("error", reject)
    ws.on("close", () => reject(new Error("the connection closed")))
    ws.on("open", () =>
      send("session.hello", {
        client: { name: "naive", version: "1" },
        auth: { scheme: "bearer", token },
        capabilities: { features: [] }
      })
    )
    ws.on("message", (data) => {
      const frame = JSON.parse(data.toString())
      if (frame.type === "session.welcome") {
        from = start()
        send("job.submit", { agent: "emit", input }, { session_id: frame.payload.session_id })
      } else if (frame.type === "job.event") seen += frame.payload.kind === "log" ? 1 : 0
      else if (frame.type === "job.result") {
        resolve({ ...from(), seen })
        ws.close()
      }
    })
  })

const ours = ({ token, url }) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.make({ token: Redacted.make(token) })
    const from = start()
    const job = yield* client.submit("emit", input)
    let seen = 0
    yield* Stream.runForEach(job.events, (event) => {
      if (event.kind === "log") seen++
      return Effect.void
    })
    yield* job.result
    return { ...from(), seen }
  }).pipe(Effect.scoped, Effect.provide(DialerWebSocket.layer({ url })), Effect.runPromise)

const start = () => {
  const at = performance.now()
  const cpu = process.cpuUsage()
  return () => {
    const { system, user } = process.cpuUsage(cpu)
    return { rate: (count / (performance.now() - at)) * 1000, cpu: (user + system) / count }
  }
}

const measure = async (run, server) => {
  const { cpu, rate, seen } = await run(server.target)
  if (seen !== count) throw new Error(`${seen} events of ${count}`)
  return { rate, cpu }
}

const figures = async (kind) => {
  const server = await startServer({ kind, store: "memory", base: tmpdir() })
  for (const run of [naive, ours]) await measure(run, server)
  const samples = { naive: [], ours: [] }
  for (let round = 0; round < runs; round++) {
    const order = [
      ["naive", naive],
      ["ours", ours]
    ]
    for (const [name, run] of round % 2 === 0 ? order : order.reverse())
      samples[name].push(await measure(run, server))
  }
  await server.stop()
  const of = (name, key) => median(samples[name].map((sample) => sample[key]))
  const ratio = median(samples.ours.map(({ rate }, i) => rate / samples.naive[i].rate))
  const line = (name) =>
    `${name.padEnd(6)} ${Math.round(of(name, "rate")).toLocaleString("en").padStart(9)} events/s  ${of(name, "cpu").toFixed(2).padStart(5)} µs of CPU each`
  console.log(
    `server: ${kind}, ${count} events, medians of ${runs}\n  ${line("naive")}\n  ${line("ours")}\n  ratio  ${ratio.toFixed(2)}`
  )
}

try {
  for (const kind of ["arcp", "floor"]) await figures(kind)
} finally {
  stopAll()
}
