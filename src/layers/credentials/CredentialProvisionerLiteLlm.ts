/**
 * Credentials that are virtual keys of a LiteLLM gateway, or of one with the same key API (`/key/generate`,
 * `/key/delete`). A job whose lease allows models gets one key, held upstream to those models, to what the job may
 * spend and to when its lease expires. The key is known upstream by an alias that is our id, and deleted by it.
 */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as BigDecimal from "effect/BigDecimal"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { compile } from "../../protocol/Lease.js"
import { isLoopback } from "../../protocol/Loopback.js"
import {
  CredentialProvisioner,
  type CredentialProvisionerService,
  type Minted,
  type MintRequest,
  ProvisionError
} from "../../services/credentials/CredentialProvisioner.js"
import type { CredentialConstraints, CredentialJob } from "../../services/credentials/Credentials.js"
import {
  type GatewayAnswer,
  hasNoSuchKey,
  parsed,
  refusal,
  unintelligible,
  unreachable
} from "./LiteLlmAnswers.js"

export interface Options {
  /** `https://…` of the gateway; plain `http` only on loopback, or with `allowInsecure`. */
  readonly baseUrl: string
  /** A key that may manage keys. */
  readonly masterKey: Redacted.Redacted
  /** Where submitters use their keys. Default: `baseUrl`. */
  readonly endpoint?: string | undefined
  /** What submitters are told the key is for. Default `openai`: the API that the gateway speaks. */
  readonly profile?: string | undefined
  /** Names of the models keys may be for. Default: those that the gateway lists, asked for at every mint. */
  readonly models?: ReadonlyArray<string> | undefined
  /** The budget that is spent upstream, where it counts as dollars. Default `USD`. */
  readonly currency?: string | undefined
  /** What any one key may spend, whatever its lease says; a decimal such as `"5.00"`. Default: no such cap. */
  readonly maxBudget?: string | undefined
  /** Time after which any key expires by itself, whatever its lease says, in whole seconds. Default: never. */
  readonly maxDuration?: Duration.DurationInput | undefined
  /** More fields of `/key/generate`, such as `team_id` or `rpm_limit`. Those that this sets itself win. */
  readonly parameters?: Readonly<Record<string, unknown>> | undefined
  /** Send the master key over plain `http` to another machine. */
  readonly allowInsecure?: boolean | undefined
}

/** The provisioner cannot be used as it is configured. */
export class CredentialProvisionerLiteLlmError extends Data.TaggedError("CredentialProvisionerLiteLlmError")<{
  readonly message: string
}> {}

/** Names that the gateway takes for many models at once. */
const collective = /^(all-|no-default-)[a-z-]*models?$|\*/

const checkUrl = (name: string, text: string, allowInsecure: boolean) =>
  Effect.gen(function* () {
    const fail = (message: string) => new CredentialProvisionerLiteLlmError({ message: `${name} ${message}` })
    const url = URL.canParse(text) ? new URL(text) : undefined
    if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:"))
      return yield* fail("must be a URL like https://litellm.example.com")
    if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
      return yield* fail("must have no user, password, query or fragment")
    if (url.protocol === "http:" && !isLoopback(url.hostname) && !allowInsecure)
      return yield* fail("must be https: keys would cross the network in the clear")
    return text.replace(/\/+$/, "")
  })

/** What the gateway knows of a key, as far as it matters here. */
interface Info {
  readonly spend?: unknown
  readonly max_budget?: unknown
}

const sha256 = (text: string) =>
  Effect.map(
    Effect.promise(() => globalThis.crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))),
    (digest) => Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("")
  )

/** The provisioner as a value. Fails when the options cannot be used; does not talk to the gateway. */
export const make = (
  options: Options
): Effect.Effect<CredentialProvisionerService, CredentialProvisionerLiteLlmError, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const allowInsecure = options.allowInsecure === true
    const baseUrl = yield* checkUrl("the LiteLLM URL", options.baseUrl, allowInsecure)
    const endpoint = yield* checkUrl(
      "the LiteLLM endpoint",
      options.endpoint ?? options.baseUrl,
      allowInsecure
    )
    const currency = options.currency ?? "USD"
    const maxBudget =
      options.maxBudget === undefined ? Option.none() : BigDecimal.fromString(options.maxBudget)
    if (options.maxBudget !== undefined && !Option.exists(maxBudget, BigDecimal.isPositive))
      return yield* new CredentialProvisionerLiteLlmError({
        message: 'maxBudget must be a decimal like "5.00"'
      })
    if (Redacted.value(options.masterKey) === "")
      return yield* new CredentialProvisionerLiteLlmError({
        message: "the LiteLLM key is empty; set ARCP_LITELLM_KEY to one that may manage keys"
      })
    const clock = yield* Effect.clock
    // Spans of the client would carry the master key, should somebody change which headers those redact.
    const client = (yield* HttpClient.HttpClient).pipe(HttpClient.withTracerDisabledWhen(() => true))

    const send = (
      request: HttpClientRequest.HttpClientRequest
    ): Effect.Effect<GatewayAnswer, ProvisionError> =>
      client.execute(HttpClientRequest.bearerToken(request, options.masterKey)).pipe(
        Effect.flatMap((response) =>
          Effect.map(response.text, (body) => ({ status: response.status, body }))
        ),
        Effect.mapError(unreachable),
        // A redirect would take the master key elsewhere.
        Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual" })
      )
    const succeed = (path: string, request: HttpClientRequest.HttpClientRequest) =>
      Effect.flatMap(send(request), (answer) =>
        answer.status >= 200 && answer.status < 300
          ? parsed(path, answer)
          : Effect.fail(refusal(path, answer))
      )
    const post = (path: string, body: unknown) =>
      HttpClientRequest.bodyUnsafeJson(HttpClientRequest.post(`${baseUrl}${path}`), body)

    /** Of what comes before a mint: whatever goes wrong, no key was asked for. */
    const before = Effect.mapError(
      ({ message, retryable, budgetExhausted }: ProvisionError) =>
        new ProvisionError({
          message,
          retryable,
          nothingMade: true,
          ...(budgetExhausted === undefined ? {} : { budgetExhausted })
        })
    )

    const listed = succeed("/models", HttpClientRequest.get(`${baseUrl}/models`)).pipe(
      Effect.map(({ data }) =>
        Array.isArray(data)
          ? data.map((model: unknown) =>
              typeof model === "object" && model !== null && "id" in model ? String(model.id) : ""
            )
          : []
      )
    )

    /**
     * The models a key may be for: those that exist and that the lease allows, each by its full name. Never an empty
     * list, which would mean all of them, and none of the names that stand for several.
     */
    const modelsOf = (job: CredentialJob) =>
      Effect.gen(function* () {
        const patterns = job.lease["model.use"] ?? []
        const lease = compile({ "model.use": patterns })
        const known = options.models ?? (yield* listed)
        const routed = known.filter((name) => /^[^*]+\/\*$/.test(name)).map((name) => name.slice(0, -1))
        const named = patterns.filter((name) => routed.some((prefix) => name.startsWith(prefix)))
        const models = [...known, ...named].filter(
          (name) => name !== "" && !collective.test(name) && Either.isRight(lease.permits("model.use", name))
        )
        if (models.length === 0)
          return yield* new ProvisionError({
            message:
              "LiteLLM has none of the models that the lease's model.use names; name one that it has, in full",
            retryable: false
          })
        return Array.from(new Set(models))
      })

    /** What the key may spend; `undefined` when nothing limits it. `left` is what the one before it has left. */
    const budgetOf = (job: CredentialJob, left: Option.Option<BigDecimal.BigDecimal>) => {
      const [first, ...others] = Array.from(
        [Option.fromNullable(job.budget.get(currency)), maxBudget, left],
        Option.toArray
      ).flat()
      if (first === undefined) return Effect.succeed(undefined)
      const least = others.reduce((least, other) => BigDecimal.min(least, other), first)
      // The gateway counts in binary fractions; their tails would not fit a lease.
      const budget = BigDecimal.floor(least, 12)
      return BigDecimal.isPositive(budget)
        ? Effect.succeed(budget)
        : Effect.fail(
            new ProvisionError({
              message: `the ${currency} budget is used up`,
              retryable: false,
              budgetExhausted: true
            })
          )
    }

    /** When the key is to expire, in whole seconds from now, never later than the lease. */
    const durationOf = (job: CredentialJob) => {
      const expiresAt = job.leaseConstraints.expires_at
      const leftSec =
        expiresAt === undefined
          ? Infinity
          : Math.floor((Date.parse(expiresAt) - clock.unsafeCurrentTimeMillis()) / 1000)
      const seconds = Math.max(
        1,
        Math.floor(Math.min(leftSec, Duration.toSeconds(options.maxDuration ?? Duration.infinity)))
      )
      return Number.isFinite(seconds) ? seconds : undefined
    }

    const generate = ({ id, job }: MintRequest, left: Option.Option<BigDecimal.BigDecimal>) =>
      Effect.gen(function* () {
        const [models, budget] = yield* before(Effect.all([modelsOf(job), budgetOf(job, left)]))
        const duration = durationOf(job)
        const answer = yield* succeed(
          "/key/generate",
          post("/key/generate", {
            // Without it a key may also read, and change, what the gateway knows of keys.
            key_type: "llm_api",
            ...options.parameters,
            key_alias: id,
            models,
            ...(budget === undefined ? {} : { max_budget: BigDecimal.unsafeToNumber(budget) }),
            ...(duration === undefined ? {} : { duration: `${duration}s` }),
            metadata: { job_id: job.jobId, principal: job.principal }
          })
        )
        const { key, key_alias: alias, token_id: reference } = answer
        if (typeof key !== "string" || key === "" || (alias != null && alias !== id))
          return yield* unintelligible("/key/generate")
        const constraints: CredentialConstraints = {
          ...(budget === undefined ? {} : { "cost.budget": [`${currency}:${BigDecimal.format(budget)}`] }),
          "model.use": models,
          ...(job.leaseConstraints.expires_at === undefined
            ? {}
            : { expires_at: job.leaseConstraints.expires_at })
        }
        return {
          value: Redacted.make(key),
          endpoint,
          constraints,
          // Its hash is what the gateway calls a key. Some versions answer the key itself in its place.
          reference:
            typeof reference === "string" && /^[0-9a-f]{64}$/.test(reference) ? reference : yield* sha256(key)
        } satisfies Minted
      })

    /** What is left of a key's own budget, when it has one. */
    const leftOf = (reference: string | undefined) =>
      succeed(
        "/key/info",
        HttpClientRequest.setUrlParam(HttpClientRequest.get(`${baseUrl}/key/info`), "key", reference ?? "")
      ).pipe(
        Effect.flatMap(({ info }) => {
          const { spend, max_budget: max } = typeof info === "object" && info !== null ? (info as Info) : {}
          if (typeof spend !== "number" || !Number.isFinite(spend))
            return Effect.fail(unintelligible("/key/info"))
          return Effect.succeed(
            typeof max === "number" && Number.isFinite(max)
              ? Option.some(
                  BigDecimal.subtract(BigDecimal.unsafeFromNumber(max), BigDecimal.unsafeFromNumber(spend))
                )
              : Option.none()
          )
        })
      )

    return {
      name: "LiteLLM",
      profiles: (job) => ((job.lease["model.use"]?.length ?? 0) > 0 ? [options.profile ?? "openai"] : []),
      mint: (request) => generate(request, Option.none()),
      rotate: (request) =>
        Effect.flatMap(before(leftOf(request.previous.reference)), (left) => generate(request, left)),
      revoke: ({ id }) =>
        Effect.flatMap(send(post("/key/delete", { key_aliases: [id] })), (answer) => {
          if (answer.status >= 200 && answer.status < 300) return parsed("/key/delete", answer)
          return hasNoSuchKey(answer) ? Effect.void : Effect.fail(refusal("/key/delete", answer))
        })
    }
  })

/** Keys of a LiteLLM gateway as credentials. */
export const layer = (
  options: Options
): Layer.Layer<CredentialProvisioner, CredentialProvisionerLiteLlmError, HttpClient.HttpClient> =>
  Layer.effect(CredentialProvisioner, make(options))

/** Is a gateway named in `ARCP_LITELLM_URL`? Whether it can be used, `layerConfig` tells. */
export const configured: Effect.Effect<boolean, ConfigError.ConfigError> = Effect.map(
  Config.option(Config.string("ARCP_LITELLM_URL")),
  Option.isSome
)

const list = (text: string): ReadonlyArray<string> =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")

const fromEnvironment = Config.all({
  baseUrl: Config.string("ARCP_LITELLM_URL"),
  masterKey: Config.redacted("ARCP_LITELLM_KEY"),
  endpoint: Config.option(Config.string("ARCP_LITELLM_ENDPOINT")),
  models: Config.option(Config.map(Config.string("ARCP_LITELLM_MODELS"), list)),
  maxBudget: Config.option(Config.string("ARCP_LITELLM_MAX_BUDGET"))
})

/**
 * The same from the environment: `ARCP_LITELLM_URL` and `ARCP_LITELLM_KEY`, and when set `ARCP_LITELLM_ENDPOINT`,
 * `ARCP_LITELLM_MODELS` (`name,name2`) and `ARCP_LITELLM_MAX_BUDGET` (`5.00`).
 */
export const layerConfig = (): Layer.Layer<
  CredentialProvisioner,
  ConfigError.ConfigError,
  HttpClient.HttpClient
> =>
  Layer.effect(
    CredentialProvisioner,
    Effect.flatMap(fromEnvironment, ({ baseUrl, masterKey, endpoint, models, maxBudget }) =>
      make({
        baseUrl,
        masterKey,
        endpoint: Option.getOrUndefined(endpoint),
        models: Option.getOrUndefined(models),
        maxBudget: Option.getOrUndefined(maxBudget)
      }).pipe(Effect.mapError((error) => ConfigError.InvalidData(["ARCP_LITELLM_*"], error.message)))
    )
  )

export * from "../../services/credentials/CredentialProvisioner.js"
export { spendCapError } from "./LiteLlmAnswers.js"
