/** The bearer token of a session: what gives it, and when another is needed (§4.1 of the protocol page, "A token ends"). */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { renewal } from "../../protocol/Features.js"
import { type TokenSource, TokenUnavailable } from "../../services/client/ArcpClient.js"
import type { ClientSession, SessionOptions } from "./ClientSession.js"
import { first, never } from "./first.js"

/** Milliseconds before the end of a token at which another is asked for, of one that is longer good than four times that. */
const margin = 30_000

/** Milliseconds before it is asked for again when it could not be had, or was the same. */
const again = 2_000

/** Is it asked for each connection? Else it is always the same. */
export const isAsked = (token: TokenSource | undefined): boolean =>
  typeof token === "function" || Effect.isEffect(token)

/**
 * Why there is no token. What cannot be read of it says nothing, also not that it will be another the next time. Looked at
 * before Effect does, whose fibers do not survive a proxy that throws what it is itself.
 */
const unavailable = (why: unknown): TokenUnavailable => {
  try {
    const { message = why, retryable } = Object(why) as {
      readonly message?: unknown
      readonly retryable?: unknown
    }
    return new TokenUnavailable({
      message: `no token: ${message}`,
      retryable: retryable !== false,
      cause: why
    })
  } catch {
    return new TokenUnavailable({ message: "no token: throw an Error", retryable: false })
  }
}

/**
 * Whatever an effect or a function gives in the end. Functions may throw, and effects fail with anything. What is given
 * is no function that is called once more: one that gives itself would never come to an end, nor let anything else go on.
 */
const given = (answer: unknown, isGiven?: boolean): Effect.Effect<unknown, unknown> =>
  Effect.suspend(() => {
    try {
      if (Effect.isEffect(answer))
        return Effect.flatMap(answer as Effect.Effect<unknown, unknown>, (value) => given(value, true))
      if (typeof answer !== "function" || isGiven)
        return Effect.succeed(Redacted.isRedacted(answer) ? Redacted.value(answer) : answer)
    } catch (error) {
      return unavailable(error)
    }
    // `Effect.tryPromise` and `Cause.squash` would be 170 bytes more in a browser.
    return Effect.async<unknown, unknown>((resume) => {
      Promise.resolve()
        .then(answer as () => unknown)
        .then(
          (value) => resume(given(value, true)),
          (error) => resume(unavailable(error))
        )
    })
  })

/** What an effect has failed with, or died of. */
const failed = (cause: Cause.Cause<unknown>): TokenUnavailable => {
  const { defect = cause, error = defect } = cause as {
    readonly defect?: unknown
    readonly error?: unknown
  }
  return error instanceof TokenUnavailable ? error : unavailable(error)
}

/** Returns the token for a hello, of whatever kind its source is; none without a source. */
export const ask = ({
  requestTimeout,
  token
}: SessionOptions): Effect.Effect<string | undefined, TokenUnavailable> =>
  first(
    Effect.flatMap(given(token), (text) =>
      typeof text === "string" || token === undefined
        ? Effect.succeed(text as string | undefined)
        : Effect.fail({ message: "it is not a text", retryable: false })
    ),
    Effect.zipRight(Effect.sleep(requestTimeout), Effect.fail("no answer in time"))
  ).pipe(Effect.catchAllCause(failed))

/** When a token ends, in epoch milliseconds, where it says so, as a JWT does. */
const endOf = (token: string | undefined): number => {
  try {
    const [, claims] = (token as string).split(".") as [string, string]
    const json = atob(claims.replace(/-/g, "+").replace(/_/g, "/"))
    return (JSON.parse(json) as { readonly exp: number }).exp * 1000
  } catch {
    return 0
  }
}

/**
 * Returns when there is another token in place of `token`, which is about to end; it is then used for the next hello. A
 * token that does not say when it ends is replaced when the runtime says that it has ended.
 */
export const renewed = (session: ClientSession, token: string | undefined): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { now } = session.options
    const end = endOf(token)
    const left = end - now()
    if (left > 0 && session.features.includes(renewal)) {
      yield* Effect.sleep(left - Math.min(margin, left / 4))
      while (now() < end) {
        const fresh = yield* Effect.catchAll(ask(session.options), () => Effect.succeed(token))
        if (fresh !== token) {
          session.fresh = fresh
          return
        }
        yield* Effect.sleep(again)
      }
    }
    return yield* never
  })
