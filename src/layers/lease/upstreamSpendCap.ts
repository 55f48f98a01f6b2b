/**
 * Providers of models, and gateways before them, have spending limits of their own. This knows what a refusal
 * for that reason looks like, and imports no SDK.
 */

import { BudgetExhausted } from "../../protocol/Errors.js"
import { readJson } from "../../protocol/Json.js"

/** Statuses under which gateways and providers refuse for money; 402 has no other meaning. */
const statuses: ReadonlySet<number> = new Set([400, 402, 403, 429])

/**
 * LiteLLM (`Budget has been exceeded!`, `ExceededBudget`, `budget_exceeded`), OpenAI (`insufficient_quota`,
 * `billing_hard_limit_reached`), Anthropic (`credit balance is too low`), OpenRouter (`insufficient credits`).
 */
const saysSo =
  /budget (?:has been |was |is )?exceeded|exceeded ?(?:\w+ )?budget|budget_?exceeded|insufficient_quota|exceeded your current quota|billing_hard_limit|credit balance is too low|insufficient credits/i

type Fields = Readonly<Record<string, unknown>>
const isObject = (u: unknown): u is Fields => typeof u === "object" && u !== null

/** Where a provider says why it refuses: not the whole body, which may repeat the prompt. */
const reasons = (body: unknown): string => {
  const value = typeof body === "string" ? readJson(body) : body
  if (!isObject(value)) return typeof body === "string" ? body.slice(0, 2_000) : ""
  const error = isObject(value["error"]) ? value["error"] : value
  return [error["code"], error["type"], error["message"], value["error"], value["detail"]]
    .filter((part) => typeof part === "string")
    .map((part) => part.slice(0, 2_000))
    .join("\n")
}

const statusOf = (error: Fields): number | undefined => {
  const response = isObject(error["response"]) ? error["response"] : error
  const status = response["status"] ?? response["statusCode"]
  return typeof status === "number" ? status : undefined
}

/**
 * The `BudgetExhausted` that an upstream refusal amounts to, or `undefined` when it is something else, such as a
 * rate limit. Looks for an HTTP status and a body in the error and its chain of causes, as `AiError`,
 * `HttpClientError` and plain `{status, body}` have them. Nothing of the upstream text is repeated: it may name
 * keys.
 */
export const upstreamSpendCap = (error: unknown): BudgetExhausted | undefined => {
  let current = error
  for (let depth = 0; depth < 8 && isObject(current); depth++) {
    const status = statusOf(current)
    const body = current["body"] ?? current["error"] ?? current["description"] ?? current["message"]
    if (status === 402 || (status !== undefined && statuses.has(status) && saysSo.test(reasons(body))))
      return new BudgetExhausted({
        message:
          "the provider of the model refuses: the spending limit of its key is reached; raise it there, or wait until it is renewed",
        details: { reason: "upstream_spend_cap", status }
      })
    current = current["cause"]
  }
  return undefined
}
