/** `arcp` without a process: the commands as the program puts them together, and what they print. */
import * as NodePath from "@effect/platform-node/NodePath"
import * as ConfigProvider from "effect/ConfigProvider"
import type * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { vi } from "vitest"
import { entries } from "../../../src/programs/cli/commands.js"
import { leaving } from "../../../src/programs/cli/exit.js"
import * as Files from "../../../src/programs/cli/files.js"
import { main } from "../../../src/programs/cli/main.js"
import { parse } from "../../../src/programs/cli/parse.js"
import { said } from "../../../src/programs/cli/said.js"

export interface Result {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const command = (
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>>,
  print: (stream: "stdout" | "stderr", text: string) => void
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const asked = parse(entries, args, environment)
    if (asked._tag !== "Run") {
      const { stream, text, code } = said(asked, { columns: 80, colours: false })
      leaving.code = code
      return print(stream, `${text}\n`)
    }
    const real = yield* Effect.console
    const line = (stream: "stdout" | "stderr") => (text: unknown) =>
      Effect.sync(() => print(stream, `${text}\n`))
    yield* main(asked).pipe(
      Effect.withConsole({
        ...real,
        log: line("stdout"),
        error: line("stderr"),
        // Loggers write past Effect.
        unsafe: { ...real.unsafe, log: () => {}, error: (text: unknown) => print("stderr", `${text}\n`) }
      } as Console.Console),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))),
      Effect.provide(Layer.mergeAll(Files.layer, NodePath.layer))
    )
  })

/** Runs one command to its end. One at a time: the exit code and the standard streams are the process's. */
export const run = async (
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>> = {}
): Promise<Result> => {
  const printed = { stdout: "", stderr: "" }
  const spies = (["stdout", "stderr"] as const).map((stream) =>
    vi.spyOn(process[stream], "write").mockImplementation((text) => {
      printed[stream] += typeof text === "string" ? text : Buffer.from(text).toString()
      return true
    })
  )
  leaving.code = 0
  try {
    await Effect.runPromise(
      command(args, environment, (stream, text) => {
        printed[stream] += text
      })
    )
    return { code: leaving.code, ...printed }
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
}

/** `arcp serve` on a free port for as long as `use` takes. */
export const serving = (
  args: ReadonlyArray<string>,
  use: (address: string) => Promise<void>,
  onPrint: (text: string) => void = () => {}
): Promise<void> =>
  Effect.gen(function* () {
    const address = yield* Deferred.make<string>()
    yield* Effect.forkScoped(
      command(["serve", "--port", "0", ...args], {}, (_, text) => {
        onPrint(text)
        if (text.startsWith("listening "))
          Deferred.unsafeDone(address, Effect.succeed(text.slice("listening ".length).trim()))
      })
    )
    const at = yield* Deferred.await(address)
    yield* Effect.promise(() => use(at))
  }).pipe(Effect.scoped, Effect.runPromise)
