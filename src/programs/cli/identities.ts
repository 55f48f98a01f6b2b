/** `--identities FILE`: who may connect, with which agents and under which ceiling. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as AgentRef from "../../protocol/AgentRef.js"
import { parseJson } from "../../protocol/Json.js"
import { deadPattern, Lease } from "../../protocol/Lease.js"
import { describe } from "../../protocol/Problem.js"
import type { Identity } from "../../services/auth/Auth.js"
import { fileProblem } from "../../services/runtime/fileProblem.js"
import { UsageError } from "./UsageError.js"

const listOf = (schema: Schema.Schema<string>, description: string) =>
  Schema.optional(Schema.Array(schema).annotations({ description }))
const AgentName = Schema.String.pipe(
  Schema.filter(AgentRef.isName, { description: "the name of an agent, without a version" })
)

const Identities = Schema.Array(
  Schema.Struct({
    token: Schema.NonEmptyString,
    principal: Schema.NonEmptyString,
    agents: listOf(AgentName, "a list of names of agents"),
    scopes: listOf(Schema.String, "a list of texts"),
    expiresAt: Schema.optional(Schema.Number.annotations({ description: "a time in epoch milliseconds" })),
    leaseCeiling: Schema.optional(Lease)
  })
).annotations({ description: "an array of identities" })

const example = '[{"token": "…", "principal": "ci", "leaseCeiling": {"fs.read": ["/src/**"]}}]'

export const readIdentities = (
  name: string
): Effect.Effect<Readonly<Record<string, Identity>>, UsageError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const files = yield* FileSystem.FileSystem
    const refuse = (problem: string) =>
      new UsageError({ message: `--identities ${name}: ${problem}; it holds for example\n  ${example}` })
    const text = yield* Effect.mapError(
      files.readFileString(name),
      (error) => new UsageError({ message: `--identities ${name} cannot be read: ${fileProblem(error)}` })
    )
    const json = yield* Effect.try({
      try: () => parseJson(text),
      catch: () => refuse("not JSON")
    })
    const entries = yield* Schema.decodeUnknown(Identities, { onExcessProperty: "error" })(json).pipe(
      Effect.mapError((error) => refuse(describe(error.issue, "identities")))
    )
    for (const [i, { leaseCeiling = {} }] of entries.entries()) {
      const problem = deadPattern(leaseCeiling)
      // It grants nothing, so it does no harm; but its author meant something.
      if (problem !== undefined) yield* Effect.logWarning(`identities[${i}].leaseCeiling: ${problem}`)
    }
    const table = new Map(entries.map(({ token, ...identity }) => [token, identity]))
    if (table.size < entries.length) return yield* refuse("two entries have the same token")
    return Object.fromEntries(table)
  })
