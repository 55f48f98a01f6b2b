/** Bearer tokens from a table (§6.1). Tokens are kept and compared as digests only. */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Argument from "../../protocol/Argument.js"
import { type InternalError, Unauthenticated } from "../../protocol/Errors.js"
import { invalidLease } from "../../protocol/Lease.js"
import { Auth, type Identity } from "../../services/auth/Auth.js"
import { constantTimeEqual, Secrets } from "../../services/runtime/Secrets.js"
import { layer as secretsLayer } from "../runtime/Secrets.js"

/** The one answer to every token that is not accepted; why is for the log alone. */
export const refused = (cause: string): Unauthenticated =>
  new Unauthenticated({ message: "the token is missing, unknown or expired", cause })

/** Tells whose a token is; `Unauthenticated` when it is nobody's. */
export type TokenVerifier = (
  token: Redacted.Redacted
) => Effect.Effect<Identity, Unauthenticated | InternalError>

/** Returns an `Auth` that judges a hello by its token alone, whoever sends it, and refuses one that has none. */
export const fromToken = (verify: TokenVerifier): Auth["Type"] => ({
  authenticate: ({ token }) =>
    token === undefined
      ? new Unauthenticated({ message: "a bearer token is needed in payload.auth.token" })
      : verify(token)
})

const makeStatic = (tokens: Iterable<readonly [token: string, identity: string | Identity]>) =>
  Effect.gen(function* () {
    const secrets = yield* Secrets
    const table = yield* Effect.forEach([...tokens], ([token, identity]) =>
      Effect.map(secrets.digest(token), (digest) => ({
        digest,
        identity: typeof identity === "string" ? { principal: identity } : identity
      }))
    )
    return fromToken((token) =>
      Effect.gen(function* () {
        const digest = yield* secrets.digest(Redacted.value(token))
        let found: Identity | undefined
        // Every entry is compared, whichever matches.
        for (const entry of table) if (constantTimeEqual(entry.digest, digest)) found = entry.identity
        const now = yield* Clock.currentTimeMillis
        if (Redacted.value(token) === "" || found === undefined)
          return yield* refused("the token is none of the table")
        if ((found.expiresAt ?? Infinity) <= now)
          return yield* refused(`the token of ${found.principal} has expired`)
        return found
      })
    )
  })

/** A name that is not known here may be that of a ceiling, and then there would be none. */
const identityRule = Argument.options<Identity>({
  principal: Argument.text,
  expiresAt: Argument.maybe(Argument.that("a time in milliseconds", Number.isFinite)),
  scopes: Argument.maybe(Argument.listOf(Argument.text)),
  agents: Argument.maybe(Argument.listOf(Argument.text)),
  leaseCeiling: Argument.maybe(
    Argument.that("a lease", (value) => typeof value === "object" && invalidLease(value) === undefined)
  )
})

/** Throws when somebody in the table is nobody; of a token nothing is said but where it is. */
const checkTable = (tokens: unknown): void => {
  Argument.check("Auth.layerStatic", ["tokens", Argument.object, tokens])
  for (const [i, identity] of Object.values(tokens as object).entries())
    if (typeof identity !== "string" || identity === "")
      Argument.check("Auth.layerStatic", [`the identity of token ${i + 1}`, identityRule, identity])
}

/**
 * Token → principal, or the whole identity. Throws when the table has something else.
 *
 * @example
 * Auth.layerStatic({ [token]: "alice", [other]: { principal: "ci", agents: ["survey"] } })
 */
export const layerStatic = (tokens: Readonly<Record<string, string | Identity>>): Layer.Layer<Auth> => {
  checkTable(tokens)
  return Layer.effect(Auth, makeStatic(Object.entries(tokens))).pipe(Layer.provide(secretsLayer))
}

const invalid = (message: string) => Either.left(ConfigError.InvalidData(["ARCP_TOKENS"], message))

/** `token=principal,token2=principal2`. The principal follows the last `=`: tokens may be padded base64. */
const parseTable = (text: string): Either.Either<ReadonlyMap<string, string>, ConfigError.ConfigError> => {
  const table = new Map<string, string>()
  for (const [i, entry] of text.split(",").entries()) {
    const at = entry.lastIndexOf("=")
    const token = entry.slice(0, Math.max(at, 0)).trim()
    const principal = entry.slice(at + 1).trim()
    if (token === "" || principal === "") return invalid(`entry ${i + 1} is not token=principal`)
    if (table.has(token)) return invalid(`entry ${i + 1} repeats an earlier token`)
    table.set(token, principal)
  }
  return Either.right(table)
}

const tokensConfig = Config.redacted("ARCP_TOKENS").pipe(
  Config.mapOrFail((text) => Either.map(parseTable(Redacted.value(text)), Redacted.make))
)

/** Is there a table in `ARCP_TOKENS`? Whether it is well-formed, `layerConfig` tells. */
export const configured: Effect.Effect<boolean, ConfigError.ConfigError> = Effect.map(
  Config.option(Config.redacted("ARCP_TOKENS")),
  Option.isSome
)

/** The table of `ARCP_TOKENS`: `token=principal,token2=principal2`. */
export const layerConfig = (): Layer.Layer<Auth, ConfigError.ConfigError> =>
  Layer.effect(
    Auth,
    Effect.flatMap(tokensConfig, (table) => makeStatic(Redacted.value(table)))
  ).pipe(Layer.provide(secretsLayer))

/** Takes any token that is not empty, as principal `dev`. For trying things out; never in production. */
export const layerDev: Layer.Layer<Auth> = Layer.succeed(
  Auth,
  fromToken((token) =>
    Redacted.value(token) === "" ? refused("the token is empty") : Effect.succeed({ principal: "dev" })
  )
)

export * from "../../services/auth/Auth.js"
