/** `arcp dev`: a server whose agents are loaded anew when they are saved. */
import { spawn } from "node:child_process"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { failureMessage } from "../../../services/agents/Agent.js"
import { Registry } from "../../../services/agents/Registry.js"
import { loadModules } from "../agents-module.js"
import type { DevFlags } from "../dev.js"
import { addressOf } from "../reloadHooks.js"
import { watched } from "../reloading.js"
import type { ServeFlags } from "../serve.js"
import { type Host, registryOf } from "./hosting.js"
import { serving } from "./serve.js"

/** Loads the agents for the `load`-th time. */
const loaded = (flags: ServeFlags, load: number) =>
  Effect.flatMap(
    loadModules(flags.agents, (file) => addressOf(file, load)),
    (modules) => registryOf(flags, modules)
  )

const say = (text: string) => Console.error(text)

/** A registry that asks the newest one: a job that has begun keeps its agent, the next gets the one that was saved. */
const following = (current: () => Registry["Type"]): Registry["Type"] => ({
  get inventory() {
    return current().inventory
  },
  get described() {
    return current().described
  },
  resolve: (ref) => current().resolve(ref)
})

const names = ({ inventory }: Registry["Type"]) =>
  inventory.map(({ name, versions }) => versions.map((version) => `${name}@${version}`).join(", ")).join(", ")

/** Agents that are loaded anew when a file of theirs is saved; when they do not load, those before them go on. */
const reloading: Host = (flags) =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const { saved } = yield* watched
    const first = yield* loaded(flags, 0)
    type Needs = Layer.Layer.Context<typeof first.registry>
    const registry = Layer.scoped(
      Registry,
      Effect.gen(function* () {
        // Jobs of earlier agents may still use their services, so none is given back before the server ends.
        const build = (layer: typeof first.registry) =>
          Effect.map(Layer.buildWithScope(Layer.fresh(layer), scope), Context.get(Registry))
        let current = yield* build(first.registry)
        const again = (load: number): Effect.Effect<never, never, Needs> =>
          saved.pipe(
            Effect.zipRight(loaded(flags, load)),
            Effect.flatMap(({ registry }) => build(registry)),
            Effect.flatMap((next) =>
              Effect.suspend(() => {
                current = next
                return say(`loaded anew: ${names(next)}`)
              })
            ),
            Effect.catchAllCause((cause) =>
              Cause.isInterruptedOnly(cause)
                ? Effect.interrupt
                : say(`not loaded, the agents before go on: ${failureMessage(Cause.squash(cause))}`)
            ),
            Effect.zipRight(Effect.suspend(() => again(load + 1)))
          )
        yield* Effect.forkScoped(again(1))
        return following(() => current)
      })
    )
    return { count: first.count, registry }
  })

/** Opens an address in the browser of whoever runs this; where there is none, the address was printed. */
const openPage = (address: string) =>
  Effect.sync(() => {
    const [command, ...words] =
      process.platform === "darwin"
        ? ["open"]
        : process.platform === "win32"
          ? ["cmd", "/c", "start", ""]
          : ["xdg-open"]
    const child = spawn(command as string, [...words, address], { stdio: "ignore", detached: true })
    child.on("error", () => {})
    child.unref()
  })

/** Serves the agents of a file. Whoever has a token may cancel what was submitted with it, also from another tab. */
export const run = ({ open, ...flags }: DevFlags, file: string) =>
  serving(
    { ...flags, agents: [file, ...flags.agents], cancel: "principal" },
    reloading,
    open ? openPage : undefined
  )
