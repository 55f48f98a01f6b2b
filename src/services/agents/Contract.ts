/** What client and server share of an agent. */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { InvalidRequest } from "../../protocol/Errors.js"
import type { AnyVendorEvent } from "./VendorEvent.js"

/**
 * What becomes of an agent's jobs when their process dies: `steps` runs them again over the steps that they have done,
 * `rerun` runs them again whole.
 */
export type Restart = "steps" | "rerun"

/** How the end of a job reads, and its events of a vendor's kind. */
export interface Outcome<Output, Failure, Events extends AnyVendorEvent = AnyVendorEvent> {
  /**
   * Returns the output decoded; fails with a declared failure as itself, with anything else as it is. `mismatch` makes
   * the error for an output that is not what the contract says.
   */
  readonly decodeOutcome: <E, M>(
    outcome: Effect.Effect<unknown, E>,
    mismatch: (message: string) => M
  ) => Effect.Effect<Output, Failure | E | M>
  /** Never there: what the compiler infers `Failure` from, which it cannot from a union. */
  readonly types?: { readonly output: Output; readonly failure: Failure; readonly events: Events } | undefined
}

/** A contract: what goes in, what comes out, how it can fail, what it tells meanwhile. Imported by both sides. */
export interface Contract<
  Input,
  InputEncoded,
  Output,
  OutputEncoded,
  Failure,
  FailureEncoded,
  Events extends AnyVendorEvent = AnyVendorEvent
> extends Outcome<Output, Failure, Events> {
  readonly name: string
  readonly version: string
  /** What the agent does, for people and models that choose among agents. */
  readonly description: string | undefined
  /** Inputs to begin with, as they go over the wire. */
  readonly examples: ReadonlyArray<InputEncoded>
  readonly isDefault: boolean
  /** The result is always streamed: submits without the `result_chunk` feature are refused. */
  readonly requiresStreaming: boolean
  /** Each emit waits until its event is committed. */
  readonly awaitEmits: boolean
  /** Its jobs survive the end of their process; without it they end in `INTERNAL_ERROR`. */
  readonly restart: Restart | undefined
  /** Jobs of it that run at once; `undefined`: any number. */
  readonly concurrency: number | undefined
  readonly input: Schema.Schema<Input, InputEncoded>
  readonly output: Schema.Schema<Output, OutputEncoded>
  readonly error: Schema.Schema<Failure, FailureEncoded>
  /** The events of a vendor's kind that the agent emits with a schema; empty when the contract does not say. */
  readonly events: ReadonlyArray<Events>
  /** Returns the input as it goes over the wire; fails with `InvalidRequest`. */
  readonly encodeInput: (input: Input) => Effect.Effect<InputEncoded, InvalidRequest>
}
