/** Services that a program without types may have forgotten: what is missing is said with the layer that provides it. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** Returns a service of the context; dies with a sentence when it is not there. `by` names the layers that provide it. */
export const provided = <Id, Service>(
  tag: Context.Tag<Id, Service>,
  by: string
): Effect.Effect<Service, never, Id> =>
  Effect.contextWithEffect((context: Context.Context<Id>) =>
    Option.match(Context.getOption(context, tag), {
      // As Effect begins it, so that whoever looks for that finds this.
      onNone: () => Effect.die(new Error(`Service not found: ${tag.key} (provide ${by})`)),
      onSome: Effect.succeed
    })
  )
