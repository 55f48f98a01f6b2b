/** Agents by the name of a shipped set, or out of a module of the user's, with the services that it brings. */

import { stat } from "node:fs/promises"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Registered } from "../../services/agents/Agent.js"
import type { Leased } from "../../services/lease/Leased.js"
import { codeOf, fileProblem } from "../../services/runtime/fileProblem.js"
import { needs } from "../../services/runtime/needs.js"
import type { Secrets } from "../../services/runtime/Secrets.js"
import { loadProblem } from "./loadProblem.js"
import { isShipped, type Shipped } from "./shipped.js"
import { UsageError } from "./UsageError.js"

/** The services of `arcp serve`: what agents, and the layers of their modules, may ask for. */
export type Provided = FileSystem.FileSystem | HttpClient.HttpClient | Path.Path | Secrets

/** An agent that asks for no more than that, and what its module provides. */
export type Hosted = Registered<Provided>

/** What one `--agents` gives. */
export interface AgentsModule {
  readonly name: string
  /** Whether it is one of ours: its agents let no promise go, so nothing has to follow them. */
  readonly shipped: boolean
  readonly agents: ReadonlyArray<Hosted>
  /** `layer` of the module: services for its agents that `arcp serve` does not have. */
  readonly layer: Layer.Layer<never, unknown, Provided>
  /** `leased` of the module: how those are leased that must not reach an agent open. */
  readonly leased: ReadonlyArray<Leased>
}

const isRegistered = (u: unknown): u is Hosted =>
  typeof u === "object" &&
  u !== null &&
  "name" in u &&
  "version" in u &&
  "prepare" in u &&
  typeof u.prepare === "function"

/** What `Agent.make` returns: an agent that nobody has given a handler. */
const isContract = (u: unknown): u is { readonly name: unknown } =>
  typeof u === "object" && u !== null && "name" in u && "version" in u && "input" in u && !isRegistered(u)

const isLeased = (u: unknown): u is Leased =>
  typeof u === "object" && u !== null && "tag" in u && "lease" in u && typeof u.lease === "function"

const isLayer = (u: unknown): u is Layer.Layer<never, unknown, Provided> => Layer.isLayer(u)

const help =
  'export const agents = [Agent.fromPromise("hello", { version: "1.0.0" }, async (input) => input)]'

const agentsOf: Readonly<Record<Shipped, Effect.Effect<ReadonlyArray<Hosted>>>> = {
  demo: needs("--agents demo", "ignore", () => import("../agents/demo.js")).pipe(
    Effect.orDie,
    Effect.map(({ agents }) => agents)
  ),
  conformance: Effect.promise(async () => (await import("../agents/conformance.js")).agents)
}

const loadShipped = (name: Shipped): Effect.Effect<AgentsModule> =>
  Effect.map(agentsOf[name], (agents) => ({
    name,
    shipped: true,
    agents,
    layer: Layer.empty,
    leased: []
  }))

/** What a module of the user's may export. */
interface Exports {
  readonly agents?: unknown
  readonly default?: unknown
  readonly layer?: unknown
  readonly leased?: unknown
}

const checked = (name: string, module: Exports): Effect.Effect<AgentsModule, UsageError> => {
  const exported = module.agents ?? module.default
  const agents: ReadonlyArray<unknown> = Array.isArray(exported) ? exported : [exported]
  const refuse = (problem: string) =>
    Effect.fail(new UsageError({ message: `--agents ${name} must export ${problem}` }))
  const contract = agents.find(isContract)
  if (contract !== undefined)
    return refuse(
      `agents: ${contract.name} is a contract without a handler\n  export what Agent.handle(contract, handler) returns`
    )
  const other = agents.findIndex((agent) => !isRegistered(agent))
  if (exported !== undefined && other >= 0)
    return refuse(
      `agents: ${Array.isArray(exported) ? `number ${other + 1} of them` : "what it exports"} is none, for example\n  ${help}`
    )
  if (!agents.every(isRegistered)) return refuse(`agents, for example\n  ${help}`)
  const { layer = Layer.empty, leased = [] } = module
  if (!isLayer(layer)) return refuse("as layer a Layer with the services of its agents")
  if (!Array.isArray(leased) || !leased.every(isLeased))
    return refuse("as leased an array, as Registry.layer takes it")
  return Effect.succeed({ name, shipped: false, agents, layer, leased })
}

/** How files are imported. */
export interface Importing {
  /** What a file is imported by. */
  readonly address: (file: string) => string
  /** Returns the files that were read since it was asked last, newest first. */
  readonly read: () => ReadonlyArray<string>
  /** Runs what imports a file. */
  readonly within: <A>(file: string, load: () => A) => A
}

const plainly: Importing = {
  address: (file) => pathToFileURL(file).href,
  read: () => [],
  within: (_, load) => load()
}

/**
 * Returns whether all of a file could be read whose import has failed: then it has begun to run. What throws stands before it, so it
 * does not run here.
 */
const wasRead = (address: string): Promise<boolean> => {
  const source = `import "data:text/javascript,throw 'read'"\nimport ${JSON.stringify(address)}`
  return import(`data:text/javascript,${encodeURIComponent(source)}`).then(
    () => true,
    (error: unknown) => error === "read"
  )
}

/** Imports a file; what of it is TypeScript that this Node does not read is compiled where esbuild is installed, as by `arcp dev`. */
const imported = async (file: string, { address }: Importing): Promise<Exports> => {
  try {
    return (await import(address(file))) as Exports
  } catch (error) {
    if (address !== plainly.address || codeOf(error) !== "ERR_UNKNOWN_FILE_EXTENSION") throw error
    // What has run is not run again: it awaits an import of its own.
    if (await wasRead(address(file))) throw error
    const { compiledAddress } = await import("./typeScript.js")
    return (await import(compiledAddress(file, error))) as Exports
  }
}

const loadForeign = (name: string, importing: Importing): Effect.Effect<AgentsModule, UsageError> =>
  Effect.tryPromise({
    try: async () => {
      const file = resolve(name)
      // Node would read it whatever it is, and wait for who writes to a FIFO.
      const stats = await stat(file).catch((error: unknown) => {
        throw new UsageError({ message: fileProblem(error) })
      })
      if (!stats.isFile()) throw new UsageError({ message: "it is no file" })
      return importing.within(name, () => imported(file, importing))
    },
    catch: (cause) => cause
  }).pipe(
    Effect.catchAll((cause) =>
      Effect.flatMap(
        cause instanceof UsageError
          ? Effect.succeed(cause.message)
          : Effect.promise(() => loadProblem(cause, [...importing.read(), resolve(name)])),
        (problem) => new UsageError({ message: `--agents ${name} does not load: ${problem}` })
      )
    ),
    Effect.flatMap((module) => checked(name, module))
  )

/** Loads every set of agents. */
export const loadModules = (
  names: ReadonlyArray<string>,
  importing: Importing = plainly
): Effect.Effect<ReadonlyArray<AgentsModule>, UsageError> =>
  Effect.forEach(names, (name) => (isShipped(name) ? loadShipped(name) : loadForeign(name, importing)))

/** Loads every set, and gives the agents of all of them. */
export const loadAgents = (names: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<Hosted>, UsageError> =>
  Effect.map(loadModules(names), (modules) => modules.flatMap(({ agents }) => agents))
