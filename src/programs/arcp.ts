#!/usr/bin/env node
/**
 * The `arcp` program. Help, versions and mistakes are answered with what is loaded here, which is only data; what a command
 * does, and Effect with it, is loaded when it is asked for.
 */
import { whatIsMissing } from "../services/runtime/optionalPackages.js"
import { commands } from "./cli/commands.js"
import { parse } from "./cli/parse.js"
import { said } from "./cli/said.js"
import { coloured, safe } from "./cli/text.js"

const asked = parse(commands, process.argv.slice(2), process.env)

if (asked._tag === "Run") {
  try {
    const { start } = await import("./cli/start.js")
    start(asked)
  } catch (error) {
    const missing = whatIsMissing("arcp", "@effect/platform-node", error)
    if (missing === undefined) throw error
    process.exitCode = 1
    process.stderr.write(`error: ${missing}\n`)
  }
} else {
  const columns = Math.min(process.stdout.columns ?? 80, 100)
  const { stream, text, code } = said(asked, { columns, colours: coloured(process.stdout) })
  process.exitCode = code
  process[stream].write(`${stream === "stderr" ? safe(text) : text}\n`)
}
