/** Completions of a shell: scripts with the commands, their flags and the values of those that have few. */
import type { Command } from "./Command.js"
import type { Flag } from "./Flags.js"
import { shells } from "./parse.js"

const flagsOf = (command: Command) => Object.values(command.flags)
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
/** What follows a flag: words to choose from, a file, or nothing that is known. */
const takes = (flag: Flag<unknown>) => (flag.kind === "choice" ? flag.choices.join(" ") : undefined)
const takesFile = (flag: Flag<unknown>) => /FILE/.test(flag.value)

const bash = (commands: ReadonlyArray<Command>): string => {
  const names = [...commands.map(({ name }) => name), "completions", "help"].join(" ")
  const values = new Map(
    commands
      .flatMap(flagsOf)
      .flatMap((flag) => (takes(flag) === undefined ? [] : [[flag.name, takes(flag)] as const]))
  )
  return `_arcp() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "${names} --help --version" -- "$word")); return; fi
  case "$before" in
${[...values].map(([name, words]) => `    --${name}) COMPREPLY=($(compgen -W "${words}" -- "$word")); return;;`).join("\n")}
    help) COMPREPLY=($(compgen -W "${names}" -- "$word")); return;;
    completions) COMPREPLY=($(compgen -W "${shells.join(" ")}" -- "$word")); return;;
  esac
  [[ "$word" == -* ]] || return
  case "\${COMP_WORDS[1]}" in
${commands
  .map(
    (command) =>
      `    ${command.name}) COMPREPLY=($(compgen -W "${[...flagsOf(command).map(({ name }) => `--${name}`), "--help"].join(" ")}" -- "$word"));;`
  )
  .join("\n")}
  esac
}
complete -o default -F _arcp arcp
`
}

const zshValue = (flag: Flag<unknown>): string =>
  flag.kind === "boolean"
    ? ""
    : `:${flag.value.replace(/[:\]]/g, "")}:${takes(flag) === undefined ? (takesFile(flag) ? "_files" : "") : `(${takes(flag)})`}`

const zshFlag = (flag: Flag<unknown>): string =>
  quoted(
    `${flag.occurs === "repeated" ? "*" : ""}--${flag.name}[${flag.description.replace(/[[\]:\\]/g, "\\$&")}]${zshValue(flag)}`
  )

const zsh = (commands: ReadonlyArray<Command>): string => `_arcp() {
  if (( CURRENT == 2 )); then
    local -a names=(${[
      ...commands.map(({ name, summary }) => quoted(`${name}:${summary.replaceAll(":", "\\:")}`)),
      quoted("completions:Print completions"),
      quoted("help:Say what a command takes")
    ].join(" ")})
    _describe command names
    return
  fi
  case "$words[2]" in
    help) compadd ${commands.map(({ name }) => name).join(" ")};;
    completions) compadd ${shells.join(" ")};;
${commands
  .map(
    (command) =>
      `    ${command.name}) shift words; (( CURRENT-- )); _arguments -S ${flagsOf(command).map(zshFlag).join(" ")} '*:argument:_files';;`
  )
  .join("\n")}
  esac
}
compdef _arcp arcp
`

const fish = (commands: ReadonlyArray<Command>): string => {
  const none = "-n __fish_use_subcommand"
  return [
    ...commands.map(({ name, summary }) => `complete -c arcp -f ${none} -a ${name} -d ${quoted(summary)}`),
    `complete -c arcp -f ${none} -a completions -d 'Print completions'`,
    `complete -c arcp -f ${none} -a help -d 'Say what a command takes'`,
    `complete -c arcp -f -n '__fish_seen_subcommand_from help' -a ${quoted(commands.map(({ name }) => name).join(" "))}`,
    `complete -c arcp -f -n '__fish_seen_subcommand_from completions' -a ${quoted(shells.join(" "))}`,
    ...commands.flatMap((command) =>
      flagsOf(command).map((flag) => {
        const words = takes(flag)
        const value =
          flag.kind === "boolean"
            ? ""
            : words === undefined
              ? ` -r${takesFile(flag) ? " -F" : ""}`
              : ` -x -a ${quoted(words)}`
        return `complete -c arcp -n '__fish_seen_subcommand_from ${command.name}' -l ${flag.name}${value} -d ${quoted(flag.description)}`
      })
    )
  ]
    .map((line) => `${line}\n`)
    .join("")
}

/** Returns the script of a shell. */
export const completions = (shell: string, commands: ReadonlyArray<Command>): string =>
  shell === "fish" ? fish(commands) : shell === "zsh" ? zsh(commands) : bash(commands)
