/**
 * What a job gets of a response: its body is held to the lease, to a number of bytes and to a time while it is read,
 * however it is read. Bytes are counted as the handler sees them, so those of a compressed body count unpacked.
 */
import type * as Cookies from "@effect/platform/Cookies"
import type * as Headers from "@effect/platform/Headers"
import { ResponseError } from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import type * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { parseJson } from "../../protocol/Json.js"
import { monotonic } from "../../services/runtime/monotonic.js"

/** What the body of a response is held to. */
export interface BodyBounds {
  readonly maxBytes: number
  /** The point in `monotonic` time at which it must have been read. */
  readonly deadline: number
  /** Why nothing more of it may be read, if so. */
  readonly refusal: () => Error | undefined
}

/** Returns the response with a body that keeps to the bounds. */
export const bounded = (
  source: HttpClientResponse.HttpClientResponse,
  bounds: BodyBounds
): HttpClientResponse.HttpClientResponse => new BoundedResponse(source, bounds)

class BoundedResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [HttpIncomingMessage.TypeId]: HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly request: HttpClientRequest.HttpClientRequest
  readonly status: number
  private readonly bytes: Effect.Effect<Uint8Array<ArrayBuffer>, ResponseError>

  constructor(
    private readonly source: HttpClientResponse.HttpClientResponse,
    private readonly bounds: BodyBounds
  ) {
    super()
    this.request = source.request
    this.status = source.status
    // A body can be read once; whoever asks again gets what was read.
    this.bytes = Effect.runSync(
      Effect.cached(
        Effect.catchIf(
          Effect.map(Stream.runCollect(this.stream), joined),
          // Of a HEAD, a 204 or a 304: `fetch` has no stream of it, and nothing is what it holds.
          ({ reason }) => reason === "EmptyBody",
          () => Effect.succeed(new Uint8Array(0))
        )
      )
    )
  }

  get headers(): Headers.Headers {
    return this.source.headers
  }
  get cookies(): Cookies.Cookies {
    return this.source.cookies
  }
  get remoteAddress(): Option.Option<string> {
    return this.source.remoteAddress
  }

  get stream(): Stream.Stream<Uint8Array, ResponseError> {
    const { deadline, maxBytes, refusal } = this.bounds
    return Stream.unwrap(
      Effect.map(Effect.clock, (clock) => {
        let bytes = 0
        const late = Effect.sleep(Duration.millis(Math.max(0, deadline - monotonic(clock)()))).pipe(
          Effect.zipRight(this.failed("the response took longer than fetchTimeout"))
        )
        return this.source.stream.pipe(
          Stream.mapEffect((part) => {
            bytes += part.length
            const refused = refusal()
            if (refused !== undefined) return this.failed(refused.message, refused)
            return bytes > maxBytes
              ? this.failed(`the response has more than ${maxBytes} bytes (maxFetchBytes)`)
              : Effect.succeed(part)
          }),
          Stream.interruptWhen(late)
        )
      })
    )
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, ResponseError> {
    return Effect.map(this.bytes, ({ buffer }) => buffer)
  }
  get text(): Effect.Effect<string, ResponseError> {
    return Effect.map(this.bytes, (bytes) => new TextDecoder().decode(bytes))
  }
  get json(): Effect.Effect<unknown, ResponseError> {
    return this.decoded((text) => (text === "" ? null : parseJson(text)))
  }
  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, ResponseError> {
    return this.decoded((text) => UrlParams.fromInput(new URLSearchParams(text)))
  }
  get formData(): Effect.Effect<FormData, ResponseError> {
    return Effect.flatMap(this.bytes, (bytes) =>
      Effect.tryPromise({
        try: () =>
          new Response(bytes, {
            headers: { "content-type": this.headers["content-type"] ?? "" }
          }).formData() as Promise<FormData>,
        catch: (cause) => this.failed(undefined, cause)
      })
    )
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "@effect/platform/HttpClientResponse",
      request: this.request.toJSON(),
      status: this.status
    })
  }

  private decoded<A>(decode: (text: string) => A): Effect.Effect<A, ResponseError> {
    return Effect.tryMap(this.text, { try: decode, catch: (cause) => this.failed(undefined, cause) })
  }

  private failed(description: string | undefined, cause?: unknown): ResponseError {
    return new ResponseError({
      request: this.request,
      response: this,
      reason: "Decode",
      ...(description === undefined ? {} : { description }),
      cause
    })
  }
}

const joined = (parts: Chunk.Chunk<Uint8Array>): Uint8Array<ArrayBuffer> => {
  const all = new Uint8Array(Chunk.reduce(parts, 0, (sum, part) => sum + part.length))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}
