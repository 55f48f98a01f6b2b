#!/usr/bin/env node
/** The `arcp` program. */
import * as Command from "@effect/cli/Command"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import { agents, cancel, jobs, watch } from "./cli/commands.js"
import { credentials } from "./cli/credentials.js"
import { leaving, report } from "./cli/exit.js"
import { replay } from "./cli/replay.js"
import { serve } from "./cli/serve.js"
import { submit } from "./cli/submit.js"
import { version } from "./version.js"

const arcp = Command.make("arcp").pipe(
  Command.withDescription("Run agents, and submit, watch, cancel and replay jobs over ARCP"),
  Command.withSubcommands([serve, submit, watch, jobs, cancel, agents, credentials, replay])
)

const main = Command.run(arcp, { name: "arcp", version: `${version} (ARCP 1.1)` })(process.argv)

main.pipe(
  Effect.catchAllCause(report),
  Effect.provide(NodeContext.layer),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (_, leave) => leave(leaving.code)
  })
)
