#!/usr/bin/env node
/** The `arcp` program. What a subcommand does is loaded when it is asked for: `cli/run`. */
import * as Command from "@effect/cli/Command"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { complete, harmlessly, plainly } from "./cli/arguments.js"
import { agents, cancel, jobs, watch } from "./cli/commands.js"
import { credentials } from "./cli/credentials.js"
import { leaving, report } from "./cli/exit.js"
import { replay } from "./cli/replay.js"
import { serve } from "./cli/serve.js"
import { submit } from "./cli/submit.js"
import { version } from "./version.js"

const arcp = Command.make("arcp").pipe(
  Command.withDescription("Run agents, and submit, watch, cancel and replay jobs over ARCP"),
  Command.withSubcommands([serve, submit, watch, jobs, cancel, agents, credentials, replay]),
  Command.transformHandler(harmlessly)
)

const main = Command.run(arcp, { name: "arcp", version: `${version} (ARCP 1.1)` })(process.argv)

Effect.zipRight(complete(process.argv), main).pipe(
  plainly,
  Effect.catchAllCause(report),
  Effect.provide(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeTerminal.layer)),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    // It writes to stdout, beside the logger of a command.
    disablePrettyLogger: true,
    teardown: (_, leave) => leave(leaving.code)
  })
)
