/** What the answers of a LiteLLM gateway mean. Nothing of them is quoted: they repeat keys. */
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as Effect from "effect/Effect"
import { BudgetExhausted } from "../../protocol/Errors.js"
import { ProvisionError } from "../../services/credentials/CredentialProvisioner.js"

const spendCap = /ExceededBudget|budget_exceeded|Budget has been exceeded/i

/**
 * Is this answer of the gateway, to whatever request, about a spend cap that is reached? Then as the error that
 * means that here.
 */
export const spendCapError = (status: number, body: string): BudgetExhausted | undefined =>
  (status === 400 || status === 429) && spendCap.test(body)
    ? new BudgetExhausted({
        message: "the spend cap of the model gateway is reached; ask its operator to raise it"
      })
    : undefined

export interface GatewayAnswer {
  readonly status: number
  readonly body: string
}

/** Codes of connections that were never made, so that nothing was asked. */
const notConnected = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT"
])

const codeOf = (error: unknown): string | undefined => {
  let cause = error
  for (let depth = 0; depth < 8 && typeof cause === "object" && cause !== null; depth++) {
    if ("code" in cause && typeof cause.code === "string") return cause.code
    cause = "cause" in cause ? cause.cause : undefined
  }
  return undefined
}

export const unreachable = (error: HttpClientError.HttpClientError) => {
  const code = codeOf(error)
  const nothingMade =
    error._tag === "RequestError" && (error.reason !== "Transport" || notConnected.has(code ?? ""))
  return new ProvisionError({
    message: `the connection to LiteLLM failed (${code ?? error.reason}); check that it runs where ARCP_LITELLM_URL says`,
    retryable: true,
    nothingMade
  })
}

/** An answer that is not a success. Nothing was made unless the gateway itself does not know. */
export const refusal = (path: string, { status, body }: GatewayAnswer): ProvisionError => {
  const fail = (
    message: string,
    fields: { retryable: boolean; nothingMade: boolean; budgetExhausted?: boolean | undefined }
  ) => new ProvisionError({ message, ...fields })
  if (spendCapError(status, body) !== undefined)
    return fail("the spend cap of LiteLLM is reached; ask its operator to raise it", {
      retryable: false,
      nothingMade: true,
      budgetExhausted: true
    })
  if (status === 401 || status === 403)
    return fail(
      `LiteLLM refuses the runtime's key (${status}); set ARCP_LITELLM_KEY to one that may manage keys`,
      { retryable: false, nothingMade: true }
    )
  if (status === 429)
    return fail("LiteLLM limits the rate of requests (429); try again later", {
      retryable: true,
      nothingMade: true
    })
  if (status === 408 || status === 425 || status >= 500)
    return fail(`LiteLLM failed (${status} to ${path}); its log says why`, {
      retryable: true,
      nothingMade: false
    })
  if (status === 404 || status === 405 || status < 400)
    // Or a proxy on the way is being changed, so that it may be there later.
    return fail(`there is no LiteLLM key API (${status} to ${path}); correct ARCP_LITELLM_URL`, {
      retryable: true,
      nothingMade: true
    })
  return fail(`LiteLLM refuses the request (${status} to ${path}); its log says why`, {
    retryable: false,
    nothingMade: true
  })
}

export const unintelligible = (path: string) =>
  new ProvisionError({
    message: `LiteLLM's answer to ${path} is not what it should be; check ARCP_LITELLM_URL, and proxies on the way`,
    retryable: true
  })

export const parsed = (
  path: string,
  { body }: GatewayAnswer
): Effect.Effect<Readonly<Record<string, unknown>>, ProvisionError> =>
  Effect.try({ try: (): unknown => JSON.parse(body), catch: () => unintelligible(path) }).pipe(
    Effect.filterOrFail(
      (json): json is Readonly<Record<string, unknown>> => typeof json === "object" && json !== null,
      () => unintelligible(path)
    )
  )

const unknownKey = /\bno keys? found\b|\bkeys? (?:not found|does ?n[o\u2019']t exist|does not exist)\b/i

/**
 * Does the gateway say that it has no such key? Only in an error of its own making: a 404 of another program, or of
 * the gateway's about the path, says nothing about the key.
 */
export const hasNoSuchKey = ({ status, body }: GatewayAnswer): boolean => {
  if (status !== 400 && status !== 404) return false
  try {
    const json: unknown = JSON.parse(body)
    return (
      typeof json === "object" &&
      json !== null &&
      "error" in json &&
      unknownKey.test(JSON.stringify(json.error))
    )
  } catch {
    return false
  }
}
