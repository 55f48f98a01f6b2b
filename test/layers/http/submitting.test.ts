/** What a submit over HTTP is as a frame. */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { HandlerServices } from "../../../src/layers/http/handling.js"
import type { AskOptions, Line } from "../../../src/layers/http/line.js"
import { Refused } from "../../../src/layers/http/problems.js"
import { submit } from "../../../src/layers/http/submitting.js"
import * as Trace from "../../../src/protocol/Trace.js"

const trace = "4bf92f3577b34da6a3ce929d0e0e4736"

/** Returns what is asked of the session for a submit with these headers. */
const asked = (headers: Record<string, string>) =>
  Effect.gen(function* () {
    let options: AskOptions | undefined
    const line: Line = {
      isOver: () => false,
      ask: (_type, _payload, given) => {
        options = given
        return new Refused({ status: 400, message: "that is all" })
      }
    }
    const handler = submit({ maxBodyBytes: 1_000 } as HandlerServices)
    yield* handler({
      identity: { principal: "alice" },
      params: {},
      query: new URLSearchParams(),
      line: Effect.succeed(line),
      flush: Effect.void,
      giveUp: Effect.void
    }).pipe(
      Effect.scoped,
      Effect.flip,
      Effect.provideService(
        HttpServerRequest.HttpServerRequest,
        HttpServerRequest.fromWeb(
          new Request("http://localhost/v1/jobs", {
            method: "POST",
            body: '{"agent":"echo"}',
            headers: { "content-type": "application/json", "content-length": "16", ...headers }
          })
        )
      )
    )
    return options
  })

it.effect("the context of its trace goes whole", () =>
  Effect.gen(function* () {
    const context = { traceparent: `00-${trace}-00f067aa0ba902b7-01`, tracestate: "vendor=a b,other=2" }
    expect(yield* asked(context)).toEqual({ traceId: trace, extensions: { [Trace.extension]: context } })
    // Of a version that is yet to come, as much as is known of it.
    const later = { traceparent: `01-${trace}-00f067aa0ba902b7-01-more` }
    expect(yield* asked(later)).toEqual({ traceId: trace, extensions: { [Trace.extension]: later } })
    for (const broken of [`00-${"0".repeat(32)}-00f067aa0ba902b7-01`, `00-${trace}`, "x"])
      expect(yield* asked({ traceparent: broken, tracestate: "a=1" })).toEqual({ extensions: {} })
  })
)
