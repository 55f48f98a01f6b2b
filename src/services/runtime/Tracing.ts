/** Between Effect's spans and the wire's trace context (§11). */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import * as Trace from "../../protocol/Trace.js"
import type { JobRecord } from "../store/Store.js"
import { unguarded } from "./Guard.js"

/** The `tracestate` that came with a span of another process, in that span's context. */
const TraceState = Context.GenericTag<"TraceState", string>("arcp/services/TraceState")

/** Marks a span that stands in for one that there is not: nothing but its trace is said of it. */
const StandIn = Context.GenericTag<"StandIn", true>("arcp/services/StandIn")

/** Whether a span only says in which trace others are: they are at the root of it, and it has decided nothing about them. */
export const isStandIn = (span: Tracer.AnySpan): boolean =>
  Option.isSome(Context.getOption(span.context, StandIn as never))

/** Whose spans are seen by nobody. */
const untraced = /* @__PURE__ */ Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** Whether somebody sees the spans of a tracer. */
export const isSeen = (tracer: Tracer.Tracer): boolean => unguarded(tracer) !== untraced

/** Whether somebody sees the spans that are made here. */
export const isTraced: Effect.Effect<boolean> = /* @__PURE__ */ Effect.map(Effect.tracer, isSeen)

/** Returns a span that nobody sees, for whoever asks in which trace something is. */
export const unseen = (name: string, parent: Tracer.AnySpan, clock: Clock.Clock): Tracer.Span =>
  untraced.span(name, Option.some(parent), Context.empty(), [], clock.unsafeCurrentTimeNanos(), "internal")

/** Returns a span of another process, as a parent for spans here. */
export const external = (
  traceId: string,
  { sampled, spanId, tracestate }: Trace.RemoteSpan
): Tracer.ExternalSpan =>
  Tracer.externalSpan({
    traceId,
    spanId,
    sampled,
    context: (tracestate === undefined
      ? Context.empty()
      : Context.make(TraceState, tracestate)) as Context.Context<never>
  })

/** Returns what the wire would say of a span. */
export const remote = (span: Tracer.AnySpan): Trace.RemoteSpan | undefined =>
  Trace.remoteSpan(undefined, contextOf(Option.some(span)))?.span

/**
 * Returns the parent of a submitted job's span: the submitter's. Where the wire brought a trace id and no span, one that
 * nobody has seen stands in for it, since nothing else puts a span into a given trace. To a tracer that does not know of
 * that (`isStandIn`) it is sampled, or all of them would be lost.
 */
export const submitter = ({ parentSpan, traceId }: Pick<JobRecord, "parentSpan" | "traceId">) => {
  if (parentSpan !== undefined) return external(traceId, parentSpan)
  const low = traceId.slice(16)
  return Tracer.externalSpan({
    traceId,
    spanId: /[^0]/.test(low) ? low : traceId.slice(0, 16),
    sampled: true,
    context: Context.make(StandIn, true) as Context.Context<never>
  })
}

/**
 * Returns a span's context as the wire has it: of the nearest span that has W3C ids. It is sampled when all above it are
 * (Effect's own spans say that they are whatever their parent says), and passes on the `tracestate` of the trace.
 */
export const contextOf = (span: Option.Option<Tracer.AnySpan>): Trace.TraceContext | undefined => {
  let nearest: Tracer.AnySpan | undefined
  let traceparent: string | undefined
  let tracestate: string | undefined
  for (let next = span; next._tag === "Some"; ) {
    const up = next.value
    if (Trace.traceparent(up, true) !== undefined) nearest ??= up
    if (nearest !== undefined && !(traceparent?.endsWith("0") ?? false))
      traceparent = Trace.traceparent(nearest, up.sampled)
    tracestate = Option.getOrUndefined(Context.getOption(up.context, TraceState as never))
    next = up._tag === "Span" ? up.parent : Option.none()
  }
  return traceparent === undefined ? undefined : { traceparent, tracestate }
}
