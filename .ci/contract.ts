// A contract as client and server share it, in a file that imports no more than that takes; and what an application makes of it
// and exports, without a type of its own. Compiled with consumer.ts, into declarations.
import { Effect, Schema } from "effect"
import { Agent, ArcpClient, Job, Registry, Runtime, Tools } from "effect-arcp"
import { Arcp } from "effect-arcp/promise"
import { TestRuntime } from "effect-arcp/testing"

class NoName extends Schema.TaggedError<NoName>()("NoName", { why: Schema.String }) {}

export const Greet = Agent.make("greet", { version: "1.0.0", input: Schema.String, output: Schema.String })
export const Named = Agent.make("named", {
  version: "1.0.0",
  durable: true,
  input: Schema.String,
  error: NoName
})

export const greet = Agent.handle(Greet, (name) => Effect.succeed(`Hello, ${name}`))
export const plain = Agent.fromPromise("plain", { version: "1.0.0" }, async (_input, job) =>
  job.log("info", "here")
)
export const doubled = Agent.fromPromise(
  "doubled",
  { version: "1.0.0", input: Schema.Number, output: Schema.NumberFromString, error: NoName },
  async (number) => number * 2
)
export const shared = Agent.fromPromise(Greet, async (name) => `Hello, ${name}`)
export const named = Agent.handle(Named, (name) =>
  Effect.flatMap(Job.Job, (job) => job.step("look", Effect.succeed(name), { output: Schema.String }))
)
export const step = (job: Job.JobService) =>
  job.step("count", Effect.succeed(1), { output: Schema.Number, compensate: () => Effect.void })
export const asked = (job: Job.JobService) => job.input("go", { prompt: "Go on?", schema: Schema.Boolean })

export const Search = Tools.make("search", { input: Schema.String, output: Schema.Array(Schema.String) })
export const search = Tools.handle(Search, (query) => Effect.succeed([query]))
export const tools = Tools.layer([search])

export const registry = Registry.layer([greet, plain, named])
export const runtime = Runtime.layerMemory()
export const tested = TestRuntime.layer([greet])

export const submitted = Effect.flatMap(ArcpClient.ArcpClient, (client) => client.submit(Greet, "you"))
export const events = Effect.map(submitted, (job) => job.events)
export const result = Effect.flatMap(submitted, (job) => job.result)

export const connected = () => Arcp.connect({ url: "wss://example.com/arcp", token: "secret" })
export const begun = async () => (await connected()).submit(Greet, "you")
export const watched = async () => (await connected()).subscribe("job_1", { contract: Named })
