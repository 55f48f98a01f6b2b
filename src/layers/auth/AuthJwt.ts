/** Bearer tokens that are signed JWTs (§6.1), verified with `jose`. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Runtime from "effect/Runtime"
import type * as jose from "jose"
import * as Argument from "../../protocol/Argument.js"
import { InternalError, type Unauthenticated } from "../../protocol/Errors.js"
import { invalidLease, type Lease } from "../../protocol/Lease.js"
import { isLoopback } from "../../protocol/Loopback.js"
import { Auth, type Identity } from "../../services/auth/Auth.js"
import { fileProblem } from "../../services/runtime/fileProblem.js"
import { needs } from "../../services/runtime/needs.js"
import { fromToken, refused } from "./Auth.js"
import { KeySetUnavailable, type RemoteKeys, remoteKeys } from "./remoteKeys.js"

const hmac = ["HS256", "HS384", "HS512"] as const
const asymmetric = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519"
] as const

/** A signature algorithm of JWS (RFC 7518, RFC 8037). */
export type Algorithm = (typeof hmac)[number] | (typeof asymmetric)[number]
const known: ReadonlyArray<string> = [...hmac, ...asymmetric]

/** Where the verification key comes from. */
export type Key =
  /** HMAC. At least as long as the hash (32 bytes for HS256). */
  | { readonly secret: string | Redacted.Redacted | Uint8Array }
  /** An SPKI public key or an X.509 certificate, PEM. */
  | { readonly publicKeyPem: string }
  | { readonly jwk: jose.JWK }
  | { readonly jwks: jose.JSONWebKeySet }
  /** Fetched when first needed and cached. `https`, or `http` on loopback. */
  | { readonly jwksUri: string }

/** Which tokens are believed, and how their claims are read. */
export interface Options {
  readonly key: Key
  /** Algorithms a token may be signed with. Default: every one that fits the key; HMAC only with `secret`. */
  readonly algorithms?: ReadonlyArray<Algorithm> | undefined
  /** Accepted `iss`; unchecked when absent. */
  readonly issuer?: string | ReadonlyArray<string> | undefined
  /** Accepted `aud`; unchecked when absent. */
  readonly audience?: string | ReadonlyArray<string> | undefined
  /** Time by which clocks may differ. Default: 30 seconds. */
  readonly clockTolerance?: Duration.DurationInput | undefined
  /** Refuse tokens without `exp`. Default true. */
  readonly requireExpiry?: boolean | undefined
  /** Names of the claims that make the identity. */
  readonly claims?:
    | {
        /** A non-empty string. Default `sub`. */
        readonly principal?: string | undefined
        /** Agent names the identity may use, an array. Default `arcp_agents`; absent means all. */
        readonly agents?: string | undefined
        /** The lease ceiling. Default `arcp_lease`; absent means none. */
        readonly leaseCeiling?: string | undefined
        /** An array, or names separated by spaces. Default `scope`. */
        readonly scopes?: string | undefined
      }
    | undefined
}

const text = Argument.maybe(Argument.text)
const names = Argument.maybe(Argument.either(Argument.string, Argument.listOf(Argument.string)))

const optionsRule = Argument.options<Options>({
  key: Argument.that(
    "one of { secret }, { publicKeyPem }, { jwk }, { jwks }, { jwksUri }",
    (value) =>
      typeof value === "object" &&
      value !== null &&
      ["secret", "publicKeyPem", "jwk", "jwks", "jwksUri"].some((name) => name in value)
  ),
  algorithms: Argument.maybe(Argument.listOf(Argument.text)),
  issuer: names,
  audience: names,
  clockTolerance: Argument.maybe(Argument.finiteDuration),
  requireExpiry: Argument.maybe(Argument.boolean),
  claims: Argument.maybe(
    Argument.options<NonNullable<Options["claims"]>>({
      principal: text,
      agents: text,
      leaseCeiling: text,
      scopes: text
    })
  )
})

/** As the protocol has it (§4.1 of its page). */
const defaultTolerance = Duration.seconds(30)

/** The key or the algorithms cannot be used. */
export class AuthJwtError extends Data.TaggedError("AuthJwtError")<{ readonly message: string }> {}

/** The one key source that is named, `None` when none is. `publicKeyFile` is a PEM file. */
export const keyFrom = (sources: {
  readonly secret: Option.Option<Redacted.Redacted>
  readonly publicKeyFile: Option.Option<string>
  readonly jwksUri: Option.Option<string>
}): Effect.Effect<Option.Option<Key>, AuthJwtError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const { secret, publicKeyFile, jwksUri } = sources
    if (Object.values<Option.Option<unknown>>(sources).filter(Option.isSome).length > 1)
      return yield* new AuthJwtError({
        message: "give one source of JWT keys: a secret, a public key file or a JWKS address"
      })
    if (Option.isSome(secret)) return Option.some({ secret: secret.value })
    if (Option.isSome(jwksUri)) return Option.some({ jwksUri: jwksUri.value })
    if (Option.isNone(publicKeyFile)) return Option.none()
    const fs = yield* FileSystem.FileSystem
    const publicKeyPem = yield* Effect.mapError(
      fs.readFileString(publicKeyFile.value),
      (error) =>
        new AuthJwtError({
          message: `the JWT public key file ${publicKeyFile.value} cannot be read: ${fileProblem(error)}`
        })
    )
    return Option.some({ publicKeyPem })
  })

type Jose = typeof jose

interface Verifier {
  readonly algorithms: ReadonlyArray<string>
  readonly key: jose.JWTVerifyGetKey
  /** Of keys that may be others by now: see `RemoteKeys`. */
  readonly renewed?: RemoteKeys["renewed"] | undefined
}

const allowed = (
  options: Options,
  fitting: ReadonlyArray<Algorithm>
): Effect.Effect<ReadonlyArray<Algorithm>, AuthJwtError> => {
  const wanted = options.algorithms ?? fitting
  const unknown = wanted.find((name) => !known.includes(name))
  if (unknown !== undefined)
    return new AuthJwtError({ message: `JWT algorithm ${unknown} is not one of ${known.join(", ")}` })
  const usable = wanted.filter((name) => fitting.includes(name))
  return usable.length > 0
    ? Effect.succeed(usable)
    : new AuthJwtError({ message: "none of the allowed JWT algorithms can be used with this kind of key" })
}

/** One key, imported for each algorithm that it fits. */
const single = (
  options: Options,
  importKey: (algorithm: Algorithm) => Promise<jose.CryptoKey | Uint8Array>
): Effect.Effect<Verifier, AuthJwtError> =>
  Effect.gen(function* () {
    const keys = new Map<string, jose.CryptoKey>()
    for (const algorithm of asymmetric) {
      const key = yield* Effect.option(Effect.tryPromise(() => importKey(algorithm)))
      if (key._tag === "Some" && !(key.value instanceof Uint8Array) && key.value.type === "public")
        keys.set(algorithm, key.value)
    }
    if (keys.size === 0)
      return yield* new AuthJwtError({
        message: "the JWT key is not a public RSA, EC or Ed25519 key in PEM (SPKI, X.509) or JWK form"
      })
    const algorithms = yield* allowed(options, [...keys.keys()] as ReadonlyArray<Algorithm>)
    return { algorithms, key: (header) => keys.get(header.alg) as jose.CryptoKey }
  })

const remote = (library: Jose, options: Options, uri: string): Effect.Effect<Verifier, AuthJwtError> =>
  Effect.gen(function* () {
    const url = yield* Effect.try({
      try: () => new URL(uri),
      catch: () => new AuthJwtError({ message: "the JWKS address is not a URL" })
    })
    if (url.protocol !== "https:" && !(url.protocol === "http:" && isLoopback(url.hostname)))
      return yield* new AuthJwtError({ message: "the JWKS address must be https, or http on loopback" })
    const run = Runtime.runFork(yield* Effect.runtime())
    const { find, renewed } = remoteKeys(library, url, (cause) => {
      run(
        Effect.logWarning(
          "the key set of JWTs could not be renewed; the keys known so far are used on",
          cause
        )
      )
    })
    return { algorithms: yield* allowed(options, asymmetric), key: find, renewed }
  })

const verifier = (library: Jose, options: Options): Effect.Effect<Verifier, AuthJwtError> =>
  Effect.gen(function* () {
    const { key } = options
    if ("secret" in key) {
      const value = Redacted.isRedacted(key.secret) ? Redacted.value(key.secret) : key.secret
      const secret = typeof value === "string" ? new TextEncoder().encode(value) : value
      if (secret.length === 0) return yield* new AuthJwtError({ message: "the JWT secret is empty" })
      if (secret.length < 32) yield* Effect.logWarning("the JWT secret is shorter than 32 bytes")
      return { algorithms: yield* allowed(options, hmac), key: () => secret }
    }
    if ("publicKeyPem" in key) {
      const read = key.publicKeyPem.includes("BEGIN CERTIFICATE") ? library.importX509 : library.importSPKI
      return yield* single(options, (algorithm) => read(key.publicKeyPem, algorithm))
    }
    if ("jwk" in key) return yield* single(options, (algorithm) => library.importJWK(key.jwk, algorithm))
    if ("jwksUri" in key) return yield* remote(library, options, key.jwksUri)
    return {
      algorithms: yield* allowed(options, asymmetric),
      key: yield* Effect.try({
        try: () => library.createLocalJWKSet(key.jwks),
        catch: () => new AuthJwtError({ message: "the JWKS is malformed" })
      })
    }
  })

/** Tells whether a token was refused for what it claims, which is looked at when its signature is good. */
const isOfClaims = ({ JWTClaimValidationFailed, JWTExpired, JWTInvalid }: Jose["errors"], problem: unknown) =>
  [JWTClaimValidationFailed, JWTExpired, JWTInvalid].some((kind) => problem instanceof kind)

/** How many keys are tried for one token. */
const mostKeys = 32

/**
 * Verifies a token. Several keys of a set may fit one that does not say by which it was signed, as while an issuer goes over to
 * a new one, or that says what several of them are called: it is good when it is so by one of them. What is wrong with one key, such
 * as that it is too short, says nothing of the others.
 */
const verified = async (
  { errors, jwtVerify }: Jose,
  token: string,
  key: jose.JWTVerifyGetKey,
  checks: jose.JWTVerifyOptions
): Promise<jose.JWTVerifyResult> => {
  try {
    return await jwtVerify(token, key, checks)
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
    let tried = 0
    for await (const one of error) {
      if (++tried > mostKeys) break
      try {
        return await jwtVerify(token, one, checks)
      } catch (problem) {
        // Signed by it, and not good all the same.
        if (isOfClaims(errors, problem)) throw problem
      }
    }
    throw error
  }
}

/**
 * Verifies a token with keys that may be others by now. An issuer that goes over to a new key need not give it another name: a
 * token that no known key has signed is tried once more with those of a set that was fetched since.
 */
const verifiedAnew = async (
  library: Jose,
  renewed: NonNullable<Verifier["renewed"]>,
  verify: () => Promise<jose.JWTVerifyResult>
): Promise<jose.JWTVerifyResult> => {
  const { JWKSMultipleMatchingKeys, JWSSignatureVerificationFailed } = library.errors
  const begun = performance.now()
  try {
    return await verify()
  } catch (error) {
    const byNone =
      error instanceof JWSSignatureVerificationFailed || error instanceof JWKSMultipleMatchingKeys
    if (byNone && (await renewed(begun))) return verify()
    throw error
  }
}

/** What is wrong with a token, for the log: nothing of what only the token says is in it. */
const problemOf = ({ errors }: Jose, problem: jose.errors.JOSEError): string => {
  if (problem instanceof errors.JWTExpired) {
    const expired = new Date((problem.payload.exp ?? Number.NaN) * 1000)
    return Number.isNaN(expired.getTime()) ? problem.message : `the JWT expired at ${expired.toISOString()}`
  }
  return problem instanceof errors.JOSENotSupported ? problem.code : `${problem.code}: ${problem.message}`
}

/** A token that may be good, and cannot be checked at the moment. */
const unavailable = () =>
  new InternalError({
    message: "the token cannot be checked at the moment; try again",
    details: { reason: "keys" }
  })

const isStrings = (u: unknown): u is ReadonlyArray<string> =>
  Array.isArray(u) && u.every((item) => typeof item === "string")

/** The identity that a verified token claims; `undefined` when a claim is malformed. */
const identity = (options: Options, payload: jose.JWTPayload): Identity | undefined => {
  const claim = (name: string) => (Object.hasOwn(payload, name) ? payload[name] : undefined)
  const principal = claim(options.claims?.principal ?? "sub")
  const agents = claim(options.claims?.agents ?? "arcp_agents")
  const leaseCeiling = claim(options.claims?.leaseCeiling ?? "arcp_lease")
  const scope = claim(options.claims?.scopes ?? "scope")
  const scopes = typeof scope === "string" ? scope.split(" ").filter((name) => name !== "") : scope
  if (typeof principal !== "string" || principal === "") return undefined
  if (agents !== undefined && !isStrings(agents)) return undefined
  if (scopes !== undefined && !isStrings(scopes)) return undefined
  if (leaseCeiling !== undefined && invalidLease(leaseCeiling) !== undefined) return undefined
  return {
    principal,
    agents,
    scopes,
    leaseCeiling: leaseCeiling as Lease | undefined,
    expiresAt:
      payload.exp === undefined
        ? undefined
        : payload.exp * 1000 + Duration.toMillis(options.clockTolerance ?? defaultTolerance)
  }
}

const list = (value: string | ReadonlyArray<string>): string | Array<string> =>
  typeof value === "string" ? value : [...value]

/**
 * Verifies JWTs: signature, `exp`, `nbf`, issuer and audience, and turns their claims into an identity.
 * Every token that is not accepted gets the same `Unauthenticated`; the reason is in the log. A malformed
 * claim refuses the token. While a key set is needed that cannot be fetched, which is logged as a warning, the answer
 * is a retryable `InternalError`: the token may be good.
 *
 * @example
 * AuthJwt.layer({ key: { jwksUri: "https://id.example.com/jwks.json" }, audience: "arcp" })
 */
export const layer = (options: Options): Layer.Layer<Auth, AuthJwtError> => {
  Argument.check("AuthJwt.layer", ["options", optionsRule, options])
  return Layer.effect(
    Auth,
    Effect.gen(function* () {
      const library = yield* Effect.mapError(
        needs("AuthJwt", "jose", () => import("jose")),
        ({ message }) => new AuthJwtError({ message })
      )
      const { algorithms, key, renewed } = yield* verifier(library, options)
      if (options.audience === undefined)
        yield* Effect.logWarning(
          "JWTs are accepted whatever audience they are for: a token made for another service of the issuer opens a " +
            "session here; set the audience (--jwt-audience)"
        )
      const checks: jose.JWTVerifyOptions = {
        algorithms: [...algorithms],
        clockTolerance: Duration.toSeconds(options.clockTolerance ?? defaultTolerance),
        requiredClaims: options.requireExpiry === false ? [] : ["exp"],
        ...(options.issuer === undefined ? {} : { issuer: list(options.issuer) }),
        ...(options.audience === undefined ? {} : { audience: list(options.audience) })
      }
      return fromToken((token) =>
        Effect.clockWith((clock) =>
          Effect.tryPromise({
            try: () => {
              const verify = () =>
                verified(library, Redacted.value(token), key, {
                  ...checks,
                  currentDate: new Date(clock.unsafeCurrentTimeMillis())
                })
              return renewed === undefined ? verify() : verifiedAnew(library, renewed, verify)
            },
            // Whatever else is thrown is about a key that nothing can be checked with, and not about the token.
            catch: (error) =>
              error instanceof library.errors.JOSEError || error instanceof KeySetUnavailable
                ? error
                : new KeySetUnavailable(error)
          })
        ).pipe(
          Effect.tapError((error) =>
            error instanceof KeySetUnavailable
              ? Effect.logWarning(
                  "a JWT could not be checked: no key set, or a key that is none",
                  Cause.fail(error.cause)
                )
              : Effect.void
          ),
          Effect.mapError((error) =>
            error instanceof KeySetUnavailable ? unavailable() : refused(problemOf(library, error))
          ),
          Effect.flatMap(
            ({ payload }): Effect.Effect<Identity, Unauthenticated> =>
              Effect.fromNullable(identity(options, payload)).pipe(
                Effect.mapError(() => refused("a claim of the JWT is malformed, or it names no principal"))
              )
          )
        )
      )
    })
  )
}
