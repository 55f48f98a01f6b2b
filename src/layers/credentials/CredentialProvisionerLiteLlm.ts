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
import * as Argument from "../../protocol/Argument.js"
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

/** Which gateway, and what its keys may be for. */
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
  /** Sends the master key over plain `http` also to another machine. Default: `false`. */
  readonly allowInsecure?: boolean | undefined
}

const text = Argument.maybe(Argument.string)

/** A name that is not known here may be that of a cap, and then there would be none. */
const optionsRule = Argument.options<Options>({
  baseUrl: Argument.string,
  masterKey: Argument.that("a Redacted", Redacted.isRedacted),
  endpoint: text,
  profile: text,
  models: Argument.maybe(Argument.listOf(Argument.string)),
  currency: text,
  maxBudget: text,
  maxDuration: Argument.maybe(Argument.finiteDuration),
  parameters: Argument.maybe(Argument.object),
  allowInsecure: Argument.maybe(Argument.boolean)
})

/** Says that the provisioner cannot be used as it is configured. */
export class CredentialProvisionerLiteLlmError extends Data.TaggedError("CredentialProvisionerLiteLlmError")<{
  readonly message: string
  /** Which option it is about. */
  readonly option: "baseUrl" | "endpoint" | "masterKey" | "maxBudget"
}> {}

/** Names that the gateway takes for many models at once. */
const collective = /^(all-|no-default-)[a-z-]*models?$|\*/

const checkUrl = (option: "baseUrl" | "endpoint", text: string, allowInsecure: boolean) =>
  Effect.gen(function* () {
    const name = option === "baseUrl" ? "the LiteLLM URL" : "the LiteLLM endpoint"
    const fail = (message: string) =>
      new CredentialProvisionerLiteLlmError({ message: `${name} ${message}`, option })
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

/** Options that can be used. */
interface Settings extends Options {
  readonly endpoint: string
  readonly currency: string
  readonly cap: Option.Option<BigDecimal.BigDecimal>
}

/** Returns the options, checked and with their defaults. */
const settingsOf = (options: Options): Effect.Effect<Settings, CredentialProvisionerLiteLlmError> =>
  Effect.gen(function* () {
    const allowInsecure = options.allowInsecure === true
    const baseUrl = yield* checkUrl("baseUrl", options.baseUrl, allowInsecure)
    const endpoint = yield* checkUrl("endpoint", options.endpoint ?? options.baseUrl, allowInsecure)
    const cap = options.maxBudget === undefined ? Option.none() : BigDecimal.fromString(options.maxBudget)
    if (options.maxBudget !== undefined && !Option.exists(cap, BigDecimal.isPositive))
      return yield* new CredentialProvisionerLiteLlmError({
        message: 'maxBudget must be a decimal like "5.00"',
        option: "maxBudget"
      })
    if (Redacted.value(options.masterKey) === "")
      return yield* new CredentialProvisionerLiteLlmError({
        message: "the LiteLLM key is empty; set ARCP_LITELLM_KEY to one that may manage keys",
        option: "masterKey"
      })
    return { ...options, baseUrl, endpoint, currency: options.currency ?? "USD", cap }
  })

/** Asks a gateway. */
interface Gateway {
  readonly get: (
    path: string,
    params?: Readonly<Record<string, string>>
  ) => Effect.Effect<AnswerBody, ProvisionError>
  readonly post: (path: string, body: unknown) => Effect.Effect<AnswerBody, ProvisionError>
  /** Returns the answer whatever it is. */
  readonly posted: (path: string, body: unknown) => Effect.Effect<GatewayAnswer, ProvisionError>
}

type AnswerBody = Readonly<Record<string, unknown>>

/** Returns the body of an answer that says yes; fails with what any other says. */
const accepted =
  (path: string) =>
  (answer: GatewayAnswer): Effect.Effect<AnswerBody, ProvisionError> =>
    answer.status >= 200 && answer.status < 300 ? parsed(path, answer) : Effect.fail(refusal(path, answer))

const gateway = ({ baseUrl, masterKey }: Settings, http: HttpClient.HttpClient): Gateway => {
  // Spans of the client would carry the master key, should somebody change which headers those redact.
  const client = http.pipe(HttpClient.withTracerDisabledWhen(() => true))
  const send = (request: HttpClientRequest.HttpClientRequest): Effect.Effect<GatewayAnswer, ProvisionError> =>
    client.execute(HttpClientRequest.bearerToken(request, masterKey)).pipe(
      Effect.flatMap((response) => Effect.map(response.text, (body) => ({ status: response.status, body }))),
      Effect.mapError(unreachable),
      // A redirect would take the master key elsewhere.
      Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual" })
    )
  const posted = (path: string, body: unknown) =>
    send(HttpClientRequest.bodyUnsafeJson(HttpClientRequest.post(`${baseUrl}${path}`), body))
  return {
    get: (path, params = {}) =>
      Effect.flatMap(
        send(HttpClientRequest.setUrlParams(HttpClientRequest.get(`${baseUrl}${path}`), params)),
        accepted(path)
      ),
    post: (path, body) => Effect.flatMap(posted(path, body), accepted(path)),
    posted
  }
}

/** Says of what comes before a mint that no key was asked for, whatever goes wrong. */
const before = Effect.mapError(
  ({ message, retryable, budgetExhausted }: ProvisionError) =>
    new ProvisionError({
      message,
      retryable,
      nothingMade: true,
      ...(budgetExhausted === undefined ? {} : { budgetExhausted })
    })
)

const listed = (asking: Gateway) =>
  Effect.map(asking.get("/models"), ({ data }) =>
    Array.isArray(data)
      ? data.map((model: unknown) =>
          typeof model === "object" && model !== null && "id" in model ? String(model.id) : ""
        )
      : []
  )

/**
 * Returns the models a key may be for: those that exist and that the lease allows, each by its full name. Never an empty
 * list, which would mean all of them, and none of the names that stand for several.
 */
const modelsOf = ({ models: given }: Settings, asking: Gateway, job: CredentialJob) =>
  Effect.gen(function* () {
    const patterns = job.lease["model.use"] ?? []
    const lease = compile({ "model.use": patterns })
    const known = given ?? (yield* listed(asking))
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

type Amount = Option.Option<BigDecimal.BigDecimal>

/** Returns what the key may spend; `undefined` when nothing limits it. `left` is what the one before it has left. */
const budgetOf = ({ cap, currency }: Settings, job: CredentialJob, left: Amount) => {
  const [first, ...others] = Array.from(
    [Option.fromNullable(job.budget.get(currency)), cap, left],
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

/** Returns when the key is to expire, in whole seconds from `now`, never later than the lease; `undefined`: never. */
const durationOf = ({ maxDuration = Duration.infinity }: Settings, job: CredentialJob, now: number) => {
  const expiresAt = job.leaseConstraints.expires_at
  const leftSec = expiresAt === undefined ? Infinity : Math.floor((Date.parse(expiresAt) - now) / 1000)
  const seconds = Math.max(1, Math.floor(Math.min(leftSec, Duration.toSeconds(maxDuration))))
  return Number.isFinite(seconds) ? seconds : undefined
}

/** Has a key made for a job. */
const generate = (
  settings: Settings,
  asking: Gateway,
  { id, job }: MintRequest,
  left: Amount,
  now: () => number
) =>
  Effect.gen(function* () {
    const { currency, endpoint, parameters } = settings
    const [models, budget] = yield* before(
      Effect.all([modelsOf(settings, asking, job), budgetOf(settings, job, left)])
    )
    const duration = durationOf(settings, job, now())
    const { key, key_alias, token_id } = yield* asking.post("/key/generate", {
      // Without it a key may also read, and change, what the gateway knows of keys.
      key_type: "llm_api",
      ...parameters,
      key_alias: id,
      models,
      ...(budget === undefined ? {} : { max_budget: BigDecimal.unsafeToNumber(budget) }),
      ...(duration === undefined ? {} : { duration: `${duration}s` }),
      metadata: { job_id: job.jobId, principal: job.principal }
    })
    if (typeof key !== "string" || key === "" || (key_alias != null && key_alias !== id))
      return yield* unintelligible("/key/generate")
    const { expires_at } = job.leaseConstraints
    const constraints: CredentialConstraints = {
      ...(budget === undefined ? {} : { "cost.budget": [`${currency}:${BigDecimal.format(budget)}`] }),
      "model.use": models,
      ...(expires_at === undefined ? {} : { expires_at })
    }
    return {
      value: Redacted.make(key),
      endpoint,
      constraints,
      // Its hash is what the gateway calls a key. Some versions answer the key itself in its place.
      reference:
        typeof token_id === "string" && /^[0-9a-f]{64}$/.test(token_id) ? token_id : yield* sha256(key)
    } satisfies Minted
  })

/** Returns what is left of a key's own budget, when it has one. */
const leftOf = (asking: Gateway, reference: string | undefined) =>
  Effect.flatMap(
    asking.get("/key/info", { key: reference ?? "" }),
    ({ info }): Effect.Effect<Amount, ProvisionError> => {
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
    }
  )

/**
 * Makes the provisioner as a value. Fails when the options cannot be used, and throws on names that there are not; does not
 * talk to the gateway.
 */
export const make = (
  options: Options
): Effect.Effect<CredentialProvisionerService, CredentialProvisionerLiteLlmError, HttpClient.HttpClient> => {
  Argument.check("CredentialProvisionerLiteLlm", ["options", optionsRule, options])
  return Effect.gen(function* () {
    const settings = yield* settingsOf(options)
    const asking = gateway(settings, yield* HttpClient.HttpClient)
    const clock = yield* Effect.clock
    const mint = (request: MintRequest, left: Amount) =>
      generate(settings, asking, request, left, () => clock.unsafeCurrentTimeMillis())
    return {
      name: "LiteLLM",
      profiles: (job) => ((job.lease["model.use"]?.length ?? 0) > 0 ? [options.profile ?? "openai"] : []),
      mint: (request) => mint(request, Option.none()),
      rotate: (request) =>
        Effect.flatMap(before(leftOf(asking, request.previous.reference)), (left) => mint(request, left)),
      revoke: ({ id }) =>
        Effect.flatMap(asking.posted("/key/delete", { key_aliases: [id] }), (answer) =>
          hasNoSuchKey(answer) ? Effect.void : Effect.asVoid(accepted("/key/delete")(answer))
        )
    }
  })
}

/** Provides keys of a LiteLLM gateway as credentials. */
export const layer = (
  options: Options
): Layer.Layer<CredentialProvisioner, CredentialProvisionerLiteLlmError, HttpClient.HttpClient> =>
  Layer.effect(CredentialProvisioner, make(options))

/** Returns whether a gateway is named in `ARCP_LITELLM_URL`. Whether it can be used, `layerConfig` tells. */
export const configured: Effect.Effect<boolean, ConfigError.ConfigError> = Effect.map(
  Config.option(Config.string("ARCP_LITELLM_URL")),
  Option.isSome
)

const list = (text: string): ReadonlyArray<string> =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")

/** Which variable gives an option. */
const variables = {
  baseUrl: "ARCP_LITELLM_URL",
  masterKey: "ARCP_LITELLM_KEY",
  endpoint: "ARCP_LITELLM_ENDPOINT",
  maxBudget: "ARCP_LITELLM_MAX_BUDGET"
}

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
      }).pipe(Effect.mapError(({ message, option }) => ConfigError.InvalidData([variables[option]], message)))
    )
  )

export * from "../../services/credentials/CredentialProvisioner.js"
export { spendCapError } from "./LiteLlmAnswers.js"
