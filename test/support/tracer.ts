/** A tracer that keeps its spans, for tests. */
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

export interface KeptSpan extends Tracer.Span {
  status: Tracer.SpanStatus
  readonly attributes: Map<string, unknown>
}

/** Spans as they begin, in one list. Ids are W3C's; a span is sampled as its parent is. */
export const keeping = () => {
  const spans: Array<KeptSpan> = []
  let count = 0
  const id = (length: number) => (++count).toString(16).padStart(length, "0")
  const tracer = Tracer.make({
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      const above = Option.getOrUndefined(parent)
      const span: KeptSpan = {
        _tag: "Span",
        name,
        spanId: id(16),
        traceId: above?.traceId ?? id(32),
        parent,
        context,
        status: { _tag: "Started", startTime },
        attributes,
        links,
        sampled: above?.sampled ?? true,
        kind,
        end: (endTime, exit) => {
          span.status = { _tag: "Ended", startTime, endTime, exit }
        },
        attribute: (key, value) => {
          attributes.set(key, value)
        },
        event: () => {},
        addLinks: () => {}
      }
      spans.push(span)
      return span
    },
    context: (f) => f()
  })
  return {
    spans,
    tracer,
    layer: Layer.setTracer(tracer),
    named: (name: string) => spans.filter((span) => span.name === name)
  }
}

/** The span above one. */
export const above = (span: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined =>
  span?._tag === "Span" ? Option.getOrUndefined(span.parent) : undefined
