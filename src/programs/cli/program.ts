/**
 * `arcp`, from its command line. Help, versions and mistakes are answered with what is loaded here, which is only data; what
 * a command does, and Effect with it, is loaded when it is asked for.
 */
import { whatIsMissing } from "../../services/runtime/optionalPackages.js"
import { entries } from "./commands.js"
import { parse } from "./parse.js"
import { said } from "./said.js"
import { coloured, columnsOf, fitted, safe } from "./text.js"

const asked = parse(entries, process.argv.slice(2), process.env)

/**
 * The bundle has Effect and this package inside. Modules of the user's import both from `node_modules`, and must find there
 * the copies that the server runs on: for them the command is loaded as it was compiled, which takes longer.
 */
const loadStart = (hostsModules: boolean): Promise<typeof import("./start.js")> =>
  hostsModules ? import(new URL("../cli/start.js", import.meta.url).href) : import("./start.js")

if (asked._tag === "Run") {
  const { command, written } = asked
  try {
    const { start } = await loadStart(command.hostsModules(written))
    start(command.name, written)
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
  process[stream].write(`${stream === "stderr" ? fitted(safe(text), columnsOf(process.stderr)) : text}\n`)
}
