/** What the commands of `arcp context` do. */
import { homedir } from "node:os"
import { resolve } from "node:path"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { isLoopback } from "../../../protocol/Loopback.js"
import type { Surroundings } from "../Command.js"
import { columnsOf, cut, padded, widthOf } from "../columns.js"
import type { AddFlags, ContextFlags, ListFlags } from "../context.js"
import * as Contexts from "../contexts.js"
import { readStdin } from "../stdin.js"
import { inLine, json } from "../text.js"
import { UsageError } from "../UsageError.js"

/** No context is in use; exit code 1. */
class NoContext extends Data.TaggedError("NoContext")<{ readonly message: string }> {}

const usage = (message: string) => new UsageError({ message })

/** The address as it is kept; a password in it would be shown with it. */
const checkedUrl = (text: string, insecure: boolean): Effect.Effect<string, UsageError> => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || (url.protocol !== "ws:" && url.protocol !== "wss:"))
    return Effect.fail(
      usage(`--url takes an address like wss://agents.example.com/arcp, not ${JSON.stringify(text)}`)
    )
  if (url.username !== "" || url.password !== "")
    return Effect.fail(
      usage(
        "--url takes no user name and no password; a token is given with --token-command, --token-file or --token"
      )
    )
  if (url.protocol === "ws:" && !isLoopback(url.hostname) && !insecure)
    return Effect.fail(
      usage(
        `--url ${text}: the token would travel readable; use wss://, or --insecure for a network that you trust`
      )
    )
  return Effect.succeed(text)
}

/** A path that holds wherever a command is run from. */
const absolute = (path: string) => resolve(path.replace(/^~(?=\/|$)/, () => homedir()))

/** How the token is come by, out of at most one flag. */
const tokenSource = (flags: AddFlags): Effect.Effect<Partial<Contexts.Context>, UsageError> =>
  Effect.gen(function* () {
    const given = {
      "--token": flags.token,
      "--token-command": flags.tokenCommand,
      "--token-file": flags.tokenFile
    }
    const names = Object.entries(given).flatMap(([name, value]) => (Option.isSome(value) ? [name] : []))
    if (names.length > 1) return yield* usage(`${names.join(" and ")}: choose one`)
    for (const [name, value] of Object.entries(given))
      if (Option.isSome(value) && value.value.trim() === "") return yield* usage(`${name} needs a value`)
    if (Option.isSome(flags.tokenCommand)) return { tokenCommand: flags.tokenCommand.value }
    if (Option.isSome(flags.tokenFile)) return { tokenFile: absolute(flags.tokenFile.value) }
    if (Option.isNone(flags.token)) return {}
    const token = flags.token.value === "-" ? (yield* readStdin("--token -")).trim() : flags.token.value
    return /^[^\s\p{Cc}]+$/u.test(token)
      ? { token }
      : yield* usage("--token takes a token, which has no spaces or lines in it")
  })

export const add = (flags: AddFlags, name = "") =>
  Effect.gen(function* () {
    if (!Contexts.isName(name))
      return yield* usage(`${JSON.stringify(name)} is no name: ${Contexts.nameRule}`)
    if (Option.isNone(flags.url)) return yield* usage("arcp context add needs --url: where the runtime is")
    const url = yield* checkedUrl(flags.url.value, flags.insecure)
    const source = yield* tokenSource(flags)
    const context: Contexts.Context = { url, ...(flags.insecure ? { insecure: true } : {}), ...source }
    yield* Contexts.update(({ all, current }) =>
      all.has(name) && !flags.replace
        ? Effect.fail(usage(`there is a context ${name} already; --replace puts this one in its place`))
        : Effect.succeed({ all: new Map([...all, [name, context]]), current: flags.use ? name : current })
    )
    const kept = yield* Contexts.load
    yield* flags.json
      ? Console.log(json(described(name, context, kept.current)))
      : Console.log(
          kept.current === name
            ? `context ${name} is kept, and in use`
            : `context ${name} is kept; arcp context use ${name} makes it the one that is used`
        )
  })

/** What may be shown of a context. */
const described = (name: string, context: Contexts.Context, current: string | undefined) => ({
  name,
  current: name === current,
  url: context.url,
  insecure: context.insecure === true,
  token:
    context.token !== undefined
      ? "kept"
      : context.tokenCommand !== undefined
        ? "command"
        : context.tokenFile !== undefined
          ? "file"
          : "none",
  token_command: context.tokenCommand,
  token_file: context.tokenFile
})

/** The contexts, and the name of the one that is used where none is named. */
const all: Effect.Effect<Contexts.Contexts, Contexts.ContextsError, Surroundings> = Effect.gen(function* () {
  const contexts = yield* Contexts.load
  const named = yield* Effect.orDie(Config.option(Config.nonEmptyString("ARCP_CONTEXT")))
  return { ...contexts, current: Option.getOrElse(named, () => contexts.current) }
})

export const list = (flags: ListFlags) =>
  Effect.gen(function* () {
    const contexts = yield* all
    if (flags.names)
      return yield* Effect.forEach(contexts.all.keys(), (name) => Console.log(inLine(name)), {
        discard: true
      })
    const rows = [...contexts.all].map(([name, context]) => described(name, context, contexts.current))
    if (flags.json) return yield* Effect.forEach(rows, (row) => Console.log(json(row)), { discard: true })
    if (rows.length === 0)
      return yield* Console.error(
        "no contexts; arcp context add NAME --url URL --token-command COMMAND keeps one"
      )
    const widths = { name: Math.max(4, ...rows.map(({ name }) => widthOf(name))) }
    yield* Console.log(`  ${"NAME".padEnd(widths.name)}  TOKEN    URL`)
    for (const { current, name, token, url } of rows)
      yield* Console.log(
        cut(
          inLine(`${current ? "*" : " "} ${padded(name, widths.name)}  ${token.padEnd(7)}  ${url}`),
          columnsOf(process.stdout)
        )
      )
  })

export const use = (flags: ContextFlags, name = "") =>
  Effect.gen(function* () {
    yield* Contexts.update((contexts) =>
      Effect.as(Contexts.find(contexts, name), { ...contexts, current: name })
    )
    yield* flags.json ? Console.log(json({ name, current: true })) : Console.log(`context ${name} is in use`)
    const named = yield* Effect.orDie(Config.option(Config.nonEmptyString("ARCP_CONTEXT")))
    if (Option.isSome(named) && named.value !== name)
      yield* Console.error(inLine(`but ARCP_CONTEXT names ${named.value}, which goes before it`))
  })

const noContext = new NoContext({
  message: "no context is in use; arcp context use NAME chooses one of arcp context list"
})

export const show = (flags: ContextFlags, word?: string) =>
  Effect.gen(function* () {
    const contexts = yield* all
    const name = word ?? contexts.current
    if (name === undefined) return yield* noContext
    const row = described(name, yield* Contexts.find(contexts, name), contexts.current)
    if (flags.json) return yield* Console.log(json(row))
    const token =
      row.token === "kept"
        ? "kept in the file of contexts (not shown)"
        : row.token === "none"
          ? "none; --token or ARCP_TOKEN gives one"
          : row.token === "file"
            ? `what is in ${row.token_file}`
            : `what this prints: ${row.token_command}`
    const lines: ReadonlyArray<readonly [string, string]> = [
      ["name", `${name}${row.current ? " (in use)" : ""}`],
      ["url", `${row.url}${row.insecure ? " (--insecure)" : ""}`],
      ["token", token],
      ["file", yield* Contexts.location]
    ]
    for (const [key, value] of lines) yield* Console.log(inLine(`${key.padEnd(6)} ${value}`))
  })

export const rm = (flags: ContextFlags, name = "") =>
  Effect.gen(function* () {
    let wasCurrent = false
    yield* Contexts.update((contexts) =>
      Effect.map(Contexts.find(contexts, name), () => {
        wasCurrent = contexts.current === name
        return {
          all: new Map([...contexts.all].filter(([other]) => other !== name)),
          current: wasCurrent ? undefined : contexts.current
        }
      })
    )
    yield* flags.json
      ? Console.log(json({ name, removed: true }))
      : Console.log(`context ${name} is forgotten${wasCurrent ? "; none is in use now" : ""}`)
  })

export const current = (flags: ContextFlags) =>
  Effect.gen(function* () {
    const { current } = yield* all
    if (current === undefined) return yield* noContext
    yield* Console.log(flags.json ? json({ name: current }) : inLine(current))
  })
