/** Who may connect to `arcp serve`: what its flags, its environment and the files that they name say. */
import type { FileSystem } from "@effect/platform/FileSystem"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Auth from "../../../layers/auth/Auth.js"
import type * as AuthJwt from "../../../layers/auth/AuthJwt.js"
import * as SecretsLayer from "../../../layers/runtime/Secrets.js"
import type { Auth as AuthTag, Identity } from "../../../services/auth/Auth.js"
import { Secrets } from "../../../services/runtime/Secrets.js"
import { readIdentities } from "../identities.js"
import type { ServeFlags } from "../serve.js"
import { UsageError } from "../UsageError.js"
import { pair } from "./limits.js"

/** Who may connect. Nothing of it can fail any more. */
export interface Authentication {
  readonly layer: Layer.Layer<AuthTag>
  /** The token that was made because nobody was named. */
  readonly token: string | undefined
}

/** Builds what judges tokens, which reads what it is given: a key, a table. */
const built = <E>(
  layer: Layer.Layer<AuthTag, E>,
  token?: string
): Effect.Effect<Authentication, E, Scope.Scope> =>
  Effect.map(Layer.build(layer), (context) => ({ layer: Layer.succeedContext(context), token }))

/** Where the keys of JWTs come from: the flags, or else a secret that arguments would show to other users; and what says so. */
const keySources = (flags: ServeFlags) =>
  Effect.gen(function* () {
    const sources = {
      secret: Option.map(flags.jwtSecret, Redacted.make),
      publicKeyFile: flags.jwtPublicKey,
      jwksUri: flags.jwtJwks
    }
    const names = { secret: "--jwt-secret", publicKeyFile: "--jwt-public-key", jwksUri: "--jwt-jwks" }
    const named = Object.entries<Option.Option<unknown>>(sources).flatMap(([source, value]) =>
      Option.isSome(value) ? [names[source as keyof typeof names]] : []
    )
    if (named.length > 1)
      return yield* new UsageError({
        message: `choose one of ${named.join(" and ")}: JWTs have one source of keys`
      })
    if (named[0] !== undefined) return { name: named[0], sources }
    const secret = yield* Config.option(Config.redacted("ARCP_JWT_SECRET"))
    return Option.isSome(secret) ? { name: "ARCP_JWT_SECRET", sources: { ...sources, secret } } : undefined
  })

/** What judges JWTs. */
const ofJwts = (
  { name, sources }: NonNullable<Effect.Effect.Success<ReturnType<typeof keySources>>>,
  checks: Omit<AuthJwt.Options, "key">
) =>
  Effect.gen(function* () {
    const Jwt = yield* Effect.promise(() => import("../../../layers/auth/AuthJwt.js"))
    const key = Option.getOrThrow(yield* Jwt.keyFrom(sources))
    return yield* built(Jwt.layer({ key, ...checks }))
  }).pipe(
    Effect.catchTag("AuthJwtError", ({ message }) => new UsageError({ message: `${name}: ${message}` }))
  )

/** Refuses names of principals that nobody has, such as one of a variable that is not set. */
const checkPrincipals = (flags: ServeFlags): Effect.Effect<void, UsageError> =>
  Effect.forEach(["operator", "observer"] as const, (name) =>
    flags[name].every((principal) => principal.trim() !== "")
      ? Effect.void
      : new UsageError({
          message: `--${name} takes a PRINCIPAL, as tokens or JWTs name it, and this is empty`
        })
  )

/** Reads who may connect, and who of them may do more. */
export const authentication = (
  flags: ServeFlags
): Effect.Effect<Authentication, UsageError | ConfigError, FileSystem | Scope.Scope> =>
  Effect.gen(function* () {
    yield* checkPrincipals(flags)
    const issuer = Option.getOrUndefined(flags.jwtIssuer)
    const audience = Option.getOrUndefined(flags.jwtAudience)
    const tolerance = Option.getOrUndefined(flags.jwtClockToleranceSec)
    if (tolerance !== undefined && tolerance < 0)
      return yield* new UsageError({ message: "--jwt-clock-tolerance-sec takes 0 or more" })
    const checks = {
      ...(issuer === undefined ? {} : { issuer }),
      ...(audience === undefined ? {} : { audience }),
      ...(tolerance === undefined ? {} : { clockTolerance: Duration.seconds(tolerance) })
    }
    const named = Option.isSome(flags.identities) || flags.token.length > 0
    const keys = yield* keySources(flags)
    if (keys !== undefined) {
      if (named)
        yield* Effect.logWarning("JWTs are accepted instead of --token and --identities, which are ignored")
      return yield* ofJwts(keys, checks)
    }
    if (Object.keys(checks).length > 0)
      return yield* new UsageError({
        message:
          "--jwt-issuer, --jwt-audience and --jwt-clock-tolerance-sec need a key: --jwt-secret, --jwt-public-key or --jwt-jwks"
      })
    const identities = Option.isSome(flags.identities) ? yield* readIdentities(flags.identities.value) : {}
    const tokens = yield* Effect.forEach(flags.token, (token) =>
      pair("token", token, "TOKEN=PRINCIPAL, e.g. --token secret=me")
    )
    // One that has a ceiling in the file must not lose it to a flag.
    const table = new Map<string, string | Identity>(Object.entries(identities))
    for (const [token, principal] of tokens) {
      if ((table.get(token) ?? principal) !== principal)
        return yield* new UsageError({
          message: `--token …=${principal}: this token is another's already; give each its own`
        })
      table.set(token, principal)
    }
    if (tokens.some(([token, principal]) => token.trim() === "" || principal.trim() === ""))
      return yield* new UsageError({ message: "--token takes TOKEN=PRINCIPAL, and neither is empty" })
    if (named && table.size === 0)
      return yield* new UsageError({
        message: "--identities: nobody is in it, so nobody could connect; add one, or --token TOKEN=PRINCIPAL"
      })
    if (named) return yield* built(Auth.layerStatic(Object.fromEntries(table)))
    if (yield* Auth.configured) return yield* built(Auth.layerConfig())
    const made = (yield* Effect.flatMap(Secrets, (secrets) => secrets.resumeToken))
      .pipe(Redacted.value)
      .slice(3, 35)
    return yield* built(Auth.layerStatic({ [made]: "local" }), made)
  }).pipe(Effect.provide(SecretsLayer.layer))
