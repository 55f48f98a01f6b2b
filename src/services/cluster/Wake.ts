/** How one node says to another that there is something new for it in the store. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** What wakes other nodes; see {@link Wake}. */
export interface WakeService {
  /**
   * Says that something is committed that a node looks for; returns at once. What is said again before it has gone out goes
   * out once.
   */
  readonly tell: (node: string) => void
  /**
   * Calls back, for as long as the scope, whenever there may be something new for this node: when it is told, when it can
   * be told again after it could not, and once in a while in any case: then it is not `told`. Returns at once.
   */
  readonly listen: (node: string, onWake: (told: boolean) => void) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * Says that there is something to look for; what it is stands in the store. Nothing rests on a wake: one that is lost costs
 * the second until the next look, and one too many costs a look.
 */
export class Wake extends Context.Tag("arcp/services/Wake")<Wake, WakeService>() {}
