/** `arcp context`: runtimes under names, so that a command line says which and not where. */
import * as Command from "./Command.js"
import { logLevel } from "./client-flags.js"
import * as Flags from "./Flags.js"

const text = (name: string, value: string, group: string, description: string) =>
  Flags.text(name).pipe(Flags.withDescription(description), Flags.shownAs(value, group), Flags.optional)

const common = {
  json: Flags.boolean("json").pipe(
    Flags.withDescription("one JSON value per line on stdout"),
    Flags.inGroup("Output")
  ),
  logLevel
}
export type ContextFlags = Flags.Values<typeof common>

const addFlags = {
  url: text("url", "URL", "Runtime", "where it is, as --url of other commands takes it; needed"),
  insecure: Flags.boolean("insecure").pipe(
    Flags.withDescription("allow ws:// to a host that is not this machine"),
    Flags.inGroup("Runtime")
  ),
  tokenCommand: text(
    "token-command",
    "COMMAND",
    "Token",
    "run by the shell for each connection, for 20 s at most and without a terminal; what it prints is the token"
  ),
  tokenFile: text("token-file", "FILE", "Token", "read for each connection"),
  token: text(
    "token",
    "TOKEN",
    "Token",
    "kept as it is in the file of contexts; - reads it from stdin, where no other user sees it"
  ),
  use: Flags.boolean("use").pipe(Flags.withDescription("use it from now on")),
  replace: Flags.boolean("replace").pipe(Flags.withDescription("in place of what has that name")),
  ...common
}
export type AddFlags = Flags.Values<typeof addFlags>

const NAME = { name: "NAME", description: "a name, like prod", optional: false }
const ofContexts = { ...NAME, description: "a context; arcp context list shows them" }

const load = () => import("./run/contexts.js")

const add = Command.make(
  {
    name: "context add",
    summary: "Keep a runtime under a name",
    arguments: [NAME],
    flags: addFlags,
    examples: [
      "arcp context add prod --url wss://agents.example.com/arcp \\",
      "  --token-command 'op read op://prod/arcp/token'",
      "arcp context add ci --url wss://ci.example.com/arcp --token-file ~/.ci-token",
      "arcp context add local --url ws://127.0.0.1:7777/arcp --token secret --use"
    ]
  },
  async () => ({ run: (await load()).add })
)

const listFlags = {
  names: Flags.boolean("names").pipe(Flags.withDescription("only their names"), Flags.inGroup("Output")),
  ...common
}
export type ListFlags = Flags.Values<typeof listFlags>

const list = Command.make(
  {
    name: "context list",
    summary: "List contexts; the one in use has a star",
    flags: listFlags,
    examples: ["arcp context list", "arcp context list --json"]
  },
  async () => ({ run: (await load()).list })
)

const use = Command.make(
  {
    name: "context use",
    summary: "Use a context from now on, where none is named",
    arguments: [ofContexts],
    flags: common,
    examples: ["arcp context use prod"]
  },
  async () => ({ run: (await load()).use })
)

const show = Command.make(
  {
    name: "context show",
    summary: "Show a context, or the one in use; never its token",
    arguments: [{ ...ofContexts, optional: true }],
    flags: common,
    examples: ["arcp context show", "arcp context show prod --json"]
  },
  async () => ({ run: (await load()).show })
)

const rm = Command.make(
  {
    name: "context rm",
    summary: "Forget a context",
    arguments: [ofContexts],
    flags: common,
    examples: ["arcp context rm prod"]
  },
  async () => ({ run: (await load()).rm })
)

const current = Command.make(
  {
    name: "context current",
    summary: "Print the name of the context in use; 1 if none is",
    flags: common,
    examples: ["arcp context current"]
  },
  async () => ({ run: (await load()).current })
)

export const context: Command.Group = {
  name: "context",
  summary: "Keep runtimes and how their tokens are come by under names",
  commands: [add, list, use, show, rm, current],
  examples: [
    "arcp context add prod --url wss://agents.example.com/arcp --token-file ~/.tok",
    "arcp context use prod",
    "arcp jobs                  # of prod",
    "arcp jobs --context stage  # of another, once"
  ],
  more: {
    "Which setting holds": [
      "1  --url, --token and --insecure",
      "2  the context of --context",
      "3  ARCP_URL and ARCP_TOKEN",
      "4  the context of ARCP_CONTEXT, or else the one in use",
      "5  ws://127.0.0.1:7777/arcp",
      "Each is looked for by itself: with --url alone the token is the context's."
    ],
    File: [
      "arcp/config.json in $XDG_CONFIG_HOME, else in ~/.config, on macOS",
      "~/Library/Application Support, on Windows %APPDATA%. It holds the tokens of",
      "--token, and is readable by its owner only (0600)."
    ]
  }
}
