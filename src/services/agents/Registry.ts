/** The agents that this runtime hosts. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { AgentRef } from "../../protocol/AgentRef.js"
import type { AgentNotAvailable, AgentVersionNotAvailable } from "../../protocol/Errors.js"
import type { AgentEntry } from "../../protocol/Message.js"
import type { Registered } from "./Agent.js"

/** The agents that this runtime runs, by name and version. */
export class Registry extends Context.Tag("arcp/services/Registry")<
  Registry,
  {
    /** Names with their versions in order of registration, and the default. */
    readonly inventory: ReadonlyArray<AgentEntry>
    /** Returns the agent that a reference means; a bare name resolves as §7.5 says. */
    readonly resolve: (
      ref: AgentRef
    ) => Effect.Effect<Registered, AgentNotAvailable | AgentVersionNotAvailable>
  }
>() {}
