/**
 * The `HttpClient` of a job: `net.fetch` on the canonical URL of every request and of every redirect. The check sits
 * where a request is sent, below whatever a handler puts around the client, and the URL that was checked is the one
 * that is requested.
 *
 * What goes on after that is held to the lease too: bodies are checked while they are sent and while they are read
 * (LeasedResponse.ts), and the whole has a time.
 *
 * Redirects are followed here, at most ten, as `fetch` does it: the client underneath is kept from following by
 * itself, because it would not ask.
 */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Headers from "@effect/platform/Headers"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import { type HttpClientError, RequestError } from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberRef from "effect/FiberRef"
import { globalValue } from "effect/GlobalValue"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { LeaseService } from "../../services/lease/Lease.js"
import { type Leased, type Lessee, make } from "../../services/lease/Leased.js"
import { monotonic } from "../../services/runtime/monotonic.js"
import { bounded } from "./LeasedResponse.js"
import { onlySpan } from "./onlySpan.js"

const maxRedirects = 10

/** Headers that are meant for one origin. */
const credentials = ["authorization", "cookie", "proxy-authorization"]

/** Headers of a body. */
const ofBody = ["content-encoding", "content-language", "content-location", "content-type"]

/**
 * Headers that the client underneath makes up itself. One of the handler's would name another site than the URL does,
 * or put the end of the message elsewhere, and what follows there is read as another request.
 */
const ofConnection = [
  "host",
  "content-length",
  "transfer-encoding",
  "trailer",
  "te",
  "connection",
  "proxy-connection",
  "keep-alive",
  "upgrade",
  "expect"
]

/** Does the lease name the host of the request being sent? See HttpClientPublic.ts. */
export const hostIsNamed = globalValue("arcp/layers/LeasedHttpClient/hostIsNamed", () =>
  FiberRef.unsafeMake(false)
)

const refused = (request: HttpClientRequest.HttpClientRequest, description: string, cause?: unknown) =>
  new RequestError({ request, reason: "Transport", description, cause })

/** Gives why nothing more may be sent to a URL that was admitted, or read from it. */
const refusalOf = (lease: LeaseService, url: string) => () =>
  Option.getOrUndefined(Either.getLeft(lease.check("net.fetch", url)))

/** Returns the request with the URL that was checked, and nothing that could make it another. */
const check = (
  lease: LeaseService,
  request: HttpClientRequest.HttpClientRequest
): Either.Either<HttpClientRequest.HttpClientRequest, RequestError> =>
  Either.flatMap(
    Either.mapLeft(
      UrlParams.makeUrl(request.url, request.urlParams, request.hash),
      (cause) => new RequestError({ request, reason: "InvalidUrl", cause })
    ),
    (url) =>
      Either.mapBoth(lease.check("net.fetch", url.href), {
        onLeft: (error) => refused(request, error.message, error),
        onRight: (canonical) =>
          rebuilt({ ...request, body: held(request.body, refusalOf(lease, canonical)) }, canonical)
      })
  )

/** Sends a request that was checked. */
const send = (
  open: HttpClient.HttpClient,
  lease: LeaseService,
  request: HttpClientRequest.HttpClientRequest
) =>
  open.execute(request).pipe(
    // Only the span: the handler's own `fetch`, or options of a client, would decide what is sent.
    Effect.mapInputContext((context: Context.Context<never>) =>
      Context.add(onlySpan(context), FetchHttpClient.RequestInit, { redirect: "manual" })
    ),
    Effect.locally(hostIsNamed, lease.namesHost(request.url)),
    Effect.locally(HttpClient.currentTracerPropagation, lease.fetching.traceHeaders),
    // Clients tell in different ways, or not at all, why they could not read a body to its end.
    Effect.mapError((error) => {
      const refusal = refusalOf(lease, request.url)()
      return refusal === undefined ? error : refused(request, refusal.message, refusal)
    })
  )

/** Returns the request that a redirect asks for, not yet checked; `redirects` came before it. */
const next = (
  request: HttpClientRequest.HttpClientRequest,
  status: number,
  location: string,
  redirects: number
): Either.Either<HttpClientRequest.HttpClientRequest, RequestError> => {
  if (redirects >= maxRedirects)
    return Either.left(refused(request, `redirected more than ${maxRedirects} times`))
  return URL.canParse(location, request.url)
    ? Either.right(redirected(request, status, new URL(location, request.url)))
    : Either.left(refused(request, "redirected to what is not a URL"))
}

/** Requests what is wanted, and follows redirects from there. `deadline`: of the whole, in `monotonic` ms. */
const follow = (
  open: HttpClient.HttpClient,
  lease: LeaseService,
  wanted: HttpClientRequest.HttpClientRequest,
  redirects: number,
  deadline: number
): Effect.Effect<HttpClientResponse, HttpClientError> =>
  Effect.gen(function* () {
    yield* Effect.mapError(lease.flushed, (error) => refused(wanted, error.message, error))
    // Nothing waits between the check and the request.
    const request = yield* check(lease, wanted)
    const response = yield* send(open, lease, request)
    if (response.status === 0)
      return yield* refused(
        request,
        "the response is a redirect that this platform does not show; request its target"
      )
    const location = isRedirect(response.status) ? response.headers["location"] : undefined
    if (location === undefined) {
      const { maxBytes } = lease.fetching
      return bounded(response, { maxBytes, deadline, refusal: refusalOf(lease, request.url) })
    }
    yield* abandon(response)
    const to = yield* next(request, response.status, location, redirects)
    return yield* follow(open, lease, to, redirects + 1, deadline)
  })

const clientOf = (open: HttpClient.HttpClient, { lease }: Lessee): HttpClient.HttpClient =>
  HttpClient.makeWith<never, never, HttpClientError, never>(
    Effect.flatMap((request) =>
      Effect.clockWith((clock) =>
        Effect.timeoutFail(
          follow(open, lease, request, 0, monotonic(clock)() + Duration.toMillis(lease.fetching.timeout)),
          {
            duration: lease.fetching.timeout,
            onTimeout: () => refused(request, "no response within fetchTimeout")
          }
        )
      )
    ),
    Effect.succeed
  )

const isRedirect = (status: number): boolean => [301, 302, 303, 307, 308].includes(status)

/** Lets go of a response that nobody reads, and of its connection: its body may never end. */
const abandon = (response: HttpClientResponse): Effect.Effect<void> =>
  // Reading it until that is interrupted is what ends it.
  Stream.runDrain(response.stream).pipe(Effect.ignore, Effect.raceFirst(Effect.yieldNow()), Effect.forkDaemon)

/** What `fetch` would request next. */
const redirected = (
  request: HttpClientRequest.HttpClientRequest,
  status: number,
  to: URL
): HttpClientRequest.HttpClientRequest => {
  const { headers, method } = request
  const becomesGet =
    status === 303 ? method !== "GET" && method !== "HEAD" : status <= 302 && method === "POST"
  const kept = to.origin === new URL(request.url).origin ? headers : Headers.remove(headers, credentials)
  return becomesGet
    ? rebuilt({ method: "GET", headers: Headers.remove(kept, ofBody), body: HttpBody.empty }, to.href)
    : rebuilt({ method, headers: kept, body: request.body }, to.href)
}

/** The same request for a whole URL. */
const rebuilt = (
  { method, headers, body }: Pick<HttpClientRequest.HttpClientRequest, "method" | "headers" | "body">,
  url: string
): HttpClientRequest.HttpClientRequest =>
  HttpClientRequest.make(method)(url).pipe(
    HttpClientRequest.setBody(measured(body)),
    // After the body, whose content type the handler may have corrected.
    HttpClientRequest.setHeaders(
      Headers.remove(Headers.fromInput(headers), [
        ...ofConnection,
        ...(body._tag === "FormData" ? ["content-type"] : [])
      ])
    )
  )

/** A body that fails to be read when it may not be sent on. What is not in memory as a whole is read in parts. */
const held = (body: HttpBody.HttpBody, refusal: () => Error | undefined): HttpBody.HttpBody => {
  const guarded = (stream: Stream.Stream<Uint8Array, unknown>) =>
    Stream.mapEffect(stream, (part) => {
      const refused = refusal()
      return refused === undefined ? Effect.succeed(part) : Effect.fail(refused)
    })
  if (body._tag === "Stream")
    return HttpBody.stream(guarded(body.stream), body.contentType, body.contentLength)
  return body._tag === "Raw" && isReadInParts(body.body)
    ? HttpBody.stream(
        guarded(
          Stream.map(
            Stream.fromAsyncIterable(body.body, (cause) => cause),
            asBytes
          )
        ),
        body.contentType
      )
    : body
}

const isReadInParts = (body: unknown): body is AsyncIterable<Uint8Array | string> =>
  typeof body === "object" && body !== null && Symbol.asyncIterator in body

const asBytes = (part: Uint8Array | string): Uint8Array =>
  typeof part === "string" ? new TextEncoder().encode(part) : part

/** The same body, with the length it has or with none. */
const measured = (body: HttpBody.HttpBody): HttpBody.HttpBody => {
  switch (body._tag) {
    case "Raw":
      return HttpBody.raw(body.body, { contentType: body.contentType })
    case "Uint8Array":
      return HttpBody.uint8Array(body.body, body.contentType)
    case "Stream": {
      const { contentLength, contentType, stream } = body
      return contentLength !== undefined && Number.isSafeInteger(contentLength) && contentLength >= 0
        ? HttpBody.stream(ofLength(stream, contentLength), contentType, contentLength)
        : HttpBody.stream(stream, contentType)
    }
    default:
      return body
  }
}

/** Fails before it gives more bytes than these, and at its end when there were fewer. */
const ofLength = (stream: Stream.Stream<Uint8Array, unknown>, length: number) =>
  Stream.suspend(() => {
    let left = length
    const wrong = new Error("the body is not as long as its content length says")
    return Stream.concat(
      Stream.mapEffect(stream, (bytes) => {
        left -= bytes.length
        return left < 0 ? Effect.fail(wrong) : Effect.succeed(bytes)
      }),
      Stream.suspend(() => (left === 0 ? Stream.empty : Stream.fail(wrong)))
    )
  })

/** Gives every job an `HttpClient` that holds it to its lease. */
export const leased: Leased = make(HttpClient.HttpClient, clientOf)
