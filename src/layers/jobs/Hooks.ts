/** Who is told when a job waits, has ended, or cannot go on. */
import type { Context } from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Argument from "../../protocol/Argument.js"
import {
  type EndedCall,
  type HookError,
  Hooks,
  type ParkedCall,
  type WaitingCall
} from "../../services/jobs/Hooks.js"

/** What to call; what is left out costs nothing. */
export interface Handlers<R> {
  /** A job waits for an answer (`Job.input`). */
  readonly onWaiting?: ((call: WaitingCall) => Effect.Effect<void, HookError, R>) | undefined
  /** A job that was submitted has ended, however it did. */
  readonly onEnded?: ((call: EndedCall) => Effect.Effect<void, HookError, R>) | undefined
  /** A durable job does not go on, since the version of its agent is not there. */
  readonly onParked?: ((call: ParkedCall) => Effect.Effect<void, HookError, R>) | undefined
}

const callable = Argument.maybe(Argument.callable)
const handlersRule = Argument.fields({ onWaiting: callable, onEnded: callable, onParked: callable })

const within = <Call, R>(
  handler: ((call: Call) => Effect.Effect<void, HookError, R>) | undefined,
  context: Context<R>
) => (handler === undefined ? undefined : (call: Call) => Effect.provide(handler(call), context))

/**
 * Calls these functions. What they require is the layer's.
 *
 * @example
 * Hooks.layer({ onWaiting: ({ jobId, principal }) => mail(principal, `arcp answer ${jobId}`) })
 */
export const layer = <R = never>(handlers: Handlers<R>): Layer.Layer<Hooks, never, R> => {
  Argument.check("Hooks.layer", ["handlers", handlersRule, handlers])
  return Layer.effect(
    Hooks,
    Effect.map(Effect.context<R>(), (context) => ({
      onWaiting: within(handlers.onWaiting, context),
      onEnded: within(handlers.onEnded, context),
      onParked: within(handlers.onParked, context)
    }))
  )
}

/** The default: nobody is told. */
export const layerNone: Layer.Layer<Hooks> = Layer.succeed(Hooks, {})

export * from "../../services/jobs/Hooks.js"
