/**
 * What the command line asks for. Help, versions and mistakes are answered with what is loaded here, which is only data; what
 * a command does, and Effect with it, is loaded when it is asked for.
 */
import { whatIsMissing } from "../../services/runtime/optionalPackages.js"
import { columnsOf, fitted } from "./columns.js"
import { entries } from "./commands.js"
import { leaveUnwritten } from "./output.js"
import { parse } from "./parse.js"
import { said } from "./said.js"
import { coloured, safe } from "./text.js"

/** Loads what runs commands: out of the bundle, unless modules of the user's are to run on the same copies. */
const loadStart = async (modules: ReadonlyArray<string>): Promise<typeof import("./start.js")> =>
  modules.length === 0 ? import("./start.js") : import((await import("./copies.js")).startFor(modules).href)

/** Does what the command line asks for; `onCommand` is told before a command is loaded. */
export const followLine = async (onCommand: () => void): Promise<void> => {
  const asked = parse(entries, process.argv.slice(2), process.env)
  // A server says on stdout where it listens, and goes on whatever becomes of that.
  if (asked._tag !== "Run" || !asked.command.serves) leaveUnwritten()
  if (asked._tag === "Run") {
    const { command, written } = asked
    onCommand()
    try {
      const { start } = await loadStart(command.modules(written))
      start(command.name, written)
    } catch (error) {
      const missing = whatIsMissing("arcp", "@effect/platform-node", error)
      if (missing === undefined) throw error
      process.exitCode = 1
      process.stderr.write(`error: ${missing}\n`)
    }
  } else {
    const columns = Math.min(process.stdout.columns || 80, 100)
    const { stream, text, code } = said(asked, { columns, colours: coloured(process.stdout) })
    process.exitCode = code
    process[stream].write(`${stream === "stderr" ? fitted(safe(text), columnsOf(process.stderr)) : text}\n`)
  }
}
