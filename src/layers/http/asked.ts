/** What a request says: its body, what it accepts, and what it prefers. */

import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../../protocol/Errors.js"
import { isRecord, whereNoJson } from "../../protocol/Json.js"
import { fault } from "../../protocol/JsonText.js"
import { didYouMean } from "../../protocol/suggest.js"
import { cut, wellFormed } from "../../protocol/Text.js"
import { tooLarge } from "./line.js"
import { Refused } from "./problems.js"

/** The values of a header that is a list, without their parameters, with the quality of each. */
const listed = (header: string): ReadonlyArray<{ readonly type: string; readonly q: number }> =>
  header.split(",").map((part) => {
    const [type = "", ...parameters] = part.split(";").map((text) => text.trim().toLowerCase())
    const q = parameters.find((parameter) => parameter.startsWith("q="))?.slice(2)
    return { type, q: q === undefined ? 1 : Number(q) || 0 }
  })

/**
 * Returns the one of these media types that a request likes best, the first of those that it likes equally. Fails with 406
 * when it takes none.
 */
export const accepted = <Type extends string>(
  header: string | undefined,
  offered: readonly [Type, ...ReadonlyArray<Type>]
): Effect.Effect<Type, Refused> => {
  if (header === undefined || header.trim() === "") return Effect.succeed(offered[0])
  const wanted = listed(header)
  const liking = (type: string): number =>
    (
      wanted.find((one) => one.type === type) ??
      wanted.find((one) => one.type === `${type.split("/")[0]}/*`) ??
      wanted.find((one) => one.type === "*/*")
    )?.q ?? 0
  let best: Type | undefined
  for (const type of offered) if (liking(type) > (best === undefined ? 0 : liking(best))) best = type
  return best === undefined
    ? new Refused({ status: 406, message: `Accept: this is ${offered.join(" or ")}` })
    : Effect.succeed(best)
}

const utf8 = /^\s*charset\s*=\s*"?utf-?8"?\s*$/

/** A body must say that it is JSON, also against pages that send forms. */
const checkMedia = (headers: Readonly<Record<string, string | undefined>>): Effect.Effect<void, Refused> => {
  const [type = "", ...parameters] = (headers["content-type"] ?? "").toLowerCase().split(";")
  const encoding = headers["content-encoding"]
  if (encoding !== undefined && encoding !== "identity")
    return new Refused({ status: 415, message: "Content-Encoding: bodies are taken as they are" })
  const isUtf8 = parameters.every((text) => !/^\s*charset\s*=/.test(text) || utf8.test(text))
  return isUtf8 && /^application\/(?:[^/ ]+\+)?json$/.test(type.trim())
    ? Effect.void
    : new Refused({
        status: 415,
        message: "Content-Type: a body is application/json, in UTF-8",
        headers: { "accept-post": "application/json" }
      })
}

const decoder = () => new TextDecoder("utf-8", { fatal: true })

const notJson = (cause: unknown) =>
  new InvalidRequest({ message: `the body is not JSON in UTF-8${whereNoJson(cause)}` })

/**
 * As many times as many bytes as are taken are read to their end and let go of: the answer that it was too much is lost with a
 * connection that is closed while its client still sends.
 */
const passed = 16

/**
 * Text that may have a number which is none when it is read: one above 1e308 has an exponent of three digits, or more than 200
 * digits. Each digit is looked at once.
 */
const mayBeEndless = /[eE]\+?\d{3}|(?<!\d)\d{200}/

/** Reads the JSON of a body. A number that JSON cannot hold would be `null` to the runtime, as no session lets it be. */
const read = (parts: ReadonlyArray<Uint8Array>): Effect.Effect<unknown, InvalidRequest> =>
  Effect.gen(function* () {
    const text = yield* Effect.try({ try: () => decoder().decode(Buffer.concat(parts)), catch: notJson })
    const value = yield* Effect.try({ try: (): unknown => JSON.parse(text), catch: notJson })
    const problem = mayBeEndless.test(text) ? fault(value, "") : undefined
    return problem === undefined ? value : yield* new InvalidRequest({ message: problem })
  })

/**
 * What nobody reads was meant for something: a job without its lease or its input, or all jobs and not those of a status, are not what
 * was asked for.
 */
const unread = (
  what: "member" | "parameter",
  given: Iterable<string>,
  names: ReadonlyArray<string>
): InvalidRequest | undefined => {
  for (const name of given) {
    if (names.includes(name)) continue
    const known = didYouMean(name, names) || `; there are ${names.join(", ") || "none"}`
    return new InvalidRequest({ message: `${wellFormed(cut(name, 64))}: is no ${what} of this${known}` })
  }
  return undefined
}

/** `URLSearchParams` makes something of whatever it is given, which then finds nothing. */
const isEncoded = (search: string): boolean => {
  try {
    decodeURIComponent(search)
    return true
  } catch {
    return false
  }
}

/** Reads a query, which has these parameters at the most, and each once: of two, one would be done and not the other. */
export const queryOf = (
  search: string,
  names: ReadonlyArray<string>
): Effect.Effect<URLSearchParams, InvalidRequest> => {
  if (!isEncoded(search)) return new InvalidRequest({ message: "the query is not percent-encoded as UTF-8" })
  const query = new URLSearchParams(search)
  const refused = unread("parameter", query.keys(), names)
  if (refused !== undefined) return refused
  const twice = names.find((name) => query.getAll(name).length > 1)
  return twice === undefined
    ? Effect.succeed(query)
    : new InvalidRequest({ message: `${twice}: is there more than once` })
}

/**
 * Reads the body of the request in context, at most `maxBytes` of it, an object with these members at the most; `undefined` when
 * there is none.
 */
export const body = (
  maxBytes: number,
  names: ReadonlyArray<string>
): Effect.Effect<
  Readonly<Record<string, unknown>> | undefined,
  Refused | InvalidRequest,
  HttpServerRequest.HttpServerRequest
> =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const { headers } = request
    const length = Number(headers["content-length"] ?? 0)
    if (length === 0 && headers["transfer-encoding"] === undefined) return undefined
    yield* checkMedia(headers)
    // Whatever may still come is not read, so the connection is of no use any more.
    const over = tooLarge(maxBytes, { connection: "close" })
    if (length > maxBytes * passed) return yield* over
    const parts: Array<Uint8Array> = []
    let bytes = 0
    yield* Stream.runForEach(request.stream, (part) => {
      bytes += part.length
      if (bytes <= maxBytes) parts.push(part)
      return bytes > maxBytes * passed ? over : Effect.void
    }).pipe(
      Effect.catchTag(
        "RequestError",
        () => new InvalidRequest({ message: "the body has not arrived as a whole" })
      )
    )
    if (bytes > maxBytes) return yield* over
    if (bytes === 0) return undefined
    const value = yield* read(parts)
    if (!isRecord(value)) return yield* new InvalidRequest({ message: "the body is a JSON object" })
    const refused = unread("member", Object.keys(value), names)
    return refused === undefined ? value : yield* refused
  })

/** What a request prefers (RFC 7240), as far as it is understood. */
export interface Preferences {
  /** Seconds that the answer may wait for the end of the job. */
  readonly wait: number | undefined
}

/** Longest time that an answer waits for the end of a job, in seconds. */
const longestWait = 300

/** Reads `Prefer`. */
export const preferences = (header: string | undefined): Preferences => {
  const seconds = /(?:^|[,;])\s*wait\s*=\s*"?(\d+)"?\s*(?:$|[,;])/i.exec(header ?? "")?.[1]
  return { wait: seconds === undefined ? undefined : Math.min(longestWait, Number(seconds)) }
}

/** Returns a header that is a string of structured fields (RFC 9651), or is written without its quotes. */
export const unquoted = (header: string): string =>
  /^"(?:[^"\\]|\\["\\])*"$/.test(header) ? header.slice(1, -1).replace(/\\(["\\])/g, "$1") : header
