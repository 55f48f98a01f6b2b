/**
 * The built runtime inside this process: reached through the in-memory pair, which has the same frames and no socket, or
 * through a pair of streams as over stdin and stdout. It takes the flags of `arcp serve` that are options of the runtime.
 */
import { PassThrough } from "node:stream"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import type { Closed, Dialer, TransportServer } from "../../../src/services/transport/Transport.js"
import { dialLines } from "./Program.js"
import { textOnly, type Wire, type WireListener } from "./Wire.js"

/** Modules of the build. The type check must not need one. */
const built = (path: string) => import(new URL(`../../../dist/${path}`, import.meta.url).href)
const root = (): Promise<typeof import("../../../src/index.js")> => built("index.js")
const agentsModule = (): Promise<typeof import("../../../src/programs/cli/agents-module.js")> =>
  built("programs/cli/agents-module.js")
const node = (): Promise<typeof import("../../../src/node.js")> => built("node.js")
const jwt = (): Promise<typeof import("../../../src/jwt.js")> => built("jwt.js")

interface Flags {
  readonly options: Record<string, unknown>
  readonly agents: Array<string>
  jwtSecret: string | undefined
}

const units = { Sec: "seconds", Ms: "millis" } as const

/** An option as `--limit` names it: durations with the unit in their name, too. */
const set = ({ options }: Flags, name: string, value: string): void => {
  const [, option, unit] = /^(\w+?)(Sec|Ms)$/.exec(name) ?? []
  if (option === undefined) options[name] = Number.isNaN(Number(value)) ? value : Number(value)
  else options[option] = `${value} ${units[unit as keyof typeof units]}`
}

const flags: Readonly<Record<string, (flags: Flags, value: string) => void>> = {
  "--limit": (flags, value) =>
    set(flags, value.slice(0, value.indexOf("=")), value.slice(value.indexOf("=") + 1)),
  "--heartbeat-sec": (flags, value) => set(flags, "heartbeatIntervalSec", value),
  "--resume-window-sec": (flags, value) => set(flags, "resumeWindowSec", value),
  "--cancel-grace-ms": (flags, value) => set(flags, "cancelGraceMs", value),
  "--shutdown-grace-ms": (flags, value) => set(flags, "shutdownGraceMs", value),
  "--agents": ({ agents }, value) => agents.push(value),
  "--jwt-secret": (flags, value) => {
    flags.jwtSecret = value
  }
}

/** What of `args` a runtime in this process does not know, nothing when it knows all. */
export const foreignFlag = (args: ReadonlyArray<string>): string | undefined =>
  args.filter((arg) => arg.startsWith("--") && arg !== "--memory").find((arg) => !Object.hasOwn(flags, arg))

const parse = (args: ReadonlyArray<string>): Flags => {
  const parsed: Flags = { options: {}, agents: ["conformance"], jwtSecret: undefined }
  const rest = args.filter((arg) => arg !== "--memory")
  for (let i = 0; i < rest.length; i += 2) flags[rest[i] ?? ""]?.(parsed, rest[i + 1] ?? "")
  return parsed
}

/** A runtime that serves over `transport`, and what that brings. */
const serving = async <A>(
  args: ReadonlyArray<string>,
  transport: Layer.Layer<A | TransportServer, never, RuntimeOptions.RuntimeOptions>
): Promise<Layer.Layer<A | TransportServer, unknown>> => {
  const { agents: names, jwtSecret, options } = parse(args)
  const [{ Auth, Registry, Runtime, Secrets }, { loadAgents }] = await Promise.all([root(), agentsModule()])
  const agents = await Effect.runPromise(loadAgents(names))
  const auth =
    jwtSecret === undefined
      ? Auth.layerStatic({ "tok-a": "alice", "tok-b": "bob" })
      : (await jwt()).AuthJwt.layer({ key: { secret: Redacted.make(jwtSecret) } })
  return Runtime.serve().pipe(
    Layer.provideMerge(transport),
    Layer.provide(Runtime.layerMemory({ options: options as RuntimeOptions.Input })),
    Layer.provide(Registry.layer(agents)),
    Layer.provide(auth),
    Layer.provide(Layer.mergeAll(Secrets.layer, NodeContext.layer, FetchHttpClient.layer)),
    Layer.provide(Logger.remove(Logger.defaultLogger))
  )
}

/** Frames as the runtime sent them, until it ends the connection. */
const wire = (dialer: Dialer["Type"], listener: WireListener): Effect.Effect<Wire, unknown> =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const connection = yield* Scope.extend(dialer.connect, scope)
    yield* connection.setMaxFrameBytes(64 * 1024 * 1024)
    let open = Promise.resolve()
    const close = (code: number) => {
      void Effect.runPromise(connection.close(code, ""))
    }
    let paused: Array<() => void> | undefined
    const unpaused = Effect.async<void>((resume) => {
      if (paused === undefined) resume(Effect.void)
      else paused.push(() => resume(Effect.void))
    })
    const reading = Effect.forever(
      Effect.zipRight(
        unpaused,
        Effect.map(connection.take, (frames) => {
          for (const frame of Chunk.toReadonlyArray(frames))
            listener.text(typeof frame === "string" ? frame : `(${frame.reason})`)
        })
      )
    ).pipe(
      Effect.catchAll(({ code, reason }: Closed) => Effect.sync(() => listener.closed({ code, reason }))),
      Effect.zipRight(Scope.close(scope, Exit.void))
    )
    Effect.runFork(reading)
    return {
      send: (text) => {
        const frame = textOnly(text)
        // One after the other, as over a socket.
        open = open.then(() => Effect.runPromise(connection.send([frame])))
      },
      close: () => close(1000),
      drop: () => close(1006),
      pause: () => {
        paused ??= []
      },
      resume: () => {
        const waiting = paused ?? []
        paused = undefined
        for (const go of waiting) go()
      }
    }
  })

export interface LocalRuntime {
  readonly dial: (listener: WireListener) => Promise<Wire>
  readonly stop: () => Promise<void>
}

export const startMemory = async (args: ReadonlyArray<string>): Promise<LocalRuntime> => {
  const { Transport, TransportMemory } = await root()
  const runtime = ManagedRuntime.make(await serving(args, TransportMemory.layer()))
  const dialer = await runtime.runPromise(Transport.Dialer)
  return { dial: (listener) => Effect.runPromise(wire(dialer, listener)), stop: () => runtime.dispose() }
}

export const startLines = async (args: ReadonlyArray<string>): Promise<LocalRuntime> => {
  const { TransportStdio } = await node()
  const stdin = new PassThrough()
  const stdout = new PassThrough()
  const runtime = ManagedRuntime.make(
    await serving(args, TransportStdio.layer({ input: stdin, output: stdout }))
  )
  await runtime.runPromise(Effect.void)
  // It ends its output when it closes the one connection.
  const exited = new Promise<{ readonly code: number }>((resolve) => {
    stdout.once("close", () => resolve({ code: 0 }))
  })
  return { dial: dialLines({ stdin, stdout, exited }), stop: () => runtime.dispose() }
}
