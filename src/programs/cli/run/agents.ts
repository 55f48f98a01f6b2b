/** What `arcp agents` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as AgentRef from "../../../protocol/AgentRef.js"
import { AgentNotAvailable } from "../../../protocol/Errors.js"
import * as Features from "../../../protocol/Features.js"
import { isRecord } from "../../../protocol/Json.js"
import type { AgentEntry } from "../../../protocol/Message.js"
import { didYouMean } from "../../../protocol/suggest.js"
import type { About } from "../../../services/agents/Agent.js"
import { connect, passing } from "../client.js"
import type { ClientFlags } from "../client-flags.js"
import { columnsOf, cut, fitted, stdoutColumns } from "../columns.js"
import { inlined } from "../inlined.js"
import { placeholder, quoted } from "../placeholder.js"
import { inLine, safe, json as toJson } from "../text.js"
import { UsageError } from "../UsageError.js"

/** What a runtime of ours says of its agents when it is asked; of others there is nothing. */
interface DescribedEntry extends AgentEntry {
  readonly [Features.describedAgents]?: Readonly<Record<string, About>>
}

/** Command lines to copy: one for each example, else one made of the schema. */
export const commandLines = (ref: string, { examples = [], input_schema }: About): ReadonlyArray<string> => {
  const inputs =
    examples.length > 0 ? examples : input_schema === undefined ? [] : [placeholder(input_schema)]
  return inputs.length === 0
    ? [`arcp submit ${ref}`]
    : inputs.map((input) => `arcp submit ${ref} --input ${quoted(input)}`)
}

const versionsOf = (agent: AgentEntry) =>
  agent.versions.map((version) => (version === agent.default ? `${version} (default)` : version)).join(", ")

const page = (agent: AgentEntry, version: string, about: About): string => {
  const ref = version === agent.default ? agent.name : `${agent.name}@${version}`
  const indent = (text: string) => text.replace(/^/gm, "  ")
  return [
    `${agent.name}@${version}`,
    ...(about.description === undefined ? [] : [fitted(indent(about.description), stdoutColumns())]),
    `\nVersions\n${indent(versionsOf(agent))}`,
    `\nInput\n${indent(about.input_schema === undefined ? "any JSON, or not described" : JSON.stringify(about.input_schema, null, 2))}`,
    `\nTo copy\n${indent(commandLines(ref, about).join("\n"))}`
  ].join("\n")
}

/** Describes one agent. */
const describe = (agents: ReadonlyArray<DescribedEntry>, word: string, json: boolean) =>
  Effect.gen(function* () {
    const ref = yield* Effect.mapError(
      AgentRef.parse(word),
      () => new UsageError({ message: `NAME is name or name@version, not ${JSON.stringify(word)}` })
    )
    const agent = agents.find(({ name }) => name === ref.name)
    if (agent === undefined)
      return yield* new AgentNotAvailable({
        message: `no agent ${ref.name}${didYouMean(
          ref.name,
          agents.map(({ name }) => name)
        )}`
      })
    const version = ref.version ?? agent.default ?? agent.versions[agent.versions.length - 1] ?? ""
    if (!agent.versions.includes(version))
      return yield* new AgentNotAvailable({
        message: `agent ${agent.name} has no version ${version}; it has ${agent.versions.join(", ")}`
      })
    const about = agent[Features.describedAgents]?.[version] ?? {}
    const { input_schema: schema } = about
    const readable = isRecord(schema) ? { ...about, input_schema: inlined(schema) } : about
    const fields = { name: agent.name, version, versions: agent.versions, default: agent.default, ...about }
    yield* Console.log(json ? toJson(fields) : safe(page(agent, version, readable)))
  })

/** Lists agents, with the first line of what the default version says of itself. */
const list = (agents: ReadonlyArray<DescribedEntry>, json: boolean) =>
  Effect.forEach(
    agents,
    ({ [Features.describedAgents]: described, ...agent }) => {
      const [about = ""] = (described?.[agent.default ?? ""]?.description ?? "").split("\n")
      const text = `${agent.name}  ${versionsOf(agent)}${about === "" ? "" : `  ${about}`}`
      return Console.log(json ? toJson(agent) : cut(inLine(text), columnsOf(process.stdout)))
    },
    { discard: true }
  )

export const run = (flags: ClientFlags, word?: string) =>
  Effect.gen(function* () {
    const client = yield* connect(flags, [...passing, Features.describedAgents])
    const agents = yield* client.agents
    if (word === undefined && agents.length === 0 && !flags.json) return yield* Console.error("no agents")
    yield* word === undefined ? list(agents, flags.json) : describe(agents, word, flags.json)
  }).pipe(Effect.scoped)
