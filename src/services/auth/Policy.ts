/** Who may do what with agents and jobs (§6.6, §7.4, §7.6). The default is: the same principal, nobody else. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { JobRecord } from "../store/Store.js"
import type { Identity } from "./Auth.js"

export class Policy extends Context.Tag("arcp/services/Policy")<
  Policy,
  {
    /** Principals whose jobs this identity may list, or `"everyone"`. */
    readonly listable: (identity: Identity) => Effect.Effect<ReadonlyArray<string> | "everyone">
    /** May this identity receive the events of a job? */
    readonly maySubscribe: (identity: Identity, job: JobRecord) => Effect.Effect<boolean>
    /**
     * May this identity cancel a job that its session does not own? The owning session always may; so may, when that no
     * longer exists, any session of the same principal whose own agents and ceiling cover the job.
     */
    readonly mayCancel: (identity: Identity, job: JobRecord) => Effect.Effect<boolean>
    /** May this identity run, and see in the inventory, the agent of this name? */
    readonly mayUseAgent: (identity: Identity, agent: string) => Effect.Effect<boolean>
  }
>() {}
