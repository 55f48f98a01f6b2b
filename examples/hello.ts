// Hosts an agent in memory, runs a job on it, and prints what happens. No socket, no disk.
//
//   npm run example hello

import { Effect, Layer, Redacted, Schema, Stream } from "effect"
import { Agent, ArcpClient, Auth, Job, Registry, Runtime, TransportMemory } from "effect-arcp"

// A contract: client and server can both import it.
const Greet = Agent.make("greet", {
  version: "1.0.0",
  input: Schema.Struct({ name: Schema.String }),
  output: Schema.String
})

// Its handler. `Job` is this job: whatever it emits is in its log, in order, and is sent once that is on disk.
const greet = Agent.handle(Greet, ({ name }) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    yield* job.log("info", `greeting ${name}`)
    yield* job.progress({ current: 1, total: 1 })
    return `Hello, ${name}`
  })
)

// A plain async function is an agent too.
const shout = Agent.fromPromise("shout", { version: "1.0.0" }, async (input, job) => {
  await job.log("info", "shouting")
  return String(input).toUpperCase()
})

const runtime = Runtime.serve().pipe(
  Layer.provideMerge(TransportMemory.layer()),
  Layer.provide(Runtime.layerMemory()),
  Layer.provide(Registry.layer([greet, shout])),
  Layer.provide(Auth.layerStatic({ secret: "me" }))
)

const program = Effect.gen(function* () {
  const client = yield* ArcpClient.make({ token: Redacted.make("secret") })

  const job = yield* client.submit(Greet, { name: "world" })
  yield* Stream.runForEach(job.events, (event) => Effect.sync(() => console.log(event.kind, event.body)))
  console.log(yield* job.result)

  const loud = yield* client.submit("shout", "hello")
  console.log(yield* loud.result)
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(runtime)))
