/**
 * Spans as they are exported, put right: `@effect/opentelemetry` (0.64) says of each that has failed that it was interrupted, and not
 * of those that were.
 */

interface Attribute {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
}

/** What of the exporter's data is looked at. */
interface TraceData {
  readonly resourceSpans: ReadonlyArray<{
    readonly scopeSpans: ReadonlyArray<{
      readonly spans: ReadonlyArray<{ readonly attributes: ReadonlyArray<Attribute> }>
    }>
  }>
}

const isMisplaced = ({ key, value }: Attribute): boolean =>
  (key === "span.label" && value["stringValue"] === "⚠︎ Interrupted") ||
  (key === "status.interrupted" && value["boolValue"] === true)

/** Returns the data of an export without what it says of interruption. */
export const withoutInterrupted = (data: unknown): unknown => {
  const { resourceSpans, ...rest } = data as TraceData
  return {
    ...rest,
    resourceSpans: resourceSpans.map((resource) => ({
      ...resource,
      scopeSpans: resource.scopeSpans.map((scope) => ({
        ...scope,
        spans: scope.spans.map((span) =>
          span.attributes.some(isMisplaced)
            ? { ...span, attributes: span.attributes.filter((attribute) => !isMisplaced(attribute)) }
            : span
        )
      }))
    }))
  }
}
