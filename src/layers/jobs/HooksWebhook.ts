/**
 * Hooks that are requests to a URL, signed as Standard Webhooks says (https://www.standardwebhooks.com): `webhook-id`,
 * `webhook-timestamp`, and `webhook-signature`, the HMAC-SHA256 of `id.timestamp.body`. What people and agents say is left
 * out unless it is asked for.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Encoding from "effect/Encoding"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Argument from "../../protocol/Argument.js"
import { type HookCall, HookError, Hooks } from "../../services/jobs/Hooks.js"

/** The options of a webhook are wrong. */
export class HooksWebhookError extends Data.TaggedError("HooksWebhookError")<{
  readonly message: string
  /** Which option it is about. */
  readonly option: "url" | "secrets"
}> {}

/** Where to, and what. */
export interface Options {
  /** `https:` or `http:`; redirects are not followed. */
  readonly url: string
  /**
   * `whsec_` and 24 to 64 bytes as base64. Of several each signs, so that a new one can take the place of an old one
   * without a gap.
   */
  readonly secrets: ReadonlyArray<string | Redacted.Redacted>
  /** What is told of; default: all. */
  readonly kinds?: ReadonlyArray<HookCall["kind"]> | undefined
  /** Say questions, results and error messages too. Default: no. */
  readonly values?: boolean | undefined
  /** How long an answer may take. Default: 15 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
}

const secretRule = Argument.either(Argument.text, Argument.that("redacted", Redacted.isRedacted))

const optionsRule = Argument.options<Options>({
  url: Argument.text,
  secrets: Argument.listOf(secretRule),
  kinds: Argument.maybe(Argument.listOf(Argument.oneOf("waiting", "ended", "parked"))),
  values: Argument.maybe(Argument.boolean),
  timeout: Argument.maybe(Argument.positiveDuration)
})

/** Characters of what an agent says that are sent; more is left out. */
const maxValueSize = 256 * 1024

const wrong = (option: HooksWebhookError["option"], message: string) =>
  new HooksWebhookError({ message, option })

const keyOf = (secret: string | Redacted.Redacted): Effect.Effect<CryptoKey, HooksWebhookError> =>
  Effect.suspend(() => {
    const text = Redacted.isRedacted(secret) ? Redacted.value(secret) : secret
    const bytes = text.startsWith("whsec_") ? Encoding.decodeBase64(text.slice(6)) : undefined
    return bytes === undefined || Either.isLeft(bytes) || bytes.right.length < 24 || bytes.right.length > 64
      ? wrong("secrets", "a secret of a webhook is whsec_ and 24 to 64 bytes as base64")
      : Effect.promise(() =>
          crypto.subtle.importKey(
            "raw",
            new Uint8Array(bytes.right),
            { name: "HMAC", hash: "SHA-256" },
            false,
            ["sign"]
          )
        )
  })

const checkUrl = (url: string): Effect.Effect<string, HooksWebhookError> => {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || !/^https?:$/.test(parsed.protocol))
    return wrong("url", "the URL of a webhook begins with https:// or http://")
  return parsed.username !== "" || parsed.password !== ""
    ? wrong("url", "the URL of a webhook has no user and no password: the signature shows who sends")
    : Effect.succeed(parsed.href)
}

const iso = (ms: number) => new Date(ms).toISOString()

/** What is said of a call. */
const bodyOf = (call: HookCall, values: boolean): Effect.Effect<string> =>
  Effect.gen(function* () {
    const { agent, at, jobId, kind, parentJobId, principal, traceId } = call
    const about = { job_id: jobId, agent, principal, trace_id: traceId, parent_job_id: parentJobId }
    const event = values ? yield* Effect.orElseSucceed(call.payload, () => undefined) : undefined
    const said = event !== undefined && (JSON.stringify(event) ?? "").length <= maxValueSize ? { event } : {}
    const data =
      kind === "waiting"
        ? {
            ...about,
            input_id: call.inputId,
            expires_at: call.expiresAt === undefined ? undefined : iso(call.expiresAt)
          }
        : kind === "ended"
          ? {
              ...about,
              status: call.status,
              code: call.code,
              created_at: iso(call.createdAt),
              ended_at: iso(at)
            }
          : { ...about, reason: call.reason }
    return JSON.stringify({ type: `job.${kind}`, timestamp: iso(at), data: { ...data, ...said } })
  })

const encoder = new TextEncoder()

const signatures = (keys: ReadonlyArray<CryptoKey>, content: string): Effect.Effect<string> =>
  Effect.map(
    Effect.forEach(keys, (key) =>
      Effect.promise(() => crypto.subtle.sign("HMAC", key, encoder.encode(content)))
    ),
    (all) => all.map((bytes) => `v1,${Encoding.encodeBase64(new Uint8Array(bytes))}`).join(" ")
  )

/** Milliseconds of a `Retry-After`: seconds, or a date. */
const retryAfterOf = (text: string | null, now: number): number | undefined => {
  if (text === null) return undefined
  const ms = /^\d{1,9}$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - now
  return Number.isFinite(ms) && ms > 0 ? ms : undefined
}

/** Sends a request; nothing of the answer but its status is read. */
const post = (url: string, headers: Record<string, string>, body: string) =>
  Effect.tryPromise({
    try: async (signal) => {
      const response = await fetch(url, { method: "POST", headers, body, redirect: "manual", signal })
      await response.body?.cancel()
      return { status: response.status, retryAfter: response.headers.get("retry-after") }
    },
    catch: (error) => {
      const cause: unknown = error instanceof Error ? error.cause : undefined
      const code =
        typeof cause === "object" && cause !== null && "code" in cause ? ` (${String(cause.code)})` : ""
      return new HookError({ message: `the webhook cannot be reached${code}` })
    }
  })

/** Returns hooks that send a request each. */
const make = ({ kinds, secrets, timeout = "15 seconds", url, values = false }: Options) =>
  Effect.gen(function* () {
    if (secrets.length === 0) return yield* wrong("secrets", "a webhook needs a secret to sign with")
    const keys = yield* Effect.forEach(secrets, keyOf)
    const href = yield* checkUrl(url)
    const limit = Duration.decode(timeout)
    const send = (call: HookCall): Effect.Effect<void, HookError> =>
      Effect.gen(function* () {
        const body = yield* bodyOf(call, values)
        const now = yield* Clock.currentTimeMillis
        const timestamp = String(Math.floor(now / 1000))
        const headers = {
          "content-type": "application/json",
          "webhook-id": call.id,
          "webhook-timestamp": timestamp,
          "webhook-signature": yield* signatures(keys, `${call.id}.${timestamp}.${body}`)
        }
        const { retryAfter, status } = yield* post(href, headers, body).pipe(
          Effect.timeoutFail({
            duration: limit,
            onTimeout: () =>
              new HookError({ message: `the webhook has not answered within ${Duration.format(limit)}` })
          })
        )
        if (status >= 200 && status < 300) return
        return yield* new HookError({
          message:
            status >= 300 && status < 400
              ? `the webhook answers with a redirect (${status}), which is not followed`
              : `the webhook answers with ${status}`,
          // Gone: nobody is there any more.
          retryable: status !== 410,
          retryAfter: retryAfterOf(retryAfter, now)
        })
      })
    const told = (kind: HookCall["kind"]) => (kinds?.includes(kind) === false ? undefined : send)
    return { onWaiting: told("waiting"), onEnded: told("ended"), onParked: told("parked") }
  })

/**
 * Sends what happens to jobs to a URL. Each request comes at least once, with the same `webhook-id`; one that is not
 * answered by a 2xx status is repeated (`Hooks`), after `410 Gone` not.
 *
 * @example
 * Runtime.layer({ hooks: HooksWebhook.layer({ url: "https://example.com/arcp", secrets: [secret] }) })
 */
export const layer = (options: Options): Layer.Layer<Hooks, HooksWebhookError> => {
  Argument.check("HooksWebhook.layer", ["options", optionsRule, options])
  return Layer.effect(Hooks, make(options))
}
