// The client without Effect: promises, `for await`, AbortSignal. It runs against a server of its own.
//
//   npm run example promise

import { setTimeout as sleep } from "node:timers/promises"
import { Layer, ManagedRuntime, Schema } from "effect"
import { Agent, Auth, Registry, Runtime, Transport } from "effect-arcp"
import { TransportWebSocket } from "effect-arcp/node"
import { Arcp, Errors } from "effect-arcp/promise"

// The server: an agent that counts, on a free port.
const count = Agent.fromPromise(
  "count",
  { version: "1.0.0", input: Schema.Struct({ to: Schema.Int }) },
  async ({ to }, job) => {
    for (let current = 1; current <= to; current++) {
      await job.progress({ current, total: to })
      await sleep(50, undefined, { signal: job.signal })
    }
    return { counted: to }
  }
)
const server = ManagedRuntime.make(
  Runtime.serve().pipe(
    Layer.provideMerge(TransportWebSocket.layer({ port: 0 })),
    Layer.provide(Runtime.layerMemory()),
    Layer.provide(Registry.layer([count])),
    Layer.provide(Auth.layerStatic({ secret: "me" }))
  )
)
const { address } = await server.runPromise(Transport.TransportServer)

// The client.
const arcp = await Arcp.connect({ url: address, token: "secret" })

const job = await arcp.submit("count", { to: 5 })
for await (const event of job.events) {
  console.log(event.eventSeq, event.kind, event.body)
  // The connection is lost in the middle: the session resumes, and the loop goes on with the next event.
  if (event.eventSeq === 3) await arcp.dropTransport()
}
console.log(await job.result)

const impatient = await arcp.submit("count", { to: 1000 }, { signal: AbortSignal.timeout(200) })
try {
  await impatient.result
} catch (error) {
  if (!(error instanceof Errors.Cancelled)) throw error
  console.log(error.code, error.message, impatient.progress?.current)
}

await arcp.close()
await server.dispose()
