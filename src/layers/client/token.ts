/** The bearer token of a session: what gives it, and when another is needed (§4.1 of the protocol page, "A token ends"). */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { renewal } from "../../protocol/Features.js"
import { type TokenSource, TokenUnavailable } from "../../services/client/ArcpClient.js"
import { backoff } from "./backoff.js"
import type { ClientSession, SessionOptions } from "./ClientSession.js"
import { first } from "./first.js"

/** Milliseconds before the end of a token at which another is asked for, of one that is longer good than four times that. */
const margin = 30_000

/** Timers longer than 2^31 ms do not fire in JavaScript. */
const longestSleep = 86_400_000

/** Is it asked for each connection? Else it is always the same. */
export const isAsked = (token: TokenSource | undefined): boolean =>
  typeof token === "function" || Effect.isEffect(token)

/** Whatever an effect or a function gives in the end. Functions may throw, and effects fail with anything. */
const given = (answer: unknown): Effect.Effect<unknown, unknown> =>
  Effect.isEffect(answer)
    ? Effect.flatMap(answer as Effect.Effect<unknown, unknown>, given)
    : typeof answer === "function"
      ? Effect.flatMap(
          Effect.promise(async (): Promise<unknown> => answer()),
          given
        )
      : Effect.sync(() => (Redacted.isRedacted(answer) ? Redacted.value(answer) : answer))

const unavailable = (cause: Cause.Cause<unknown>): TokenUnavailable => {
  // `Cause.squash` would be 130 bytes more in a browser.
  const failure = cause._tag === "Fail" ? cause.error : cause._tag === "Die" ? cause.defect : cause
  const { message = String(failure), retryable } = Object(failure) as {
    readonly message?: unknown
    readonly retryable?: unknown
  }
  return new TokenUnavailable({
    message: `there is no token: ${message}`,
    retryable: retryable !== false,
    cause: failure
  })
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
        : Effect.fail({ message: "what gives it gave no text", retryable: false })
    ),
    Effect.zipRight(
      Effect.sleep(requestTimeout),
      Effect.fail(`what gives it did not answer within ${requestTimeout / 1000} s`)
    )
  ).pipe(Effect.catchAllCause(unavailable))

/** When a token ends, in epoch milliseconds, where it says so, as a JWT does. */
const endOf = (token: string): number => {
  try {
    const claims = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/")
    return Number((JSON.parse(atob(claims)) as { readonly exp?: unknown }).exp) * 1000
  } catch {
    return Number.NaN
  }
}

/**
 * Returns when there is another token in place of `token`, which is about to end; it is then used for the next hello. A
 * token that does not say when it ends is replaced when the runtime says that it has ended.
 */
export const renewed = (session: ClientSession, token: string | undefined): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { now } = session.options
    const end = token !== undefined && session.features.includes(renewal) ? endOf(token) : Number.NaN
    let due = end - Math.min(margin, (end - now()) / 4)
    for (let attempts = 0; now() < end; ) {
      if (now() < due) yield* Effect.sleep(Math.min(due - now(), longestSleep))
      else {
        const fresh = yield* Effect.catchAll(ask(session.options), () => Effect.succeed(token))
        if (fresh !== token) {
          session.fresh = fresh
          return
        }
        due = now() + (yield* backoff(attempts++))
      }
    }
    return yield* Effect.never
  })
