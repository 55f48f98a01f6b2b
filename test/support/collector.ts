/** An OpenTelemetry collector that only remembers what came, or behaves as it is told. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import * as Effect from "effect/Effect"

export interface Received {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

interface Value {
  readonly stringValue?: string
  readonly intValue?: number | string
  readonly doubleValue?: number
  readonly boolValue?: boolean
}
export interface KeyValue {
  readonly key: string
  readonly value: Value
}
export interface SpanData {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly attributes: ReadonlyArray<KeyValue>
  readonly status: { readonly code: number }
}
interface Point {
  readonly attributes: ReadonlyArray<KeyValue>
  readonly asDouble?: number
  readonly count?: number
}
export interface MetricData {
  readonly name: string
  readonly sum?: { readonly dataPoints: ReadonlyArray<Point>; readonly isMonotonic: boolean }
  readonly gauge?: { readonly dataPoints: ReadonlyArray<Point> }
  readonly histogram?: { readonly dataPoints: ReadonlyArray<Point> }
}
export interface LogData {
  readonly body: Value
  readonly severityText: string
  readonly traceId?: string
  readonly spanId?: string
  readonly attributes: ReadonlyArray<KeyValue>
}

/** Reads attributes. */
export const attributesOf = (attributes: ReadonlyArray<KeyValue>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

type Answer = (response: ServerResponse, received: Received) => void

const accept: Answer = (response) => {
  response.writeHead(200, { "content-type": "application/json" })
  response.end("{}")
}

/** Starts one. */
export const collector = (answer: Answer = accept) =>
  Effect.gen(function* () {
    const received: Array<Received> = []
    const waiting = new Set<() => void>()
    const sockets = new Set<Socket>()
    let how = answer
    const server = createServer((request, response) => {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk: Buffer) => chunks.push(chunk))
      request.on("end", () => {
        const one = { path: request.url ?? "", headers: request.headers, body: Buffer.concat(chunks) }
        received.push(one)
        how(response, one)
        for (const look of [...waiting]) look()
      })
    })
    server.on("connection", (socket) => {
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
    })
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.sync(() => {
          server.close()
          for (const socket of sockets) socket.destroy()
        })
    )
    const of = <A>(path: string): ReadonlyArray<A> =>
      received.filter((one) => one.path === path).map(({ body }) => JSON.parse(body.toString("utf8")) as A)
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      received,
      answer: (next: Answer) => {
        how = next
      },
      /** Waits until what has come fulfils a condition. */
      until: (isSo: () => boolean) =>
        Effect.async<void>((resume) => {
          const look = () => {
            if (!isSo()) return
            waiting.delete(look)
            resume(Effect.void)
          }
          waiting.add(look)
          look()
          return Effect.sync(() => waiting.delete(look))
        }),
      spans: () =>
        of<{
          resourceSpans: ReadonlyArray<{ scopeSpans: ReadonlyArray<{ spans: ReadonlyArray<SpanData> }> }>
        }>("/v1/traces").flatMap(({ resourceSpans }) =>
          resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
        ),
      metrics: () =>
        of<{
          resourceMetrics: ReadonlyArray<{
            scopeMetrics: ReadonlyArray<{ metrics: ReadonlyArray<MetricData> }>
          }>
        }>("/v1/metrics").flatMap(({ resourceMetrics }) =>
          resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
        ),
      logs: () =>
        of<{
          resourceLogs: ReadonlyArray<{ scopeLogs: ReadonlyArray<{ logRecords: ReadonlyArray<LogData> }> }>
        }>("/v1/logs").flatMap(({ resourceLogs }) =>
          resourceLogs.flatMap(({ scopeLogs }) => scopeLogs.flatMap(({ logRecords }) => logRecords))
        ),
      resource: (path: string) => {
        const [first] =
          of<Readonly<Record<string, ReadonlyArray<{ resource: { attributes: Array<KeyValue> } }>>>>(path)
        return attributesOf(Object.values(first ?? {})[0]?.[0]?.resource.attributes ?? [])
      }
    }
  })
