/** `arcp dev`: a server to write agents with. */
import * as Command from "./Command.js"
import * as Flags from "./Flags.js"
import { logFormat, onlys, options, presentation } from "./serve.js"
import { isShipped } from "./shipped.js"

// Whoever has a token may cancel what was submitted with it, also from another tab.
const { cancel: _, ...ofServe } = options

const devOptions = {
  ...ofServe,
  agents: Flags.text("agents").pipe(
    Flags.withDescription("demo, conformance, or a module that exports agents, beside those of FILE"),
    Flags.repeated
  ),
  logFormat: logFormat("pretty"),
  open: Flags.boolean("open").pipe(Flags.withDescription("open the console in the browser"))
}
export type DevFlags = Flags.Values<typeof devOptions>

export const dev = Command.make(
  {
    name: "dev",
    summary: "Serve the agents of a file while you write it: they are loaded anew when it is saved",
    arguments: [
      { name: "FILE", description: "a module that exports agents: .mjs, .js, .ts", optional: false }
    ],
    flags: Flags.presented(devOptions, {
      ...presentation,
      Agents: { ...presentation["Agents"], open: "" }
    }),
    onlys,
    untilSignal: true,
    serves: true,
    examples: ["arcp dev ./agents.ts --open", "arcp dev ./agents.mjs --port 0 --memory"],
    more: {
      "What an agent throws": [
        "The log has it with its stack, and clients are told its message. With a --host",
        "that others can reach, or with --limit revealFailures=false, they are told only",
        "that the agent failed; --limit revealFailures=true tells them everywhere."
      ]
    },
    modules: ({ texts, words }) =>
      [...words.slice(0, 1), ...(texts.get(options.agents.name) ?? [])].filter((name) => !isShipped(name))
  },
  () => import("./run/dev.js")
)
