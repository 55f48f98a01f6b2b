/** Checks of what a runtime asks others for: keys of JWTs, and the gateway that mints keys for jobs. */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { isLoopback } from "../../../../protocol/Loopback.js"
import { readRegularFile } from "../../regularFile.js"
import { fetched, why } from "../fetching.js"
import { type Finding, findings } from "./finding.js"

/** What another server gets for its answer. */
const bounds = { timeout: 5_000, maxBytes: 1024 * 1024 }

const get = (url: string, headers: Readonly<Record<string, string>> = {}) => fetched(url, { headers }, bounds)

/** The algorithms of a key set that JWTs can be signed with: what its keys say, or else their kind. */
const algorithmsOf = (text: string): ReadonlyArray<string> => {
  const set = JSON.parse(text) as { readonly keys?: unknown }
  if (!Array.isArray(set.keys)) throw new Error("it has no keys")
  const names = set.keys.flatMap((key: unknown) => {
    if (typeof key !== "object" || key === null) return []
    const { alg, crv, kty } = key as Readonly<Record<string, unknown>>
    if (kty === "oct") return []
    return [String(alg ?? crv ?? kty)]
  })
  return [...new Set(names)]
}

const checkKeySet = (url: string): Effect.Effect<Finding> =>
  Effect.promise(async () => {
    const { fail, ok, warn } = findings("jwt keys")
    if (!URL.canParse(url))
      return fail(
        `${url} is no URL`,
        "--jwt-jwks takes a URL like https://issuer.example/.well-known/jwks.json"
      )
    try {
      const { status, text } = await get(url)
      if (status !== 200)
        return fail(`${url} answers ${status}`, "see whether the address is the issuer's jwks_uri")
      const names = algorithmsOf(text)
      if (names.length === 0)
        return fail(`${url} has no public key`, "see whether the address is the issuer's jwks_uri")
      return new URL(url).protocol === "https:"
        ? ok(`${url}: ${names.join(", ")}`)
        : warn(
            `${url} is not https: ${names.join(", ")}`,
            "keys that come in the clear may be anybody's: use https"
          )
    } catch (cause) {
      return fail(
        `${url} cannot be fetched: ${why(cause, bounds)}`,
        "no token is accepted without it: see to the network, or the address"
      )
    }
  })

const checkPublicKey = (file: string): Effect.Effect<Finding> => {
  const { fail, ok } = findings("jwt keys")
  return Effect.match(readRegularFile(file, bounds.maxBytes), {
    onSuccess: (text) =>
      /-----BEGIN (PUBLIC KEY|CERTIFICATE|RSA PUBLIC KEY)-----/.test(text)
        ? ok(file)
        : fail(
            `${file} is no public key in PEM`,
            "export it as -----BEGIN PUBLIC KEY-----; never the private one"
          ),
    onFailure: (problem) => fail(`${file} ${problem}`, "name the file of the public key")
  })
}

const checkSecret = (secret: string): Finding => {
  const { ok, warn } = findings("jwt keys")
  return Buffer.byteLength(secret) < 32
    ? warn(
        `ARCP_JWT_SECRET has ${Buffer.byteLength(secret)} bytes`,
        "use 32 random bytes or more: shorter ones can be guessed"
      )
    : ok("a secret, HS256")
}

/** The keys of JWTs, where the command line or the environment names some. */
const checkKeys = (flags: {
  readonly jwtJwks: Option.Option<string>
  readonly jwtPublicKey: Option.Option<string>
}) =>
  Effect.gen(function* () {
    if (Option.isSome(flags.jwtJwks)) return yield* checkKeySet(flags.jwtJwks.value)
    if (Option.isSome(flags.jwtPublicKey)) return yield* checkPublicKey(flags.jwtPublicKey.value)
    const secret = yield* Config.option(Config.redacted("ARCP_JWT_SECRET"))
    return Option.isSome(secret)
      ? checkSecret(Redacted.value(secret.value))
      : findings("jwt keys").ok("none are asked for")
  })

const checkProvisioner = Effect.gen(function* () {
  const { fail, ok, warn } = findings("provisioner")
  const url = yield* Config.option(Config.string("ARCP_LITELLM_URL"))
  const key = yield* Config.option(Config.redacted("ARCP_LITELLM_KEY"))
  if (Option.isNone(url)) return ok("none is configured: jobs get no credentials of their own")
  if (Option.isNone(key))
    return fail("ARCP_LITELLM_URL is set, and ARCP_LITELLM_KEY is not", "set the key that mints keys")
  const address = url.value.replace(/\/+$/, "")
  if (!URL.canParse(address))
    return fail("ARCP_LITELLM_URL is no URL", "it is like https://litellm.example.com")
  const { hostname, protocol } = new URL(address)
  if (protocol !== "https:" && !isLoopback(hostname))
    return fail(
      "ARCP_LITELLM_URL is not https",
      "keys would cross the network in the clear: arcp serve refuses it"
    )
  return yield* Effect.promise(async () => {
    try {
      const { status } = await get(`${address}/v1/models`, {
        authorization: `Bearer ${Redacted.value(key.value)}`
      })
      if (status === 401 || status === 403)
        return fail(`${address} refuses the key (${status})`, "see to ARCP_LITELLM_KEY")
      return status === 200
        ? ok(`${address} answers`)
        : warn(`${address} answers ${status}`, "see whether it is a LiteLLM gateway")
    } catch (cause) {
      return fail(
        `${address} cannot be reached: ${why(cause, bounds)}`,
        "jobs that need credentials are refused until it can be"
      )
    }
  })
})

/** Returns what is found about other servers. */
export const remoteChecks = (flags: {
  readonly jwtJwks: Option.Option<string>
  readonly jwtPublicKey: Option.Option<string>
}) => Effect.all([checkKeys(flags), checkProvisioner], { concurrency: "unbounded" })
