/** What of a caller's context reaches services of the operator's. */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/**
 * Returns a context with the caller's span and nothing else: an agent must not be able to put a service of its own, such
 * as a `fetch`, under what the operator provides, where it would decide what is sent and see its keys.
 */
export const onlySpan = (caller: Context.Context<never>): Context.Context<never> =>
  Option.match(Context.getOption(caller, Tracer.ParentSpan), {
    onNone: () => Context.empty(),
    onSome: (span) => Context.make(Tracer.ParentSpan, span)
  })
