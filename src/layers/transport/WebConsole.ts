/**
 * The console: a web application beside a runtime's endpoint, in which people see its jobs, submit some and answer what
 * waits. It is a client of the endpoint like any other, and may no more than the token that it is given.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { monotonic } from "../../services/runtime/monotonic.js"
import { constantTimeEqual, Secrets } from "../../services/runtime/Secrets.js"
import type { HttpRoutes } from "../../services/transport/HttpRoutes.js"
import type { TransportError } from "../../services/transport/Transport.js"
import { layer as routesLayer } from "./HttpRoutes.js"

/** A code that logs a page in once, so that no token is in an address. */
export interface Login {
  /** What the address of the console has after its `#`, as `code=…`. */
  readonly code: Redacted.Redacted
  /** Returns the token for the code, once and for as long as it holds. */
  readonly exchange: (code: string) => Effect.Effect<Option.Option<Redacted.Redacted>>
}

/** Returns a login for whoever has the code; `holds` is an hour unless it is said. */
export const login = (
  token: Redacted.Redacted,
  { holds = "1 hour" }: { readonly holds?: Duration.DurationInput | undefined } = {}
): Effect.Effect<Login, never, Secrets> =>
  Effect.gen(function* () {
    const secrets = yield* Secrets
    const code = Redacted.make(Redacted.value(yield* secrets.resumeToken).slice(3))
    const digest = yield* secrets.digest(Redacted.value(code))
    // An interval: whoever exchanges it may go by another clock, as the requests of a node do.
    const elapsed = monotonic(yield* Effect.clock)
    const until = elapsed() + Duration.toMillis(holds)
    let left = true
    return {
      code,
      exchange: (given) =>
        Effect.gen(function* () {
          const same = constantTimeEqual(yield* secrets.digest(given), digest)
          // Nothing in between: of two who have the code one is first.
          if (!same || !left || elapsed() > until) return Option.none()
          left = false
          return Option.some(token)
        })
    }
  })

/** Options of the console. */
export interface Options {
  /** Where it is. Default: `/console`. */
  readonly path?: `/${string}` | undefined
  /** Path of the endpoint that it connects to, at the same origin. Default: `/arcp`. */
  readonly endpoint?: string | undefined
  /** A code that it may be opened with in place of a token. */
  readonly login?: Login | undefined
  /**
   * Path, at the same origin, that tells whoever shows a token how the agents were loaded, where they are loaded anew when they
   * are saved (`arcp dev`), as JSON: `times`, and `problem` when those that were saved last are not. Default: nothing is asked.
   */
  readonly loads?: string | undefined
}

export const defaultPath = "/console"

/**
 * Returns the app that answers for the console, for an HTTP server that is not ours: mounted at `path`, it sees the whole
 * path of its requests.
 */
export const app = (options: Options = {}) =>
  Effect.map(
    Effect.promise(() => import("./webConsoleApp.js")),
    ({ make }) => make(options)
  )

/**
 * Mounts the console in the server in context.
 *
 * @example
 * TransportWebSocket.layer({ port: 7777, routes: WebConsole.layer() })
 */
export const layer = (options: Options = {}): Layer.Layer<never, TransportError, HttpRoutes> =>
  routesLayer(options.path ?? defaultPath, app(options))
