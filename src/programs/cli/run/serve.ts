/** What `arcp serve` does. */
import { realpathSync, statSync } from "node:fs"
import { resolve } from "node:path"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { ownName } from "../../../layers/cluster/ownName.js"
import * as Runtime from "../../../layers/runtime/Runtime.js"
import * as SecretsLayer from "../../../layers/runtime/Secrets.js"
import { reserveStreams } from "../../../layers/transport/reserveStreams.js"
import * as TransportStdio from "../../../layers/transport/TransportStdio.js"
import type { Login } from "../../../layers/transport/WebConsole.js"
import * as WebSocketListener from "../../../layers/transport/WebSocketListener.js"
import { describe } from "../../../protocol/Problem.js"
import { EventLog } from "../../../services/log/EventLog.js"
import { fileProblem } from "../../../services/runtime/fileProblem.js"
import * as RuntimeOptions from "../../../services/runtime/RuntimeOptions.js"
import { TransportServer } from "../../../services/transport/Transport.js"
import { version } from "../../version.js"
import { loadModules } from "../agents-module.js"
import { exitCode } from "../exit.js"
import type { ServeFlags } from "../serve.js"
import { json } from "../text.js"
import { UsageError } from "../UsageError.js"
import { checkAddress } from "./address.js"
import { authentication } from "./authentication.js"
import { consoleAddress, loginFor } from "./console.js"
import { demoPages } from "./demo.js"
import { CannotServe, type Host, registryOf } from "./hosting.js"
import { keptIn, runtimeOf } from "./keeping.js"
import { limitsOf } from "./limits.js"
import { routes } from "./routes.js"
import { keepStreams } from "./standardStreams.js"
import { type AfterException, unless, watch } from "./strays.js"
import { readersOf, telemetry } from "./telemetry.js"

/** The flags that give a duration, by the option that it is for. */
const durations = (flags: ServeFlags) => ({
  heartbeatInterval: { flag: "--heartbeat-sec", value: flags.heartbeatSec, unit: "seconds" },
  resumeWindow: { flag: "--resume-window-sec", value: flags.resumeWindowSec, unit: "seconds" },
  cancelGrace: { flag: "--cancel-grace-ms", value: flags.cancelGraceMs, unit: "millis" },
  shutdownGrace: { flag: "--shutdown-grace-ms", value: flags.shutdownGraceMs, unit: "millis" }
})

/** The directory itself, links resolved. */
const directory = (workspace: string): Effect.Effect<string, UsageError> =>
  Effect.try({
    try: () => {
      if (!statSync(workspace).isDirectory()) throw new Error("it is no directory")
      return realpathSync(workspace)
    },
    catch: (error) => new UsageError({ message: `--workspace ${workspace}: ${fileProblem(error)}` })
  })

/** The flags that are options of the runtime, over what these are by default. */
const runtimeOptions = (
  flags: ServeFlags,
  defaults: RuntimeOptions.Input
): Effect.Effect<RuntimeOptions.Input, UsageError> =>
  Effect.gen(function* () {
    const input: Record<string, unknown> = { ...defaults, ...(yield* limitsOf(flags.limit)) }
    const twice = (flag: string, name: string) =>
      new UsageError({ message: `choose ${flag} or --limit ${name}=…, not both` })
    for (const [name, { flag, unit, value }] of Object.entries(durations(flags))) {
      if (Option.isNone(value)) continue
      if (Object.hasOwn(input, name)) return yield* twice(flag, name)
      input[name] = `${value.value} ${unit}`
    }
    if (Option.isSome(flags.workspace) && Object.hasOwn(input, "workspace"))
      return yield* twice("--workspace", "workspace")
    input["workspace"] = yield* directory(
      resolve(String(input["workspace"] ?? Option.getOrElse(flags.workspace, () => ".")))
    )
    return yield* Schema.decodeUnknown(RuntimeOptions.RuntimeOptionsSchema)(input).pipe(
      Effect.mapError((error) => {
        const problem = describe(error.issue, "")
        const duration = Object.entries(durations(flags)).find(
          ([name, { value }]) => Option.isSome(value) && problem.startsWith(`.${name}:`)
        )
        return new UsageError({
          message:
            duration === undefined
              ? `--limit ${problem.slice(1)}`
              : `${duration[1].flag}${problem.slice(duration[0].length + 1)}`
        })
      })
    )
  })

const hasDemo = (flags: ServeFlags): boolean => flags.agents.length === 0 || flags.agents.includes("demo")

/** A command to begin with. */
const firstCommand = (flags: ServeFlags) =>
  hasDemo(flags)
    ? { command: "submit survey", rest: ` --input '{"root":"."}' --lease 'fs.read=./**'` }
    : { command: "agents", rest: "" }

/** What a command does otherwise than `arcp serve`. */
interface Differently {
  /** What is done with the address of the console, once it is there. */
  readonly onAddress?: ((page: string) => Effect.Effect<void>) | undefined
  /** Options of the runtime that flags may still change. */
  readonly defaults?: RuntimeOptions.Input | undefined
  /** What becomes of it when something throws that nothing catches. Default: it shuts down. */
  readonly afterException?: AfterException | undefined
}

const announce = (
  flags: ServeFlags,
  token: string | undefined,
  login: Login | undefined,
  { onAddress }: Differently
) =>
  Effect.gen(function* () {
    const { address } = yield* TransportServer
    yield* Effect.logInfo(`listening on ${address}`)
    if (flags.transport === "stdio") {
      if (token !== undefined) yield* Console.error(`token ${token}`)
      return
    }
    const page = consoleAddress(address, login)
    if (onAddress !== undefined) yield* onAddress(page)
    if (flags.json)
      return yield* Console.log(
        json({ listening: address, ...(token === undefined ? {} : { token }), console: page })
      )
    yield* Console.log(`listening ${address}`)
    if (token !== undefined) {
      const { command, rest } = firstCommand(flags)
      yield* Console.log(`token ${token}\ntry: arcp ${command} --url ${address} --token ${token}${rest}`)
      if (hasDemo(flags)) {
        const demo = new URL("/demo", address.replace(/^ws/, "http"))
        // After the #, which no server sees.
        demo.hash = new URLSearchParams({ token, root: resolve(".") }).toString()
        yield* Console.log(`or open ${demo.href}`)
      }
    }
    yield* Console.log(`console ${page}${login === undefined ? "" : " (this link logs in once)"}`)
  })

/**
 * Runs a server. A log that has stopped by itself stores nothing any more, and whoever waits for its store may wait for a Postgres
 * that does not answer: when all has not ended some seconds later the process leaves all the same, so that it is started again.
 */
const leavingInTime = <A, E, R>(
  use: (leavesSoon: Effect.Effect<void>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    let timer: NodeJS.Timeout | undefined
    const leavesSoon = Effect.sync(() => {
      timer ??= setTimeout(() => process.exit(exitCode.error), Duration.toMillis(lastWords)).unref()
    })
    return Effect.ensuring(
      use(leavesSoon),
      Effect.sync(() => clearTimeout(timer))
    )
  })
const lastWords = Duration.seconds(10)

const once: Host = (flags) =>
  Effect.flatMap(loadModules(flags.agents.length === 0 ? ["demo"] : flags.agents), (modules) =>
    registryOf(flags, modules)
  )

/** Serves until a signal comes. */
export const run = (flags: ServeFlags) => serving(flags, once)

/**
 * Loads the optional parts when their flags are there: loading is most of what a start costs. The agents get the
 * services that the program has.
 */
export const serving = (given: ServeFlags, host: Host, differently: Differently = {}) =>
  leavingInTime((leavesSoon) => {
    const flags = given.cluster ? { ...given, node: Option.orElseSome(given.node, ownName) } : given
    return served(flags, host, differently, leavesSoon).pipe(Effect.scoped, Effect.provide(telemetry(flags)))
  })

const served = (flags: ServeFlags, host: Host, differently: Differently, leavesSoon: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const kept = yield* keptIn(flags)
    yield* checkAddress(flags)
    const crashed = yield* watch(differently.afterException ?? "shut down")
    // Before the modules of agents are loaded, which may write as well.
    const reserved = flags.transport === "stdio" ? yield* reserveStreams : undefined
    yield* keepStreams
    const limits = yield* runtimeOptions(flags, differently.defaults ?? {})
    const auth = yield* authentication(flags)
    const login = yield* loginFor(auth.token)
    const { count, loads, registry } = yield* host(flags)
    const readers = yield* readersOf(flags)
    // Nothing begins that a flag, a variable, or what either names stands in the way of.
    const starts = Effect.logInfo(
      `arcp ${version} starts with ${count} ${count === 1 ? "agent" : "agents"}, on ${kept.name}`
    )
    const runtime = yield* runtimeOf(flags, kept, limits, starts)
    const transport =
      flags.transport === "stdio"
        ? TransportStdio.layer(reserved)
        : WebSocketListener.layer({
            host: flags.host,
            port: flags.port,
            path: flags.path,
            allowInsecure: flags.allowInsecure,
            ...(flags.allowHost.length === 0 ? {} : { allowedHosts: flags.allowHost }),
            trustedProxies: flags.trustProxy,
            ...(flags.allowOrigin.length === 0 ? {} : { allowedOrigins: flags.allowOrigin }),
            ...(hasDemo(flags) ? { pages: demoPages(flags.path) } : {}),
            routes: routes(flags, { login, loads, readers })
          })
    // A port is served until a signal comes, stdin and stdout until the parent closes them; either ends with the log.
    const stopped = Effect.flatMap(EventLog, (log) => Effect.tapError(log.stopped, () => leavesSoon))
    const serving =
      flags.transport === "stdio"
        ? Effect.zipRight(Effect.forkScoped(Effect.ignore(stopped)), Runtime.serveAll)
        : Effect.zipRight(Layer.build(Runtime.serve()), stopped)
    yield* announce(flags, auth.token, login, differently).pipe(
      Effect.zipRight(unless(crashed, serving)),
      Effect.scoped,
      Effect.provide(
        transport.pipe(
          Layer.provideMerge(runtime),
          Layer.provide(registry),
          Layer.provide(auth.layer),
          Layer.provide(SecretsLayer.layer)
        )
      ),
      // Here it is the server that has no port, and not a client that finds no server.
      Effect.catchTag("TransportError", ({ message }) => new CannotServe({ message })),
      // One that cannot begin, or go on, is told last why.
      Effect.onExit((exit) =>
        Exit.isSuccess(exit) || Exit.isInterrupted(exit) ? Effect.logInfo("arcp has stopped") : Effect.void
      )
    )
  })
