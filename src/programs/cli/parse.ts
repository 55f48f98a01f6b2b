/** The command line: which command it means, and what it gives it. */

import { didYouMean } from "../../protocol/suggest.js"
import { type Command, type Group, idle, isGroup, type Written } from "./Command.js"
import type { Flag } from "./Flags.js"

/** What the command line asks for. */
export type Asked =
  | { readonly _tag: "Version" }
  | { readonly _tag: "Help"; readonly about: Command | Group | undefined }
  | { readonly _tag: "Completions"; readonly shell: string }
  | { readonly _tag: "Run"; readonly command: Command; readonly written: Written }
  | { readonly _tag: "Refused"; readonly message: string; readonly hint: string }

export const shells = ["bash", "zsh", "fish"] as const

const refused = (message: string, about?: Command | Group): Asked => ({
  _tag: "Refused",
  message,
  hint:
    about === undefined
      ? "arcp --help lists the commands"
      : isGroup(about)
        ? `arcp ${about.name} --help lists its commands`
        : `arcp ${about.name} --help says what it takes`
})

const isHelp = (word: string) => word === "--help" || word === "-h"

/** A problem of this value of a flag, or `undefined`. */
const invalid = (flag: Flag<unknown>, value: string): string | undefined => {
  // As of a variable of a shell that is not set; nothing that a flag names is called so.
  if (flag.kind === "text" && value === "") return `--${flag.name} takes ${flag.value}, and this is empty`
  if (flag.kind === "integer" && !/^[-+]?\d{1,15}$/.test(value))
    return `--${flag.name} takes a whole number, not ${JSON.stringify(value)}`
  if (flag.kind === "boolean" && value !== "true" && value !== "false")
    return `--${flag.name} takes no value, or true or false`
  if (flag.kind === "choice" && !flag.choices.includes(value))
    return `--${flag.name} takes ${flag.choices.join(", ")}; not ${JSON.stringify(value)}${didYouMean(value, flag.choices)}`
  return undefined
}

const parseCommand = (
  command: Command,
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string | undefined>>
): Asked => {
  const flags = new Map(Object.values(command.flags).map((flag) => [`--${flag.name}`, flag]))
  const texts = new Map<string, Array<string>>()
  const words: Array<string> = []
  for (let i = 0; ; i++) {
    const arg = args[i]
    if (arg === undefined) break
    if (arg === "--") {
      words.push(...args.slice(i + 1))
      break
    }
    if (isHelp(arg)) return { _tag: "Help", about: command }
    if (!/^-./.test(arg)) {
      words.push(arg)
      continue
    }
    const equals = arg.indexOf("=")
    const name = equals < 0 ? arg : arg.slice(0, equals)
    const flag = flags.get(name)
    if (flag === undefined)
      return refused(
        `${name} is no flag of arcp ${command.name}${didYouMean(name, [...flags.keys()])}`,
        command
      )
    let value = equals < 0 ? undefined : arg.slice(equals + 1)
    if (value === undefined && flag.kind === "boolean") value = "true"
    // What begins with two dashes is the next flag: a value that does is written --flag=--value.
    else if (value === undefined && !/^--./.test(args[i + 1] ?? "--none")) value = args[++i]
    if (value === undefined) return refused(`${name} needs a value`, command)
    const given = texts.get(flag.name) ?? []
    if (given.length > 0 && flag.occurs !== "repeated")
      return refused(`${name} is given twice; it takes one value`, command)
    texts.set(flag.name, [...given, value])
  }
  const inherited = new Set<string>()
  for (const { name, environment: variable } of flags.values()) {
    const value = variable === undefined ? undefined : environment[variable]
    if (!value || texts.has(name)) continue
    texts.set(name, [value])
    inherited.add(name)
  }
  for (const flag of flags.values())
    for (const value of texts.get(flag.name) ?? []) {
      const problem = invalid(flag, value)
      if (problem !== undefined) return refused(problem, command)
    }
  const blank = command.arguments[words.indexOf("")]
  if (blank !== undefined)
    return refused(`${blank.name} of arcp ${command.name} is empty: ${blank.description}`, command)
  const missing = command.arguments[words.length]
  if (missing !== undefined && !missing.optional)
    return refused(`arcp ${command.name} needs ${missing.name}: ${missing.description}`, command)
  const extra = words[command.arguments.length]
  if (extra !== undefined)
    return refused(`arcp ${command.name} does not take ${JSON.stringify(extra)}`, command)
  const written: Written = { texts, inherited, words }
  const [unseen] = idle(command.onlys, written, false)
  return unseen === undefined ? { _tag: "Run", command, written } : refused(unseen, command)
}

const completions = (shell: string | undefined): Asked =>
  shells.some((known) => known === shell)
    ? { _tag: "Completions", shell: shell as string }
    : refused(`completions are for ${shells.join(", ")}; like arcp completions bash`)

const word = (command: Command) => command.name.slice(command.name.lastIndexOf(" ") + 1)

/** Reads what comes after the name of a group. */
const parseGroup = (
  group: Group,
  [first, ...rest]: ReadonlyArray<string>,
  environment: Readonly<Record<string, string | undefined>>
): Asked => {
  const command = group.commands.find((command) => word(command) === first)
  if (command !== undefined) return parseCommand(command, rest, environment)
  if (group.alone !== undefined && (first === undefined || (first.startsWith("-") && !isHelp(first)))) {
    const asked = parseCommand(group.alone, first === undefined ? [] : [first, ...rest], environment)
    return asked._tag === "Help" ? { _tag: "Help", about: group } : asked
  }
  if (first === undefined || isHelp(first)) return { _tag: "Help", about: group }
  return refused(
    first.startsWith("-")
      ? `${first} is no flag of arcp ${group.name}; flags follow a command`
      : `${first} is no command of arcp ${group.name}${didYouMean(first, group.commands.map(word))}`,
    group
  )
}

/** Reads what comes after the program's name. */
export const parse = (
  entries: ReadonlyArray<Command | Group>,
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string | undefined>>
): Asked => {
  const [first, ...rest] = args
  if (first === undefined || isHelp(first)) return { _tag: "Help", about: undefined }
  if (first === "--version") return { _tag: "Version" }
  if ((first === "completions" || first === "--completions") && !rest.some(isHelp))
    return completions(rest[0])
  if (first.startsWith("--completions=")) return completions(first.slice("--completions=".length))
  if (first === "completions") return { _tag: "Help", about: undefined }
  const words = first === "help" ? rest.filter((word) => !word.startsWith("-")) : [first]
  const [name, ...more] = words
  // What these two take is in the help of the program.
  if (name === undefined || name === "help" || name === "completions")
    return { _tag: "Help", about: undefined }
  const entry = entries.find((entry) => entry.name === name)
  if (entry === undefined) {
    const names = [...entries.map(({ name }) => name), "help", "completions", "--version"]
    return refused(
      name.startsWith("-")
        ? `${name} is no flag of arcp; flags follow a command`
        : `${name} is no command of arcp${didYouMean(name, names)}`
    )
  }
  if (first !== "help")
    return isGroup(entry) ? parseGroup(entry, rest, environment) : parseCommand(entry, rest, environment)
  return isGroup(entry) && more[0] !== undefined
    ? parseGroup(entry, [more[0], "--help"], environment)
    : { _tag: "Help", about: entry }
}
