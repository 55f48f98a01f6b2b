import { expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as RegistryLayer from "../../../src/layers/agents/Registry.js"
import * as AgentRef from "../../../src/protocol/AgentRef.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Registry } from "../../../src/services/agents/Registry.js"
import { Job, type JobService } from "../../../src/services/jobs/Job.js"
import { Lease, type LeaseService } from "../../../src/services/lease/Lease.js"

const agent = (name: string, version: string, isDefault = false) =>
  Agent.handle(Agent.make(name, { version, default: isDefault }), () => Effect.succeed(`${name}@${version}`))

const reference = (text: string): AgentRef.AgentRef => {
  const ref = AgentRef.parse(text)
  if (ref._tag === "None") throw new Error(`not a reference: ${text}`)
  return ref.value
}

const resolve = (text: string) =>
  Effect.flatMap(Registry, (registry) => registry.resolve(reference(text))).pipe(Effect.map(AgentRef.format))

const job = { jobId: "job_1" } as JobService
const lease = { terms: {} } as LeaseService
const run = (text: string, input?: unknown) =>
  Effect.gen(function* () {
    const found = yield* (yield* Registry).resolve(reference(text))
    const services = Context.unsafeMake<never>(found.services?.({ job, lease }) ?? new Map())
    return yield* (yield* found.prepare(input)).pipe(
      Effect.provide(services),
      Effect.provideService(Job, job),
      Effect.provideService(Lease, lease),
      Effect.scoped
    )
  })

it.effect("resolves a reference to the version it names", () =>
  Effect.gen(function* () {
    expect(yield* resolve("a@1.0.0")).toBe("a@1.0.0")
    expect(yield* run("a@1.0.0")).toBe("a@1.0.0")
  }).pipe(Effect.provide(RegistryLayer.layer([agent("a", "1.0.0"), agent("a", "2.0.0"), agent("b", "1")])))
)

it.effect("resolves a bare name to the default, the only, the highest or the last version", () =>
  Effect.gen(function* () {
    expect(yield* resolve("declared")).toBe("declared@1.0.0")
    expect(yield* resolve("only")).toBe("only@beta")
    expect(yield* resolve("semver")).toBe("semver@1.10.0")
    expect(yield* resolve("other")).toBe("other@blue")
  }).pipe(
    Effect.provide(
      RegistryLayer.layer([
        agent("declared", "1.0.0", true),
        agent("declared", "2.0.0"),
        agent("only", "beta"),
        agent("semver", "1.9.0"),
        agent("semver", "1.10.0"),
        agent("semver", "1.10.0-rc.1"),
        agent("other", "green"),
        agent("other", "blue")
      ])
    )
  )
)

it.effect("tells an unknown name from an unknown version", () =>
  Effect.gen(function* () {
    const name = yield* Effect.flip(resolve("nobody"))
    expect(name.code).toBe("AGENT_NOT_AVAILABLE")
    expect(name.details).toBeUndefined()
    const version = yield* Effect.flip(resolve("a@9"))
    expect(version.code).toBe("AGENT_VERSION_NOT_AVAILABLE")
    expect(version.details).toEqual({ available: ["1.0.0", "2.0.0"] })
    expect((yield* Effect.flip(resolve("constructor"))).code).toBe("AGENT_NOT_AVAILABLE")
  }).pipe(Effect.provide(RegistryLayer.layer([agent("a", "1.0.0"), agent("a", "2.0.0")])))
)

it.effect("lists names with versions in order of registration and the default", () =>
  Effect.gen(function* () {
    const { inventory } = yield* Registry
    expect(inventory).toEqual([
      { name: "b", versions: ["2.0.0", "1.0.0"], default: "2.0.0" },
      { name: "a", versions: ["1"], default: "1" }
    ])
  }).pipe(Effect.provide(RegistryLayer.layer([agent("b", "2.0.0"), agent("a", "1"), agent("b", "1.0.0")])))
)

it.effect("refuses the same agent twice, and two defaults", () =>
  Effect.gen(function* () {
    const build = (agents: ReadonlyArray<Agent.Registered>) =>
      Effect.flip(Effect.scoped(Layer.build(RegistryLayer.layer(agents))))
    expect((yield* build([agent("a", "1"), agent("a", "1")])).message).toContain("a@1")
    expect((yield* build([agent("a", "1", true), agent("a", "2", true)])).message).toMatch(/two defaults/)
  })
)

class Greeting extends Context.Tag("test/Greeting")<Greeting, string>() {}
class Name extends Context.Tag("test/Name")<Name, string>() {}

it.effect("gives handlers the services of the layer, and the job's own context", () => {
  const greet = Agent.handle(Agent.make("greet", { version: "1" }), () =>
    Effect.gen(function* () {
      const { jobId } = yield* Job
      const span = yield* Effect.orDie(Effect.currentParentSpan)
      return [yield* Greeting, jobId, span._tag === "Span" ? span.name : ""]
    })
  )
  const named = Agent.handle(Agent.make("named", { version: "1", input: Schema.String }), (text) =>
    Effect.map(Name, (name) => text + name)
  )
  // One layer that needs what both handlers need.
  const layer: Layer.Layer<Registry, RegistryLayer.AgentRegistrationError, Greeting | Name> =
    RegistryLayer.layer([greet, named])
  return Effect.gen(function* () {
    expect(yield* run("greet").pipe(Effect.withSpan("job"))).toEqual(["hello", "job_1", "job"])
    expect(yield* run("named", "my ")).toBe("my name")
  }).pipe(
    Effect.provide(
      layer.pipe(
        Layer.provide(Layer.succeed(Greeting, "hello")),
        Layer.provide(Layer.succeed(Name, "name")),
        Layer.withSpan("building")
      )
    )
  )
})
