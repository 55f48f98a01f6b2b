/** `arcp dev`: a server whose agents are loaded anew when they are saved. */
import { spawn } from "node:child_process"
import { resolve } from "node:path"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as RegistryLayer from "../../../layers/agents/Registry.js"
import { isLoopback } from "../../../protocol/Loopback.js"
import { failureMessage } from "../../../services/agents/Agent.js"
import { Registry } from "../../../services/agents/Registry.js"
import { loadModules } from "../agents-module.js"
import type { DevFlags } from "../dev.js"
import { addressOf } from "../reloadHooks.js"
import { type Watched, watched } from "../reloading.js"
import type { ServeFlags } from "../serve.js"
import { isShipped } from "../shipped.js"
import { type Host, type Loads, registryOf } from "./hosting.js"
import { serving } from "./serve.js"
import { inNameOfModule } from "./strays.js"

/** Loads the agents for the `load`-th time. */
const loaded = (flags: ServeFlags, { read }: Watched, load: number) =>
  Effect.flatMap(
    loadModules(flags.agents, { address: (file) => addressOf(file, load), read, within: inNameOfModule }),
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
  inventory.flatMap(({ name, versions }) => versions.map((version) => `${name}@${version}`)).join(", ") ||
  "no agents"

const problemOf = (cause: Cause.Cause<unknown>): string =>
  failureMessage(Cause.squash(cause)).replace(/^--agents /, "")

/** How long a server waits for its agents before it serves without them, or says that those that were saved do not come. */
const patience = "3 seconds"

/**
 * Agents that are loaded anew when a file of theirs is saved; when they do not load, those before them go on, or none. A load
 * that has not come to an end when something is saved is left.
 */
const reloading: Host = (flags) =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const files = yield* watched
    for (const file of flags.agents) if (!isShipped(file)) files.file(resolve(file))
    // Jobs of earlier agents may still use their services, so none is given back before the server ends.
    const build = <E, R>(layer: Layer.Layer<Registry, E, R>) =>
      Effect.map(Layer.buildWithScope(Layer.fresh(layer), scope), Context.get(Registry))
    let current = yield* Effect.orDie(build(RegistryLayer.layer([])))
    let loads: Loads = { times: 0, problem: undefined }
    const begun = yield* Deferred.make<void>()
    const took = (next: Registry["Type"], load: number) =>
      Effect.suspend(() => {
        // What was read is watched before anybody hears of it.
        files.read()
        current = next
        loads = { times: load + 1, problem: undefined }
        return load === 0 ? Effect.void : say(`loaded anew: ${names(next)}`)
      })
    const failed = (cause: Cause.Cause<unknown>) =>
      Effect.suspend(() => {
        if (Cause.isInterruptedOnly(cause)) return Effect.interrupt
        loads = { ...loads, problem: problemOf(cause) }
        const left = loads.times === 0 ? "there are no agents yet" : "the agents before go on"
        return say(`not loaded, ${left}: ${loads.problem}\n  it is loaded again when it is saved`)
      })
    /** A load of what was saved that does not come to its end is said to be underway, and waited for. */
    const late = Effect.suspend(() => {
      loads = {
        ...loads,
        problem: `they are not loaded within ${patience}: a module of theirs waits for something`
      }
      return say(`not loaded yet, the agents before go on: ${loads.problem}`)
    })
    const watchedFor = <A, E, R>(time: number, work: Effect.Effect<A, E, R>) =>
      Effect.acquireUseRelease(
        // What is begun while nothing can be interrupted could not be, either.
        Effect.fork(Effect.interruptible(Effect.when(Effect.delay(late, patience), () => time > 0))),
        () => work,
        Fiber.interrupt
      )
    const load = (time: number) =>
      watchedFor(time, loaded(flags, files, time)).pipe(
        Effect.flatMap(({ registry }) => build(registry)),
        Effect.matchCauseEffect({ onSuccess: (next) => took(next, time), onFailure: failed }),
        Effect.zipRight(Deferred.succeed(begun, undefined)),
        Effect.zipRight(Effect.never),
        Effect.disconnect
      )
    const loading = (
      time: number
    ): Effect.Effect<never, never, Effect.Effect.Context<ReturnType<typeof load>>> =>
      Effect.zipRight(
        Effect.raceFirst(load(time), files.saved),
        Effect.suspend(() => loading(time + 1))
      )
    yield* Effect.forkScoped(loading(0))
    yield* Effect.timeoutTo(Deferred.await(begun), {
      duration: patience,
      onSuccess: () => Effect.void,
      onTimeout: () => say(`the agents are not loaded within ${patience}: they are served when they are`)
    }).pipe(Effect.flatten)
    return {
      count: current.inventory.reduce((sum, { versions }) => sum + versions.length, 0),
      registry: Layer.succeed(
        Registry,
        following(() => current)
      ),
      loads: Effect.sync(() => loads)
    }
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

/**
 * Serves the agents of a file. Whoever has a token may cancel what was submitted with it, also from another tab. What an agent throws
 * is told to whoever submits: on this machine, that is who writes it. What is thrown in a timer of a file that is being written is
 * logged, and what is saved next is loaded.
 */
export const run = ({ open, ...flags }: DevFlags, file: string) =>
  serving({ ...flags, agents: [file, ...flags.agents], cancel: "principal" }, reloading, {
    onAddress: open ? openPage : undefined,
    defaults: { revealFailures: flags.transport === "stdio" || isLoopback(flags.host) },
    afterException: "go on"
  })
