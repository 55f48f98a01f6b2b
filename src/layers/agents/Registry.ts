/** The agents of a runtime, given their handlers' requirements once, when the layer is built. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import * as AgentRef from "../../protocol/AgentRef.js"
import * as Argument from "../../protocol/Argument.js"
import { AgentNotAvailable, AgentVersionNotAvailable } from "../../protocol/Errors.js"
import type { AgentEntry } from "../../protocol/Message.js"
import type { About, Registered } from "../../services/agents/Agent.js"
import { registered } from "../../services/agents/given.js"
import { Registry } from "../../services/agents/Registry.js"
import { Job } from "../../services/jobs/Job.js"
import { Lease } from "../../services/lease/Lease.js"
import type { Leased } from "../../services/lease/Leased.js"
import * as LeasedCommandExecutor from "../lease/LeasedCommandExecutor.js"
import * as LeasedFileSystem from "../lease/LeasedFileSystem.js"
import * as LeasedHttpClient from "../lease/LeasedHttpClient.js"
import * as Tools from "./Tools.js"

/** Two agents cannot be hosted together: the same `name@version` twice, or two defaults of one name. */
export class AgentRegistrationError extends Data.TaggedError("AgentRegistrationError")<{
  readonly message: string
}> {}

type RequirementOf<Agent> = Agent extends Registered<infer R> ? R : never
/** What the handlers of these agents require; of no agents, nothing. */
export type Requirements<Agents extends ReadonlyArray<Registered<unknown>>> = RequirementOf<Agents[number]>

interface AgentVersions {
  readonly versions: Map<string, Registered>
  default: Registered | undefined
}

/** What every registry leases to its jobs. */
const defaults: ReadonlyArray<Leased> = [
  LeasedFileSystem.leased,
  LeasedHttpClient.leased,
  LeasedCommandExecutor.leased,
  Tools.leased
]

/** What every job gives its handler. */
const given: ReadonlySet<string> = new Set([Job.key, Lease.key, Scope.Scope.key])

/** Services that must not reach a handler open, and which module leases them. */
const mustBeLeased: ReadonlyMap<string, string> = new Map([
  ["@effect/ai/LanguageModel", "LeasedLanguageModel.leased(…) of effect-arcp/ai"]
])

/**
 * A handler sees the services of the layer, and of its surroundings nothing else; those that can reach out of the process
 * are replaced by ones that hold it to its lease. They are given to its fiber with what is the job's own, at once: a
 * context that is provided around it would be copied several times.
 */
const provide = (
  agent: Registered<unknown>,
  context: Context.Context<unknown>,
  leased: ReadonlyArray<Leased>
): Registered => ({
  // What it requires is in its services from here on.
  ...(agent as Registered),
  services: (lessee) => {
    const services = new Map<string, unknown>(context.unsafeMap)
    for (const { tag, lease } of leased) services.set(tag.key, lease(services.get(tag.key), lessee))
    return services
  }
})

const register = (
  agents: ReadonlyArray<Registered>
): Effect.Effect<ReadonlyMap<string, AgentVersions>, AgentRegistrationError> =>
  Effect.gen(function* () {
    const entries = new Map<string, AgentVersions>()
    for (const agent of agents) {
      const entry = entries.get(agent.name) ?? { versions: new Map(), default: undefined }
      entries.set(agent.name, entry)
      if (entry.versions.has(agent.version))
        return yield* new AgentRegistrationError({
          message: `agent ${AgentRef.format(agent)} is registered twice; give one of them another version`
        })
      entry.versions.set(agent.version, agent)
      if (!agent.isDefault) continue
      if (entry.default !== undefined)
        return yield* new AgentRegistrationError({
          message: `agent ${agent.name} has two defaults, ${entry.default.version} and ${agent.version}; keep one`
        })
      entry.default = agent
    }
    return entries
  })

const make = (entries: ReadonlyMap<string, AgentVersions>): Registry["Type"] => {
  const inventory: Array<AgentEntry> = []
  const described = new Map<string, Readonly<Record<string, About>>>()
  const defaults = new Map<string, Registered>()
  for (const [name, entry] of entries) {
    const versions = [...entry.versions.keys()]
    const version = AgentRef.defaultVersion(versions, entry.default?.version) as string
    inventory.push({ name, versions, default: version })
    described.set(
      name,
      Object.fromEntries(Array.from(entry.versions, ([version, { about }]) => [version, about]))
    )
    defaults.set(name, entry.versions.get(version) as Registered)
  }
  return {
    inventory,
    described,
    resolve: ({ name, version }): Effect.Effect<Registered, AgentNotAvailable | AgentVersionNotAvailable> => {
      const entry = entries.get(name)
      if (entry === undefined)
        return new AgentNotAvailable({ message: `agent ${name} is not available on this runtime` })
      const agent = version === undefined ? defaults.get(name) : entry.versions.get(version)
      return agent === undefined
        ? new AgentVersionNotAvailable({
            message: `agent ${name} has no version ${version}`,
            details: { available: [...entry.versions.keys()] }
          })
        : Effect.succeed(agent)
    }
  }
}

/**
 * Hosts these agents (§7.5). The services their handlers require become the layer's requirements. Handlers get
 * `FileSystem`, `HttpClient`, `CommandExecutor` and `Tools` leased to their job; a service of yours that is built
 * on open ones keeps them: what it offers is what you trust agents with.
 *
 * @example
 * Registry.layer([greet, survey]).pipe(Layer.provide(NodeContext.layer))
 */
export const layer = <const Agents extends ReadonlyArray<Registered<unknown>>>(
  agents: Agents,
  options: {
    /** More services to be leased, beside those of the platform and `Tools`. One of the same tag wins. */
    readonly leased?: ReadonlyArray<Leased> | undefined
  } = {}
): Layer.Layer<Registry, AgentRegistrationError, Requirements<Agents>> => {
  Argument.check(
    "Registry.layer",
    ["agents", Argument.listOf(registered), agents],
    ["options", Argument.fields({ leased: Argument.maybe(Argument.listOf(Argument.object)) }), options]
  )
  return Layer.effect(
    Registry,
    Effect.contextWithEffect((context: Context.Context<Requirements<Agents>>) => {
      // The span and scope in which the layer is built are not the job's.
      const services = Context.omit(
        Tracer.ParentSpan,
        Scope.Scope
      )(context as Context.Context<unknown>) as Context.Context<unknown>
      const leases = new Map([...defaults, ...(options.leased ?? [])].map((each) => [each.tag.key, each]))
      for (const [key, how] of mustBeLeased)
        if (services.unsafeMap.has(key) && !leases.has(key))
          return new AgentRegistrationError({
            message: `the agents would get ${key} without a lease; give Registry.layer { leased: [${how}] }`
          })
      for (const agent of agents) {
        const missing = (agent.requires ?? []).filter(
          ({ key }) => !services.unsafeMap.has(key) && !given.has(key)
        )
        if (missing.length > 0)
          return new AgentRegistrationError({
            message: `agent ${AgentRef.format(agent)} needs ${missing.map(({ key }) => key).join(", ")}, which nothing provides; a module for arcp serve exports it as layer`
          })
      }
      const leased = [...leases.values()].filter(({ tag }) => services.unsafeMap.has(tag.key))
      return Effect.map(register(agents.map((agent) => provide(agent, services, leased))), make)
    })
  )
}

export * from "../../services/agents/Registry.js"
