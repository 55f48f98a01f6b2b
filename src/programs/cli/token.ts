/** The token of a context, however it is come by. It is asked for when it is needed, and is not kept. */
import { spawn } from "node:child_process"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Context } from "./contexts.js"
import { readRegularFile } from "./regularFile.js"
import { safe } from "./text.js"

/** There is no token to be had; exit code 1. */
export class TokenError extends Data.TaggedError("TokenError")<{ readonly message: string }> {}

/** Time that a command gets for it. */
const commandTimeout = Duration.seconds(20)
/** Bytes of its output, and of what it says on stderr. */
const maxOutput = 65_536

interface Ran {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Ends a command with whatever it has started. */
const end = (pid: number | undefined): void => {
  if (pid === undefined) return
  try {
    process.kill(process.platform === "win32" ? pid : -pid, "SIGKILL")
  } catch {
    // It has ended by itself.
  }
}

/** Runs a command by the shell, in a process group of its own, so that nothing of it is left when it is too slow. */
const run = (command: string): Effect.Effect<Ran, TokenError> =>
  Effect.async((resume) => {
    const child = spawn(command, {
      shell: true,
      detached: process.platform !== "win32",
      windowsHide: true,
      stdio: ["ignore", "pipe", "pipe"]
    })
    const output = { stdout: "", stderr: "" }
    for (const stream of ["stdout", "stderr"] as const)
      child[stream].setEncoding("utf8").on("data", (text: string) => {
        output[stream] += text
        if (output[stream].length > maxOutput) end(child.pid)
      })
    child.once("error", (error) => resume(Effect.fail(new TokenError({ message: error.message }))))
    child.once("close", (code, signal) => resume(Effect.succeed({ code, signal, ...output })))
    return Effect.sync(() => {
      end(child.pid)
      child.stdout.destroy()
      child.stderr.destroy()
    })
  })

/** The last lines of what a command said, as part of a sentence. */
const said = (stderr: string): string => {
  const lines = safe(stderr).trim().split("\n").slice(-5).join("\n  ")
  return lines === "" ? "; it said nothing" : `:\n  ${lines.slice(-2_000)}`
}

const fromCommand = (command: string): Effect.Effect<string, TokenError> =>
  Effect.gen(function* () {
    const { code, signal, stderr, stdout } = yield* Effect.timeoutFail(run(command), {
      duration: commandTimeout,
      onTimeout: () =>
        new TokenError({
          message: `its token command took more than ${Duration.toSeconds(commandTimeout)} s`
        })
    })
    if (stdout.length > maxOutput || stderr.length > maxOutput)
      return yield* new TokenError({ message: `its token command printed more than ${maxOutput} characters` })
    if (code !== 0)
      return yield* new TokenError({
        message: `its token command ${code === null ? `was ended by ${signal}` : `left with ${code}`}${said(stderr)}`
      })
    return stdout
  })

const fromFile = (name: string): Effect.Effect<string, TokenError> =>
  Effect.mapError(
    readRegularFile(name, maxOutput),
    (problem) => new TokenError({ message: `its token file ${name} ${problem}` })
  )

/** A text as a token: what editors and commands put around it is no part of it. */
const clean = (source: string, text: string): Effect.Effect<Redacted.Redacted, TokenError> => {
  const token = text.trim()
  return token === ""
    ? Effect.fail(new TokenError({ message: `${source} gave no token` }))
    : /[\s\p{Cc}]/u.test(token)
      ? Effect.fail(
          new TokenError({ message: `${source} gave more than a token: there are spaces or lines in it` })
        )
      : Effect.succeed(Redacted.make(token))
}

/**
 * The token of a context; `undefined` for one that has none. One that is kept is given as it is, since asking again gives
 * nothing else; what gives one is to be asked for each connection.
 */
export const tokenOf = (name: string, { token, tokenCommand, tokenFile }: Context) => {
  const asked =
    tokenCommand !== undefined
      ? Effect.flatMap(fromCommand(tokenCommand), (text) => clean("its token command", text))
      : tokenFile !== undefined
        ? Effect.flatMap(fromFile(tokenFile), (text) => clean(`its token file ${tokenFile}`, text))
        : undefined
  return token !== undefined
    ? Redacted.make(token.trim())
    : asked &&
        Effect.mapError(asked, ({ message }) => new TokenError({ message: `context ${name}: ${message}` }))
}
