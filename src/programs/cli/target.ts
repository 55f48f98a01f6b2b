/**
 * Which runtime a command is for. Each setting is looked for by itself: a flag goes before the environment, that before the
 * context in use, and that before the default. A context that a flag names is as good as flags: it goes before the
 * environment.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { refusal } from "../../layers/transport/DialPolicy.js"
import type { Surroundings } from "./Command.js"
import { type ClientFlags, defaultUrl } from "./client-flags.js"
import * as Contexts from "./contexts.js"
import type { Sourced } from "./Flags.js"
import { type TokenError, tokenOf } from "./token.js"
import { UsageError } from "./UsageError.js"

/** A runtime, and what this user shows it. */
export interface Target {
  readonly url: string
  readonly insecure: boolean
  /** An effect is run for each connection. */
  readonly token: Redacted.Redacted | Effect.Effect<Redacted.Redacted, TokenError>
  readonly giveUpAfter: string
}

export type TargetFlags = Pick<ClientFlags, "context" | "url" | "token" | "insecure" | "giveUpAfter">

/** What a person has to change: the flag, or the variable that stands in for it. */
const nameOf = (given: Sourced<string> | undefined, flag: string, variable: string): string | undefined =>
  given === undefined ? undefined : given.from === "flag" ? flag : variable

export const targetOf = (
  flags: TargetFlags
): Effect.Effect<Target, UsageError | Contexts.ContextsError, Surroundings> =>
  Effect.gen(function* () {
    const isWhole = flags.context === undefined && flags.url !== undefined && flags.token !== undefined
    // Whoever says everything needs no file.
    const contexts = isWhole ? undefined : yield* Contexts.load
    const name = flags.context?.value ?? contexts?.current
    const context =
      contexts === undefined || name === undefined
        ? undefined
        : yield* Contexts.find(contexts, name, nameOf(flags.context, "--context", "ARCP_CONTEXT"))
    const isGiven = (given: Sourced<string> | undefined, kept: unknown): given is Sourced<string> =>
      given !== undefined && (given.from === "flag" || flags.context?.from !== "flag" || kept === undefined)
    const isUrlGiven = isGiven(flags.url, context?.url)
    const url = isUrlGiven ? flags.url?.value : context?.url
    const kept = name === undefined || context === undefined ? undefined : tokenOf(name, context)
    const token = isGiven(flags.token, kept) ? Redacted.make(flags.token.value) : kept
    if (token === undefined || flags.token?.value === "")
      return yield* new UsageError({
        message:
          name === undefined
            ? "a token is needed: give --token, set ARCP_TOKEN, or keep one with arcp context add"
            : `a token is needed, and context ${name} has none: give --token, or set ARCP_TOKEN`
      })
    const target = {
      url: url ?? defaultUrl,
      // It was allowed for where the context leads.
      insecure: flags.insecure || (context?.insecure === true && url === context.url),
      token,
      giveUpAfter: flags.giveUpAfter
    }
    // What would not be dialled is a mistake of this command line, which has another name for what allows it than the dialer.
    if (refusal({ url: target.url, allowInsecure: target.insecure }) === undefined) return target
    const by = isUrlGiven ? nameOf(flags.url, "--url", "ARCP_URL") : `context ${name}`
    const mistake =
      refusal({ url: target.url, allowInsecure: true })?.message ??
      `the token would travel readable to ${new URL(target.url).hostname}: use wss://, or --insecure in a network that you trust`
    return yield* new UsageError({ message: `${by}: ${mistake}` })
  })
