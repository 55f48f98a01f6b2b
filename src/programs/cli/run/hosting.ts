/** What a server hosts: the agents of its modules, with the services that they get. */
import type { FileSystem } from "@effect/platform/FileSystem"
import type { Path } from "@effect/platform/Path"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Registry from "../../../layers/agents/Registry.js"
import * as SecretsLayer from "../../../layers/runtime/Secrets.js"
import { didYouMean } from "../../../protocol/suggest.js"
import { failureMessage, missingService } from "../../../services/agents/Agent.js"
import type { AgentsModule, Provided } from "../agents-module.js"
import type { ServeFlags } from "../serve.js"
import { UsageError } from "../UsageError.js"
import { pair } from "./limits.js"
import * as PublicHttp from "./publicHttp.js"
import { traceable } from "./strays.js"

/** The runtime cannot be reached where it should be; what to do is in the message. */
export class CannotServe extends Data.TaggedError("CannotServe")<{ readonly message: string }> {}

/** Gives agents the concurrency that the flags say. */
const limited = <A extends { readonly name: string }>(
  { concurrency }: ServeFlags,
  agents: ReadonlyArray<A>
): Effect.Effect<ReadonlyArray<A & { readonly concurrency?: number | undefined }>, UsageError> =>
  Effect.gen(function* () {
    const limits = new Map<string, number>()
    for (const flag of concurrency) {
      const [name, value] = yield* pair("concurrency", flag, "NAME=N, e.g. --concurrency survey=2")
      const names = [...new Set(agents.map(({ name }) => name))]
      if (!names.includes(name))
        return yield* new UsageError({
          message: `--concurrency: there is no agent ${name}${didYouMean(name, names) || `; there are ${names.join(", ")}`}`
        })
      if (!/^[1-9]\d{0,8}$/.test(value))
        return yield* new UsageError({ message: `--concurrency ${flag}: takes a number of jobs, 1 or more` })
      limits.set(name, Number(value))
    }
    return agents.map((agent) => {
      const limit = limits.get(agent.name)
      return limit === undefined ? agent : { ...agent, concurrency: limit }
    })
  })

/** Why the layer of a module could not be built; of a service that is missing, which. */
const reasonOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  const missing = missingService(error)
  return missing === undefined
    ? `could not be built: ${failureMessage(error)}`
    : `needs ${missing}, which arcp serve does not have`
}

/** The services that agents get: those of the program, and what their modules bring. */
const servicesOf = (modules: ReadonlyArray<AgentsModule>) =>
  Effect.gen(function* () {
    const brought = modules.map(({ layer, name }) =>
      Layer.catchAllCause(layer, (cause) =>
        Layer.fail(new CannotServe({ message: `--agents ${name}: its layer ${reasonOf(cause)}` }))
      )
    )
    const base = Layer.mergeAll(PublicHttp.layer, SecretsLayer.layer, Layer.context<FileSystem | Path>())
    // A module's layer may use what those before it provide.
    return brought.reduce<Layer.Layer<Provided, CannotServe, FileSystem | Path>>(
      (all, layer) => layer.pipe(Layer.provideMerge(all)),
      base
    )
  })

/** The agents of these modules, with the services that they get. */
export const registryOf = (flags: ServeFlags, modules: ReadonlyArray<AgentsModule>) =>
  Effect.gen(function* () {
    const agents = yield* limited(
      flags,
      modules.flatMap(({ agents, shipped }) => (shipped ? agents : agents.map(traceable)))
    )
    const registry = Registry.layer(agents, { leased: modules.flatMap(({ leased }) => leased) }).pipe(
      Layer.provide(yield* servicesOf(modules))
    )
    return { count: agents.length, registry }
  })

/** How often agents were loaded that are loaded when they are saved, and why those that were saved last are not. */
export interface Loads {
  readonly times: number
  readonly problem: string | undefined
}

/** What a server hosts. */
interface Hosting {
  readonly count: number
  readonly registry: Effect.Effect.Success<ReturnType<typeof registryOf>>["registry"]
  /** Of agents that are loaded when they are saved. */
  readonly loads?: Effect.Effect<Loads> | undefined
}

/** What gives a server its agents: for good, or until they are saved anew. */
export type Host = (
  flags: ServeFlags
) => Effect.Effect<
  Hosting,
  Effect.Effect.Error<ReturnType<typeof registryOf>>,
  Scope.Scope | Layer.Layer.Context<Hosting["registry"]>
>
