/** Help, written from what the commands declare. */
import { type Command, type Group, isGroup } from "./Command.js"
import { fitted, wrapped } from "./columns.js"
import type { Flag } from "./Flags.js"

/** How a text looks: how wide it may be, and whether headings are bold. */
export interface Page {
  readonly columns: number
  readonly colours: boolean
}

/** Columns that text needs to be read beside something. */
const narrowest = 30

/** Two columns: what there is, and what it is for. */
const table = (rows: ReadonlyArray<readonly [string, string]>, page: Page): ReadonlyArray<string> => {
  const left = Math.min(30, Math.max(...rows.map(([name]) => name.length)) + 4)
  // Too narrow for two: what it is for comes below.
  if (page.columns - left < narrowest)
    return rows.map(([name, text]) => `  ${name}\n      ${wrapped(text, Math.max(20, page.columns - 6), 6)}`)
  return rows.map(([name, text]) => {
    const first = `  ${name}`.padEnd(left)
    const body = wrapped(text, page.columns - left, left)
    return first.length > left ? `${first}\n${" ".repeat(left)}${body}` : `${first}${body}`.trimEnd()
  })
}

const heading = (text: string, { colours }: Page) => (colours ? `\u001b[1m${text}\u001b[0m` : text)

const flagName = (flag: Flag<unknown>) =>
  flag.kind === "boolean" ? `--${flag.name}` : `--${flag.name} ${flag.value}`

const flagText = (flag: Flag<unknown>): string => {
  const notes = [
    ...(flag.occurs === "repeated" ? ["repeatable"] : []),
    ...(flag.environment === undefined ? [] : [`also ${flag.environment}`]),
    ...(flag.kind !== "boolean" && flag.fallback !== undefined && flag.fallback !== ""
      ? [`default ${flag.fallback}`]
      : [])
  ]
  return `${flag.description}${notes.length === 0 ? "" : ` (${notes.join("; ")})`}`
}

const section = (title: string, lines: ReadonlyArray<string>, page: Page): ReadonlyArray<string> =>
  lines.length === 0 ? [] : ["", heading(title, page), ...lines]

/** Lines that are read, and not copied. */
const prose = (lines: ReadonlyArray<string>, { columns }: Page) =>
  indented(lines).map((line) => fitted(line, columns))

const indented = (lines: ReadonlyArray<string>) => lines.map((line) => `  ${line}`)

/** `arcp help COMMAND` */
export const commandHelp = (command: Command, page: Page): string => {
  const groups = new Map<string, Array<Flag<unknown>>>()
  for (const flag of Object.values(command.flags))
    groups.set(flag.group, [...(groups.get(flag.group) ?? []), flag])
  const words = command.arguments.map(({ name, optional }) => (optional ? `[${name}]` : name))
  return [
    wrapped(command.summary, page.columns, 0),
    ...section("Usage", [`  ${["arcp", command.name, ...words, "[flags]"].join(" ")}`], page),
    ...(command.arguments.length === 0
      ? []
      : [
          "",
          ...table(
            command.arguments.map(({ name, description }) => [name, description] as const),
            page
          )
        ]),
    ...[...groups].flatMap(([group, flags]) =>
      section(
        group,
        table(
          flags.map((flag) => [flagName(flag), flagText(flag)] as const),
          page
        ),
        page
      )
    ),
    ...section("Examples", indented(command.examples), page),
    ...Object.entries(command.more).flatMap(([title, lines]) => section(title, prose(lines, page), page))
  ].join("\n")
}

/** `arcp help GROUP` */
export const groupHelp = (group: Group, page: Page): string =>
  [
    ...(group.alone === undefined
      ? [
          wrapped(group.summary, page.columns, 0),
          ...section("Usage", [`  arcp ${group.name} COMMAND [flags]`], page)
        ]
      : [commandHelp(group.alone, page)]),
    ...section(
      "Commands",
      table(
        group.commands.map(({ name, summary, arguments: words }) => [
          [name, ...words.map(({ name, optional }) => (optional ? `[${name}]` : name))].join(" "),
          summary
        ]),
        page
      ),
      page
    ),
    ...section("Examples", indented(group.examples), page),
    ...Object.entries(group.more).flatMap(([title, lines]) => section(title, prose(lines, page), page))
  ].join("\n")

const environment: ReadonlyArray<readonly [string, string]> = [
  ["ARCP_CONTEXT", "a runtime by its name, in place of --context: see arcp help context"],
  ["ARCP_URL", "where the runtime is, in place of --url"],
  ["ARCP_TOKEN", "bearer token, in place of --token"],
  ["ARCP_TOKENS", "for arcp serve: TOKEN=PRINCIPAL, more of them after commas"],
  ["ARCP_JWT_SECRET", "for arcp serve, in place of --jwt-secret"],
  ["ARCP_WEBHOOK_SECRET", "for arcp serve: what requests to --webhook are signed with"],
  ["ARCP_LITELLM_URL, ARCP_LITELLM_KEY", "for arcp serve: the gateway that mints keys for jobs"],
  ["HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "proxies on the way to the runtime, and hosts without one"],
  ["NO_COLOR", "no colours"]
]

/** `arcp --help` */
export const programHelp = (entries: ReadonlyArray<Command | Group>, page: Page): string =>
  [
    wrapped("arcp runs agents, and submits, watches and cancels their jobs over ARCP", page.columns, 0),
    ...section("Usage", ["  arcp COMMAND [flags]"], page),
    ...section(
      "Commands",
      table(
        [
          ...entries.flatMap((entry) => [
            [entry.name, entry.summary] as const,
            // A word that means something alone does not look as if it had commands.
            ...(isGroup(entry) && entry.alone !== undefined
              ? entry.commands.map(({ name, summary }) => [name, summary] as const)
              : [])
          ]),
          ["completions", "Print completions for bash, zsh or fish"],
          ["help", "Say what a command takes: arcp help COMMAND"]
        ],
        page
      ),
      page
    ),
    ...section(
      "Begin with",
      indented([
        "arcp serve                      # in one terminal; prints an address, a token",
        "arcp agents --token TOKEN       # in another",
        `arcp submit survey --token TOKEN --input '{"root":"."}' --lease 'fs.read=./**'`
      ]),
      page
    ),
    ...section("Environment", table(environment, page), page),
    ...section(
      "Completions",
      indented([
        'bash   eval "$(arcp completions bash)"     in ~/.bashrc',
        'zsh    eval "$(arcp completions zsh)"      in ~/.zshrc, after compinit',
        "fish   arcp completions fish | source      in ~/.config/fish/config.fish"
      ]),
      page
    )
  ].join("\n")
