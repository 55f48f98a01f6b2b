/**
 * The `HttpClient` of a job: `net.fetch` on the canonical URL of every request and of every redirect. The check sits
 * where a request is sent, below whatever a handler puts around the client, and the URL that was checked is the one
 * that is requested.
 *
 * Redirects are followed here, at most ten, as `fetch` does it: the client underneath is kept from following by
 * itself, because it would not ask.
 */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Headers from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import { type HttpClientError, RequestError } from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberRef from "effect/FiberRef"
import { globalValue } from "effect/GlobalValue"
import { type Leased, type Lessee, make } from "../services/Leased.js"

const maxRedirects = 10

/** Headers that are meant for one origin. */
const credentials = ["authorization", "cookie", "proxy-authorization"]

/** Does the lease name the host of the request being sent? See HttpClientPublic.ts. */
export const hostIsNamed = globalValue("arcp/layers/LeasedHttpClient/hostIsNamed", () =>
  FiberRef.unsafeMake(false)
)

const refused = (request: HttpClientRequest.HttpClientRequest, description: string, cause?: unknown) =>
  new RequestError({ request, reason: "Transport", description, cause })

const lease = (open: HttpClient.HttpClient, { lease }: Lessee): HttpClient.HttpClient => {
  /** The request with the URL that was checked, and nothing that could make it another. */
  const check = (
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
          // A Host header names another site than the URL does.
          onRight: (canonical) => rebuilt(request, canonical, ["host"])
        })
    )

  const send = (request: HttpClientRequest.HttpClientRequest) =>
    open.execute(request).pipe(
      // The handler's own `fetch` and options would decide what is sent.
      Effect.mapInputContext((context: Context.Context<never>) =>
        Context.add(
          Context.omit(FetchHttpClient.Fetch)(context as Context.Context<FetchHttpClient.Fetch>),
          FetchHttpClient.RequestInit,
          { redirect: "manual" }
        )
      ),
      Effect.locally(hostIsNamed, lease.namesHost(request.url))
    )

  const follow = (
    wanted: HttpClientRequest.HttpClientRequest,
    redirects: number
  ): Effect.Effect<HttpClientResponse, HttpClientError> =>
    Effect.flatMap(check(wanted), (request) =>
      Effect.flatMap(send(request), (response) => {
        if (response.status === 0)
          return refused(
            request,
            "the response is a redirect that this platform does not show; request its target"
          )
        const location = isRedirect(response.status) ? response.headers["location"] : undefined
        if (location === undefined) return Effect.succeed(response)
        if (redirects >= maxRedirects) return refused(request, `redirected more than ${maxRedirects} times`)
        if (!URL.canParse(location, request.url)) return refused(request, "redirected to what is not a URL")
        return follow(redirected(request, response.status, new URL(location, request.url)), redirects + 1)
      })
    )

  return HttpClient.makeWith<never, never, HttpClientError, never>(
    Effect.flatMap((request) => follow(request, 0)),
    Effect.succeed
  )
}

const isRedirect = (status: number): boolean => [301, 302, 303, 307, 308].includes(status)

/** What `fetch` would request next. */
const redirected = (
  request: HttpClientRequest.HttpClientRequest,
  status: number,
  to: URL
): HttpClientRequest.HttpClientRequest => {
  const { method } = request
  const becomesGet =
    status === 303 ? method !== "GET" && method !== "HEAD" : status <= 302 && method === "POST"
  const dropped = [
    ...(to.origin === new URL(request.url).origin ? [] : credentials),
    ...(becomesGet ? ["content-type", "content-length", "content-encoding"] : [])
  ]
  const next = rebuilt(request, to.href, dropped)
  return becomesGet ? HttpClientRequest.make("GET")(next.url, { headers: next.headers }) : next
}

/** The same request for a whole URL, without some headers. */
const rebuilt = (
  { method, headers, body }: HttpClientRequest.HttpClientRequest,
  url: string,
  without: ReadonlyArray<string>
): HttpClientRequest.HttpClientRequest =>
  HttpClientRequest.make(method)(url, { headers: Headers.remove(headers, without) }).pipe(
    HttpClientRequest.setBody(body)
  )

export const leased: Leased = make(HttpClient.HttpClient, lease)
