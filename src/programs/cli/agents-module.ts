/** Agents by the name of a shipped set, or out of a module of the user's. */

import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import type { Registered } from "../../services/agents/Agent.js"
import type { Secrets } from "../../services/runtime/Secrets.js"
import { UsageError } from "./UsageError.js"

/** What the services of `arcp serve` let an agent ask for. */
export type Hosted = Registered<FileSystem.FileSystem | Path.Path | Secrets>

const isRegistered = (u: unknown): u is Hosted =>
  typeof u === "object" &&
  u !== null &&
  "name" in u &&
  "version" in u &&
  "prepare" in u &&
  typeof u.prepare === "function"

const help =
  'export const agents = [Agent.fromPromise("hello", { version: "1.0.0" }, async (input) => input)]'

const load = (name: string): Effect.Effect<ReadonlyArray<Hosted>, UsageError> => {
  switch (name) {
    case "demo":
      return Effect.promise(async () => (await import("../agents/demo.js")).agents)
    case "conformance":
      return Effect.promise(async () => (await import("../agents/conformance.js")).agents)
    default:
      return Effect.tryPromise({
        try: () =>
          import(pathToFileURL(resolve(name)).href) as Promise<{ agents?: unknown; default?: unknown }>,
        catch: (cause) =>
          new UsageError({
            message: `--agents ${name} does not load: ${cause instanceof Error ? cause.message.split("\n")[0]?.replace(/ imported from .*/, "") : cause}`
          })
      }).pipe(
        Effect.flatMap((module) => {
          const exported = module.agents ?? module.default
          const agents = Array.isArray(exported) ? exported : [exported]
          return agents.every(isRegistered)
            ? Effect.succeed(agents)
            : Effect.fail(
                new UsageError({ message: `--agents ${name} must export agents, for example\n  ${help}` })
              )
        })
      )
  }
}

export const loadAgents = (names: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<Hosted>, UsageError> =>
  Effect.map(Effect.forEach(names, load), (sets) => sets.flat())
