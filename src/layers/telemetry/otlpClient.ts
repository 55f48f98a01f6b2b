/**
 * How exports reach a collector: within a time, so many at once, tried again within it. One that is slow, absent or hostile
 * costs what is underway, and one line of the log; what cannot be sent is dropped.
 */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpClient from "@effect/platform/HttpClient"
import { RequestError } from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Signal, Target } from "./OtlpConfig.js"

/** Requests of one signal that are underway at once; what is to be sent beyond that is dropped. */
const maxUnderway = 8

/** Bytes of an answer that are read. */
const maxAnswer = 64 * 1024

/** What may have passed when it is tried again (OTLP, "Failures"). */
const passing: ReadonlySet<number> = new Set([429, 502, 503, 504])

/** As often as the time of a request allows: a collector that is away for less loses nothing. */
const retries = Schedule.jittered(
  Schedule.union(Schedule.exponential("200 millis"), Schedule.spaced("1 second"))
)

/** What is wrong with this request, and may not be with the next. */
const refusing: ReadonlySet<number> = new Set([400, 413, 500])

class NotSent extends Data.TaggedError("NotSent")<{
  readonly message: string
  readonly mayPass: boolean
  /** Milliseconds before which the collector does not want to be asked again. */
  readonly pause?: number | undefined
  readonly isRefused?: boolean | undefined
}> {}

/** Milliseconds that a `Retry-After` asks for; none where it says nothing that is one. */
const pauseOf = (header: string | undefined): number => {
  if (header === undefined) return 0
  const pause = /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - Date.now()
  return Number.isFinite(pause) ? Math.max(0, pause) : 0
}

/** Returns what an answer says that is no success. */
const refusal = (response: HttpClientResponse.HttpClientResponse, timeoutMs: number): NotSent => {
  const { headers, status } = response
  const pause = pauseOf(headers["retry-after"])
  return new NotSent({
    message: `it answers ${status}`,
    mayPass: passing.has(status) && pause < timeoutMs,
    pause,
    isRefused: refusing.has(status)
  })
}

const reasonOf = (cause: unknown): string => {
  const named = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  return named instanceof Error ? ("code" in named && String(named.code)) || named.message : String(named)
}

/** Reads an answer, as far as it is short, so that its connection can be used again. */
const drained = (response: HttpClientResponse.HttpClientResponse): Effect.Effect<void> =>
  Effect.ignore(
    Stream.runFoldWhile(
      response.stream,
      0,
      (bytes) => bytes < maxAnswer,
      (bytes, chunk) => bytes + chunk.length
    )
  )

/** Where a target is, without what may be secret in its URL. */
const placeOf = ({ url }: Target): string => {
  const { host, pathname, protocol } = new URL(url)
  return `${protocol}//${host}${pathname}`
}

/** Sends once. */
const once = (
  sending: Effect.Effect<HttpClientResponse.HttpClientResponse, unknown, Scope.Scope>,
  timeoutMs: number
): Effect.Effect<HttpClientResponse.HttpClientResponse, NotSent> =>
  sending.pipe(
    Effect.mapError((error) => new NotSent({ message: reasonOf(error), mayPass: true })),
    Effect.flatMap((response) =>
      response.status >= 200 && response.status < 300
        ? Effect.as(drained(response), response)
        : refusal(response, timeoutMs)
    ),
    // What of the answer was not read ends with its scope.
    Effect.scoped,
    Effect.tapError(({ mayPass, pause = 0 }) => (mayPass ? Effect.sleep(pause) : Effect.void))
  )

/**
 * Returns what sends to its end, whatever becomes of whoever sends: an exporter that ends gives up what it has just begun to
 * send, and that is no longer in what it sends last. The scope waits for it, `patience` at the most.
 */
const toItsEnd = (patience: Duration.Duration) =>
  Effect.gen(function* () {
    const underway = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => Fiber.awaitAll(underway)).pipe(
        Effect.interruptible,
        Effect.timeoutOption(patience),
        Effect.zipRight(Effect.suspend(() => Fiber.interruptAll(underway)))
      )
    )
    return <A, E>(sending: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Effect.forkDaemon(Effect.interruptible(sending)), (fiber) => {
          underway.add(fiber)
          fiber.addObserver(() => underway.delete(fiber))
          return restore(Fiber.join(fiber))
        })
      )
  })

/** Makes the client of one signal; `patience`: how long the end of its scope waits for what is underway. */
export const make = (
  signal: Signal,
  target: Target,
  patience: Duration.Duration
): Effect.Effect<HttpClient.HttpClient, never, Scope.Scope> =>
  Effect.gen(function* () {
    const base = HttpClient.withScope(
      Context.get(yield* Layer.build(FetchHttpClient.layer), HttpClient.HttpClient)
    )
    const toEnd = yield* toItsEnd(patience)
    let underway = 0
    let isFailing = false
    const failed = (
      request: HttpClientRequest.HttpClientRequest,
      { isRefused = false, message }: NotSent
    ) => {
      const said = isFailing
        ? Effect.void
        : Effect.logWarning(
            `${signal} could not be sent to ${placeOf(target)}, and are dropped until they can: ${message}`
          )
      isFailing = true
      return Effect.zipRight(
        said,
        isRefused
          ? // Whoever exports would send nothing for a minute, although only this one was not taken.
            Effect.succeed(HttpClientResponse.fromWeb(request, new Response()))
          : // As a mistake, which whoever exports does not try again.
            new RequestError({ request, reason: "Encode", description: message })
      )
    }
    const sent = Effect.suspend(() => {
      const said = isFailing ? Effect.logInfo(`${signal} are sent to ${placeOf(target)} again`) : Effect.void
      isFailing = false
      return said
    })
    return HttpClient.make((request) =>
      Effect.suspend(() => {
        if (underway >= maxUnderway)
          return failed(request, new NotSent({ message: "too much is underway", mayPass: false }))
        underway++
        const sending = base.execute(request)
        return once(
          Effect.provideService(sending, FetchHttpClient.RequestInit, { redirect: "manual" }),
          target.timeoutMs
        ).pipe(
          Effect.retry({ schedule: retries, while: ({ mayPass }) => mayPass }),
          Effect.timeoutFail({
            duration: Duration.millis(target.timeoutMs),
            onTimeout: () =>
              new NotSent({ message: `it has not answered within ${target.timeoutMs} ms`, mayPass: false })
          }),
          Effect.tap(() => sent),
          Effect.catchTag("NotSent", (error) => failed(request, error)),
          Effect.ensuring(
            Effect.sync(() => {
              underway--
            })
          ),
          toEnd
        )
      })
    )
  })
