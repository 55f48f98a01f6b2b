/** Starts a runtime as a child process and talks to it over its stdin and stdout (§4). */

import { type ChildProcessByStdio, spawn } from "node:child_process"
import type { Readable, Writable } from "node:stream"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { timerMillis } from "../../services/runtime/timerMillis.js"
import {
  Closed,
  type Connection,
  closeCode,
  Dialer,
  TransportError
} from "../../services/transport/Transport.js"
import { checkStdio } from "./dialling.js"
import * as LineConnection from "./LineConnection.js"

/** Options of a dialer that starts the runtime as a child process. */
export interface Options {
  /** The program, looked up in `PATH`, and its arguments. No shell is involved. */
  readonly command: string
  readonly args?: ReadonlyArray<string> | undefined
  /** Default: this process's. */
  readonly cwd?: string | undefined
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
  /** Largest inbound frame, in bytes. Default: 16 MiB. */
  readonly maxFrameBytes?: number | undefined
  /**
   * Time the child gets to exit after its stdin was closed, before SIGTERM; and again before SIGKILL. Default: 10
   * seconds.
   */
  readonly killGrace?: Duration.DurationInput | undefined
}

type ServerProcess = ChildProcessByStdio<Writable, Readable, null>

/** Starts the child; its stderr is ours. */
const start = (options: Options): Effect.Effect<ServerProcess, TransportError> =>
  Effect.async((resume) => {
    const child = spawn(options.command, [...(options.args ?? [])], {
      stdio: ["pipe", "pipe", "inherit"],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: { ...options.env } })
    })
    child.once("spawn", () => resume(Effect.succeed(child)))
    // Stays for good: a failing kill is an event as well.
    child.on("error", (cause) =>
      resume(
        new TransportError({
          message: `cannot start ${options.command}: ${cause.message}; check the command and the working directory`,
          cause
        })
      )
    )
  })

const hasExited = (child: ServerProcess) => child.exitCode !== null || child.signalCode !== null

/** Waits for the child to exit by itself, then asks it to, then makes it. */
const reap = (child: ServerProcess, grace: Duration.Duration): Effect.Effect<void> =>
  Effect.async((resume) => {
    const terminate = setTimeout(() => child.kill("SIGTERM"), timerMillis(grace))
    const kill = setTimeout(() => child.kill("SIGKILL"), timerMillis(Duration.times(grace, 2)))
    const gone = () => {
      clearTimeout(terminate)
      clearTimeout(kill)
      resume(Effect.void)
    }
    child.once("exit", gone)
    if (hasExited(child)) gone()
  })

const exited = (child: ServerProcess): Closed =>
  child.exitCode === 0
    ? new Closed({ code: closeCode.normal, reason: "the runtime has exited" })
    : new Closed({
        code: closeCode.abnormal,
        reason:
          child.exitCode === null
            ? `the runtime was ended by ${child.signalCode}`
            : `the runtime exited with code ${child.exitCode}`
      })

/** Starts the child and connects. With the scope its stdin is closed, and it is waited for or killed. */
export const connect = (options: Options): Effect.Effect<Connection, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(start(options), (child) =>
      Effect.suspend(() => {
        child.stdin.end()
        // What it still writes is read, or it could not come to its end.
        child.stdout.resume()
        return reap(child, Duration.decode(options.killGrace ?? "10 seconds"))
      })
    )
    return LineConnection.make({
      input: child.stdout,
      output: child.stdin,
      remote: `${options.command} (${child.pid})`,
      maxFrameBytes: options.maxFrameBytes ?? 16 * 1024 * 1024,
      // Its output ends before its exit status is known, and the status says more.
      onInputEnd: (end) =>
        hasExited(child) ? end(exited(child)) : child.once("exit", () => end(exited(child)))
    })
  })

/** A dialer each of whose connections is a child of its own. */
export const layer = (options: Options): Layer.Layer<Dialer> => {
  checkStdio(options)
  return Layer.succeed(Dialer, { connect: connect(options), ephemeral: true })
}
