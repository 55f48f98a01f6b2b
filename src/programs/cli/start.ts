/** Runs a command as this process. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { leaving } from "./exit.js"
import { main } from "./main.js"
import type { Asked } from "./parse.js"

export const start = (asked: Extract<Asked, { _tag: "Run" }>): void => {
  // A terminal that is closed says no more than that somebody wants the program to end.
  process.on("SIGHUP", () => process.emit("SIGTERM", "SIGTERM"))
  main(asked).pipe(
    Effect.provide(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer)),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      // It writes to stdout, beside the logger of a command.
      disablePrettyLogger: true,
      teardown: (_, leave) => leave(leaving.code)
    })
  )
}
