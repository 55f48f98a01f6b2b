/** What `arcp agents` does. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { connect } from "../client.js"
import type { ClientFlags } from "../client-flags.js"

export const run = (flags: ClientFlags) =>
  Effect.gen(function* () {
    const client = yield* connect(flags)
    for (const agent of yield* client.agents)
      yield* Console.log(
        flags.json
          ? JSON.stringify(agent)
          : `${agent.name}  ${agent.versions.map((version) => (version === agent.default ? `${version} (default)` : version)).join(", ")}`
      )
  }).pipe(Effect.scoped)
