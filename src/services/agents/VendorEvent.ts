/**
 * Events of a vendor's own kind whose bodies have a schema. Agents emit values, clients read values, and a contract that
 * declares them (`events`) holds both to what it says.
 *
 * @example
 * const Step = Event.vendor("x-vendor.acme.step", Schema.Struct({ name: Schema.String, done: Schema.Number }))
 * const Build = Agent.make("build", { version: "1.0.0", events: [Step] })
 * yield* job.emit(Step, { name: "compile", done: 0.5 }) // in the handler of Build
 * Stream.runForEach(handle.of(Step), ({ name }) => Effect.log(name)) // on the handle of a job of Build
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../../protocol/Errors.js"
import { describe } from "../../protocol/Problem.js"
import { vendorName } from "../../protocol/Vendor.js"

/** A kind that is a vendor's own: `x-vendor.<vendor>.<name>`. */
export type VendorKind = `x-vendor.${string}`

/** A kind of events with the schema of their bodies. */
export interface VendorEvent<Kind extends VendorKind, Value, Encoded = unknown> {
  readonly kind: Kind
  readonly schema: Schema.Schema<Value, Encoded>
  /** Returns the body as it goes over the wire; fails with `InvalidRequest` when the value is none of the schema's. */
  readonly encode: (value: Value) => Effect.Effect<Encoded, InvalidRequest>
  /** Returns the value of a body; fails with a sentence about the first thing that is wrong with it. */
  readonly decode: (body: unknown) => Effect.Effect<Value, string>
  /**
   * Returns the values of those events of a stream that are of this kind. `mismatch` makes the error for a body that is
   * not what the schema says, with which the stream then fails.
   */
  readonly from: <E, M>(
    events: Stream.Stream<{ readonly kind: string; readonly body: unknown }, E>,
    mismatch: (message: string) => M
  ) => Stream.Stream<Value, E | M>
}

/** Any of them, as far as it can be told apart and read. */
export interface AnyVendorEvent {
  readonly kind: VendorKind
  readonly decode: (body: unknown) => Effect.Effect<unknown, string>
}

/** One whose values are `Value`, as far as it can be read. */
export interface Readable<Value> extends AnyVendorEvent {
  readonly from: <E, M>(
    events: Stream.Stream<{ readonly kind: string; readonly body: unknown }, E>,
    mismatch: (message: string) => M
  ) => Stream.Stream<Value, E | M>
}

/** One whose values are `Value`, as far as it can be emitted. */
export interface Writable<Kind extends VendorKind, Value> {
  readonly kind: Kind
  readonly encode: (value: Value) => Effect.Effect<unknown, InvalidRequest>
}

/**
 * What an effect requires that emits an event of this kind with its schema. `Agent.handle` gives it for the kinds that the
 * contract declares, for every kind when it declares none: it is there for the compiler only.
 */
export interface Emits<Kind extends VendorKind> {
  readonly Emits: Kind
}

/**
 * Declares events of a kind with the schema of their bodies. Throws when the kind is not `x-vendor.<vendor>.<name>` of
 * letters, digits, `_` and `-`, and `.` in the name (§8).
 */
export const vendor = <const Kind extends VendorKind, Value, Encoded>(
  kind: Kind,
  schema: Schema.Schema<Value, Encoded>
): VendorEvent<Kind, Value, Encoded> => {
  if (!vendorName.test(kind))
    throw new Error(`event kind ${JSON.stringify(kind)}: use x-vendor.<vendor>.<name>`)
  const encode = Schema.encode(schema)
  const decodeBody = Schema.decodeUnknown(schema)
  const decode = (body: unknown) => Effect.mapError(decodeBody(body), ({ issue }) => describe(issue, "body"))
  return {
    kind,
    schema,
    encode: (value) =>
      Effect.mapError(
        encode(value),
        ({ issue }) => new InvalidRequest({ message: `bad ${kind} event: ${describe(issue, "body")}` })
      ),
    decode,
    from: (events, mismatch) =>
      events.pipe(
        Stream.filter((event) => event.kind === kind),
        Stream.mapEffect(({ body }) =>
          Effect.mapError(decode(body), (problem) => mismatch(`bad ${kind} event: ${problem}`))
        )
      )
  }
}
