/** Who may see, cancel and use what. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Argument from "../../protocol/Argument.js"
import type { Identity } from "../../services/auth/Auth.js"
import { coversJob, Policy } from "../../services/auth/Policy.js"
import type { JobRecord } from "../../services/store/Store.js"

/** Who may do more than what is their own, beside the sessions of a principal. */
export interface Options {
  /**
   * Who may cancel a job that its session still owns, beside that session: nobody else (`own-session`, the default), or
   * every session of the same principal whose own agents and ceiling cover the job (`principal`).
   */
  readonly cancel?: "own-session" | "principal" | undefined
  /** Principals that may cancel, and delete, every job of this runtime. They see no more than others do. */
  readonly operators?: ReadonlyArray<string> | undefined
  /** Principals that may list and watch every job, and list every session. They may cancel and answer no more than others do. */
  readonly observers?: ReadonlyArray<string> | undefined
}

const optionsRule = Argument.options<Options>({
  cancel: Argument.maybe(Argument.oneOf("own-session", "principal")),
  observers: Argument.maybe(Argument.listOf(Argument.string)),
  operators: Argument.maybe(Argument.listOf(Argument.string))
})

/** Tells whether a job is of the identity's principal, and one that it could have been given itself. */
const coversOwn = (identity: Identity, job: JobRecord) =>
  identity.principal === job.principal ? coversJob(identity, job) : Effect.succeed(false)

/**
 * Jobs are visible to their own principal; agents are used as the identity's claims say; jobs are cancelled as the
 * options say, and always by the session that owns them; what they ask is answered by every session of their principal
 * whose own agents and ceiling cover the job. Throws on an option that is none of these.
 *
 * @example
 * Policy.layer({ operators: ["ops"], observers: ["ops"], cancel: "principal" })
 */
export const layer = (options: Options = {}): Layer.Layer<Policy> => {
  Argument.check("Policy.layer", ["options", optionsRule, options])
  const { cancel = "own-session", observers = [], operators = [] } = options
  return Layer.succeed(Policy, {
    listable: ({ principal }) => Effect.succeed(observers.includes(principal) ? "everyone" : [principal]),
    maySubscribe: ({ principal }, job) =>
      Effect.succeed(principal === job.principal || observers.includes(principal)),
    mayCancel: (identity, job) =>
      Effect.suspend(() => {
        if (operators.includes(identity.principal)) return Effect.succeed(true)
        return cancel === "principal" ? coversOwn(identity, job) : Effect.succeed(false)
      }),
    deletable: (identity) =>
      Effect.sync(() => (operators.includes(identity.principal) ? ("everyone" as const) : [])),
    mayAnswer: coversOwn,
    mayUseAgent: (identity, agent) =>
      Effect.succeed(identity.agents === undefined || identity.agents.includes(agent))
  })
}

/** The default: every job is its principal's to see, and its own session's to cancel. */
export const layerSamePrincipal: Layer.Layer<Policy> = layer()

export * from "../../services/auth/Policy.js"
