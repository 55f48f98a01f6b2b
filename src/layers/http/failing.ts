/** Answers to requests that failed. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type { ArcpError } from "../../protocol/Errors.js"
import { documentOf, problemJson, type Refused } from "./problems.js"

/** Seconds after which it may be tried again: as the error says, or soon. */
const retryAfter = (status: number, details: Refused["details"]): Readonly<Record<string, string>> => {
  const said = details?.["retry_after"]
  if (typeof said === "number") return { "retry-after": `${Math.max(1, Math.ceil(said))}` }
  return status === 503 || status === 429 ? { "retry-after": "1" } : {}
}

/** Returns the answer to a request that failed. */
export const answerOf = (error: ArcpError | Refused): HttpServerResponse.HttpServerResponse => {
  const problem = documentOf(error)
  const headers = {
    "cache-control": "no-store",
    ...retryAfter(problem.status, error.details),
    ...(problem.status === 401 ? { "www-authenticate": `Bearer realm="arcp", error="invalid_token"` } : {}),
    ...(error._tag === "Refused" ? error.headers : {})
  }
  return HttpServerResponse.text(`${JSON.stringify(problem)}\n`, {
    status: problem.status,
    headers,
    contentType: problemJson
  })
}
