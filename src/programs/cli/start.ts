/** Runs a command as this process. */
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Written } from "./Command.js"
import { commands } from "./commands.js"
import { leaving } from "./exit.js"
import * as Files from "./files.js"
import { main } from "./main.js"

export const start = (name: string, written: Written): void => {
  const command = commands.find((command) => command.name === name)
  if (command === undefined) throw new Error(`there is no command ${name}`)
  // A terminal that is closed says no more than that somebody wants the program to end.
  // Whoever says so twice does not wait: by then nobody listens, and the signal itself ends the program.
  process.on("SIGHUP", () => {
    if (!process.emit("SIGTERM", "SIGTERM")) process.kill(process.pid, "SIGTERM")
  })
  main({ command, written }).pipe(
    Effect.provide(Layer.mergeAll(Files.layer, NodePath.layer)),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      // It writes to stdout, beside the logger of a command.
      disablePrettyLogger: true,
      // A server leaves when it has ended, whatever agents that did not have still wait for.
      teardown: (_, leave) => (command.untilSignal ? process.exit(leaving.code) : leave(leaving.code))
    })
  )
}
