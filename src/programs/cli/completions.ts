/** Completions of a shell: scripts with the commands, their flags and the values of those that have few. */
import { allOf, type Command, type Group, isGroup } from "./Command.js"
import type { Flag } from "./Flags.js"
import { shells } from "./parse.js"

type Entries = ReadonlyArray<Command | Group>

const flagsOf = (command: Command) => Object.values(command.flags)
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
/** What follows a flag: words to choose from, a file, or nothing that is known. */
const takes = (flag: Flag<unknown>) => (flag.kind === "choice" ? flag.choices.join(" ") : undefined)
const takesFile = (flag: Flag<unknown>) => /FILE|DIRECTORY/.test(flag.value)

/** Prints the names of contexts, which are no words of the program's. */
const contextNames = "arcp context list --names 2>/dev/null"
const takesContext = (flag: Flag<unknown>) => flag.name === "context"
/** The commands whose word is the name of a context. */
const ofContexts = (group: Group) =>
  group.commands.filter(
    ({ arguments: [first], name }) =>
      group.name === "context" && first !== undefined && name !== "context add"
  )

const groupsOf = (entries: Entries) => entries.filter(isGroup)
/** Flags of what a group means alone, and then its help. */
const flagsAlone = ({ alone }: Group) =>
  [...(alone === undefined ? [] : flagsOf(alone).map(({ name }) => `--${name}`)), "--help"].join(" ")
const lastWord = ({ name }: Command) => name.slice(name.lastIndexOf(" ") + 1)

const bash = (entries: Entries): string => {
  const names = [...entries.map(({ name }) => name), "completions", "help"].join(" ")
  const values = new Map(
    allOf(entries)
      .flatMap(flagsOf)
      .flatMap((flag) => (takes(flag) === undefined ? [] : [[flag.name, takes(flag)] as const]))
  )
  const reply = (words: string) => `COMPREPLY=($(compgen -W "${words}" -- "$word"))`
  return `_arcp() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" command="\${COMP_WORDS[1]}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then ${reply(`${names} --help --version`)}; return; fi
  case "$before" in
${[...values].map(([name, words]) => `    --${name}) ${reply(`${words}`)}; return;;`).join("\n")}
    --context) ${reply(`$(${contextNames})`)}; return;;
    help) ${reply(names)}; return;;
    completions) ${reply(shells.join(" "))}; return;;
  esac
  case "$command" in
${groupsOf(entries)
  .map(
    (group) => `    ${group.name})
      if [ "$COMP_CWORD" -eq 2 ]; then ${reply(`${group.commands.map(lastWord).join(" ")} ${flagsAlone(group)}`)}; return; fi
      case "\${COMP_WORDS[2]}" in ${group.commands.map(lastWord).join("|")}) command="$command \${COMP_WORDS[2]}";; esac;;`
  )
  .join("\n")}
    help)
      case "$before" in
${groupsOf(entries)
  .map(({ name, commands }) => `        ${name}) ${reply(commands.map(lastWord).join(" "))};;`)
  .join("\n")}
      esac
      return;;
  esac
  if [[ "$word" != -* ]]; then
    case "$command" in
${groupsOf(entries)
  .flatMap(ofContexts)
  .map(({ name }) => `      "${name}") ${reply(`$(${contextNames})`)};;`)
  .join("\n")}
    esac
    return
  fi
  case "$command" in
${allOf(entries)
  .map(
    (command) =>
      `    "${command.name}") ${reply([...flagsOf(command).map(({ name }) => `--${name}`), "--help"].join(" "))};;`
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
    : `:${flag.value.replace(/[:\]]/g, "")}:${
        takesContext(flag)
          ? "_arcp_contexts"
          : takes(flag) === undefined
            ? takesFile(flag)
              ? "_files"
              : ""
            : `(${takes(flag)})`
      }`

const zshFlag = (flag: Flag<unknown>): string =>
  quoted(
    `${flag.occurs === "repeated" ? "*" : ""}--${flag.name}[${flag.description.replace(/[[\]:\\]/g, "\\$&")}]${zshValue(flag)}`
  )

const zshNames = (entries: ReadonlyArray<readonly [name: string, summary: string]>): string =>
  entries.map(([name, summary]) => quoted(`${name}:${summary.replaceAll(":", "\\:")}`)).join(" ")

const zshCommand = (command: Command, words: string): string =>
  `_arguments -S ${flagsOf(command).map(zshFlag).join(" ")} '--help[Say what it takes]' '*:argument:${words}'`

const zsh = (entries: Entries): string => `_arcp_contexts() {
  compadd $(${contextNames})
}
_arcp() {
  if (( CURRENT == 2 )); then
    local -a names=(${zshNames([
      ...entries.map(({ name, summary }) => [name, summary] as const),
      ["completions", "Print completions"],
      ["help", "Say what a command takes"]
    ])})
    _describe command names
    return
  fi
  case "$words[2]" in
    help)
      case "$words[3]" in
${groupsOf(entries)
  .map(
    ({ name, commands }) =>
      `        ${name}) (( CURRENT == 4 )) && compadd ${commands.map(lastWord).join(" ")};;`
  )
  .join("\n")}
        *) (( CURRENT == 3 )) && compadd ${[...entries.map(({ name }) => name), "completions", "help"].join(" ")};;
      esac;;
    completions) compadd ${shells.join(" ")};;
${entries
  .map((entry) =>
    isGroup(entry)
      ? `    ${entry.name})
      if (( CURRENT == 3 ))${entry.alone === undefined ? "" : ' && [[ "$words[3]" != -* ]]'}; then
        local -a names=(${zshNames(entry.commands.map((command) => [lastWord(command), command.summary] as const))})
        _describe command names
        return
      fi
      shift words; (( CURRENT-- ))
      case "$words[2]" in
${entry.commands
  .map(
    (command) =>
      `        ${lastWord(command)}) shift words; (( CURRENT-- )); ${zshCommand(command, ofContexts(entry).includes(command) ? "_arcp_contexts" : "")};;`
  )
  .join("\n")}${entry.alone === undefined ? "" : `\n        *) ${zshCommand(entry.alone, "")};;`}
      esac;;`
      : `    ${entry.name}) shift words; (( CURRENT-- )); ${zshCommand(entry, "")};;`
  )
  .join("\n")}
  esac
}
compdef _arcp arcp
`

/** A condition: the first words after `arcp` are these. */
const fishIs = (name: string) => `__arcp_is ${name}`
/** A condition: so many words are there before the one that is completed. */
const fishAfter = (words: number) => `__arcp_after ${words}`

const fishLine = (conditions: ReadonlyArray<string>, what: string) =>
  `complete -c arcp -n '${conditions.join("; and ")}' ${what}`

const fishFlags = (command: Command, others: ReadonlyArray<Command> = []): ReadonlyArray<string> => {
  const here = [fishIs(command.name), ...others.map(({ name }) => `not ${fishIs(name)}`)]
  return [
    ...flagsOf(command).map((flag) => {
      const words = takesContext(flag) ? `(${contextNames})` : takes(flag)
      const value =
        flag.kind === "boolean"
          ? ""
          : words === undefined
            ? ` -r${takesFile(flag) ? " -F" : ""}`
            : ` -x -a ${quoted(words)}`
      return fishLine(here, `-l ${flag.name}${value} -d ${quoted(flag.description)}`)
    }),
    fishLine(here, "-l help -d 'Say what it takes'")
  ]
}

const fishGroup = (group: Group): ReadonlyArray<string> => [
  ...group.commands.flatMap((command) =>
    [
      [fishIs(group.name), fishAfter(2)],
      [fishIs(`help ${group.name}`), fishAfter(3)]
    ].map((at) => fishLine(at, `-a ${lastWord(command)} -d ${quoted(command.summary)}`))
  ),
  ...ofContexts(group).map((command) => fishLine([fishIs(command.name)], `-a ${quoted(`(${contextNames})`)}`))
]

/** Where a word is, and not whether it is anywhere: the name of an agent may be that of a command. */
const fishPlaces = `function __arcp_is
    set -l words (commandline -opc)
    for i in (seq (count $argv))
        set -l at (math $i + 1)
        test "$words[$at]" = "$argv[$i]"; or return 1
    end
end
function __arcp_after
    test (count (commandline -opc)) -eq $argv[1]
end
complete -c arcp -f
`

const fish = (entries: Entries): string => {
  const names = [
    ...entries.map(({ name, summary }) => [name, summary] as const),
    ["completions", "Print completions"] as const,
    ["help", "Say what a command takes"] as const
  ]
  const lines = [
    ...names.flatMap(([name, summary]) =>
      [[fishAfter(1)], [fishIs("help"), fishAfter(2)]].map((at) =>
        fishLine(at, `-a ${name} -d ${quoted(summary)}`)
      )
    ),
    fishLine([fishIs("completions"), fishAfter(2)], `-a ${quoted(shells.join(" "))}`),
    ...groupsOf(entries).flatMap(fishGroup),
    ...entries.flatMap((entry) =>
      isGroup(entry)
        ? [
            ...(entry.alone === undefined ? [] : fishFlags(entry.alone, entry.commands)),
            ...entry.commands.flatMap((command) => fishFlags(command))
          ]
        : fishFlags(entry)
    )
  ]
  return `${fishPlaces}${lines.map((line) => `${line}\n`).join("")}`
}

/** Returns the script of a shell. */
export const completions = (shell: string, entries: Entries): string =>
  shell === "fish" ? fish(entries) : shell === "zsh" ? zsh(entries) : bash(entries)
