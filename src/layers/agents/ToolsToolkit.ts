/**
 * Registered `Tools` as a `Toolkit` of `@effect/ai`, so that the tool calls of a model are `tool.call` operations
 * of the job: authorised by name, shown on the stream, and paid for.
 */
import * as AiError from "@effect/ai/AiError"
import * as Tool from "@effect/ai/Tool"
import type * as Toolkit from "@effect/ai/Toolkit"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { toPayload } from "../../protocol/Errors.js"
import type { ToolInfo, ToolsService } from "../../services/agents/Tools.js"

/** Makes names as models take them, letters, digits, `_` and `-`, at most 64 of them; each one once. */
const namer = () => {
  const taken = new Set<string>()
  const copies = new Map<string, number>()
  return (name: string): string => {
    const safe = name.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 64)
    let candidate = safe
    for (let copy = copies.get(safe) ?? 2; taken.has(candidate); copy++) {
      candidate = `${safe.slice(0, 63 - String(copy).length)}_${copy}`
      copies.set(safe, copy)
    }
    taken.add(candidate)
    return candidate
  }
}

const describe = (name: string, { description, inputSchema }: ToolInfo): Tool.Any => {
  const parameters = { type: "object", ...inputSchema } as unknown as object
  const tool = Tool.make(name, {
    success: Schema.Unknown,
    failure: Schema.Unknown,
    failureMode: "return",
    ...(description === undefined ? {} : { description })
  })
  return Object.assign(Object.create(Object.getPrototypeOf(tool)) as Tool.Any, tool, {
    parametersSchema: Schema.Unknown.annotations({ jsonSchema: parameters })
  })
}

/**
 * The tools there are at the moment, in a job those that its lease allows; as the `toolkit` of a
 * `LanguageModel`. Names are changed into what models take: `mcp:files/read` is `mcp_files_read` to the model. A
 * failed or refused call is a result that the model reads, `{code, message, retryable, details?}`.
 *
 * @example
 * const tools = yield* Tools
 * yield* LanguageModel.generateText({ prompt, toolkit: ToolsToolkit.make(tools) })
 */
export const make = (tools: ToolsService): Effect.Effect<Toolkit.WithHandler<Record<string, Tool.Any>>> =>
  Effect.map(tools.list, (list) => {
    const names = new Map<string, string>()
    const unique = namer()
    const described = list.map((tool): [string, Tool.Any] => {
      const name = unique(tool.name)
      names.set(name, tool.name)
      return [name, describe(name, tool)]
    })
    return {
      tools: Object.fromEntries(described),
      handle: (name, params) => {
        const target = names.get(name)
        if (target === undefined)
          return new AiError.MalformedOutput({
            module: "ToolsToolkit",
            method: "handle",
            description: "the model calls a tool that was not offered to it"
          })
        return Effect.match(tools.call(target, params as unknown), {
          onFailure: (error) => {
            const { code, details, message, retryable } = toPayload(error)
            const failure = { code, message, retryable, ...(details === undefined ? {} : { details }) }
            return { isFailure: true, result: failure, encodedResult: failure }
          },
          onSuccess: (result = null) => ({ isFailure: false, result, encodedResult: result })
        })
      }
    } as Toolkit.WithHandler<Record<string, Tool.Any>>
  })
