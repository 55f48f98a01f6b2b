/** Webhooks: what is sent, how it is signed, and what becomes of answers. */
import { createHmac, timingSafeEqual } from "node:crypto"
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type EndedCall, Hooks, type WaitingCall } from "../../../src/layers/jobs/Hooks.js"
import * as HooksWebhook from "../../../src/layers/jobs/HooksWebhook.js"

const secret = `whsec_${Buffer.from("0123456789abcdef0123456789abcdef").toString("base64")}`

interface Request {
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** A server that answers as told. */
const site = (answer: (request: Request, response: ServerResponse) => void) =>
  Effect.acquireRelease(
    Effect.async<{ readonly url: string; readonly requests: Array<Request>; readonly close: () => void }>(
      (resume) => {
        const requests: Array<Request> = []
        const server = createServer((incoming: IncomingMessage, response) => {
          let body = ""
          incoming.setEncoding("utf8").on("data", (text: string) => {
            body += text
          })
          incoming.on("end", () => {
            const request = { url: incoming.url ?? "", headers: incoming.headers, body }
            requests.push(request)
            answer(request, response)
          })
        })
        server.listen(0, "127.0.0.1", () => {
          const { port } = server.address() as AddressInfo
          const close = () => {
            server.closeAllConnections()
            server.close()
          }
          resume(Effect.succeed({ url: `http://127.0.0.1:${port}/hook?token=hidden`, requests, close }))
        })
      }
    ),
    ({ close }) => Effect.sync(close)
  )

/** As the documentation shows it. */
const verify = (headers: IncomingHttpHeaders, body: string, key: string): boolean => {
  const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`
  const expected = createHmac("sha256", Buffer.from(key.slice(6), "base64"))
    .update(signed)
    .digest()
  return String(headers["webhook-signature"])
    .split(" ")
    .map((each) => Buffer.from(each.replace(/^v1,/, ""), "base64"))
    .some((each) => each.length === expected.length && timingSafeEqual(each, expected))
}

const about = {
  id: "msg_1_2",
  at: Date.parse("2026-01-31T12:00:00.000Z"),
  jobId: "job_1",
  agent: "deploy@1.0.0",
  principal: "alice",
  traceId: "t"
}
const waiting: WaitingCall = {
  ...about,
  kind: "waiting",
  inputId: "inp_1",
  expiresAt: Date.parse("2026-02-01T12:00:00.000Z"),
  payload: Effect.succeed({ body: { prompt: "the password is 1234?" } })
}
const ended: EndedCall = {
  ...about,
  kind: "ended",
  status: "error",
  code: "TIMEOUT",
  createdAt: 0,
  payload: Effect.succeed({ message: "of the agent's own" })
}

const hooksOf = (options: HooksWebhook.Options) =>
  Effect.map(Layer.build(HooksWebhook.layer(options)), (context) => Context.get(context, Hooks))

const ok = (_: Request, response: ServerResponse) => void response.writeHead(204).end()

describe("a webhook", () => {
  it.scopedLive("is signed with every secret, and says nothing of what people and agents say", () =>
    Effect.gen(function* () {
      const there = yield* site(ok)
      const other = `whsec_${Buffer.alloc(24, 7).toString("base64")}`
      const hooks = yield* hooksOf({ url: there.url, secrets: [secret, other] })
      yield* hooks.onWaiting?.(waiting) ?? Effect.void
      yield* hooks.onEnded?.(ended) ?? Effect.void
      const [first, second] = there.requests as [Request, Request]
      for (const { body, headers } of there.requests) {
        assert.isTrue(verify(headers, body, secret))
        assert.isTrue(verify(headers, body, other))
        assert.isFalse(verify(headers, `${body} `, secret))
        assert.strictEqual(headers["content-type"], "application/json")
        assert.strictEqual(headers["webhook-id"], "msg_1_2")
        assert.isAtMost(Math.abs(Date.now() / 1000 - Number(headers["webhook-timestamp"])), 60)
      }
      const data = { job_id: "job_1", agent: "deploy@1.0.0", principal: "alice", trace_id: "t" }
      assert.deepStrictEqual(JSON.parse(first.body), {
        type: "job.waiting",
        timestamp: "2026-01-31T12:00:00.000Z",
        data: { ...data, input_id: "inp_1", expires_at: "2026-02-01T12:00:00.000Z" }
      })
      assert.deepStrictEqual(JSON.parse(second.body), {
        type: "job.ended",
        timestamp: "2026-01-31T12:00:00.000Z",
        data: {
          ...data,
          status: "error",
          code: "TIMEOUT",
          created_at: "1970-01-01T00:00:00.000Z",
          ended_at: "2026-01-31T12:00:00.000Z"
        }
      })
    })
  )

  it.scopedLive("says it when it is asked for, and tells only of what it is to tell of", () =>
    Effect.gen(function* () {
      const there = yield* site(ok)
      const hooks = yield* hooksOf({ url: there.url, secrets: [secret], values: true, kinds: ["waiting"] })
      assert.isUndefined(hooks.onEnded)
      yield* hooks.onWaiting?.(waiting) ?? Effect.void
      yield* hooks.onWaiting?.({ ...waiting, payload: Effect.succeed("x".repeat(300_000)) }) ?? Effect.void
      const [first, large] = there.requests as [Request, Request]
      assert.deepStrictEqual(JSON.parse(first.body).data.event, { body: { prompt: "the password is 1234?" } })
      assert.isUndefined(JSON.parse(large.body).data.event)
    })
  )

  it.scopedLive("fails with what it is answered, follows no redirect, and names no URL", () =>
    Effect.gen(function* () {
      const elsewhere = yield* site(ok)
      const answers: ReadonlyArray<readonly [number, Record<string, string>]> = [
        [302, { location: elsewhere.url }],
        [307, { location: elsewhere.url }],
        [500, {}],
        [503, { "retry-after": "7" }],
        [410, {}]
      ]
      let next = 0
      const there = yield* site((_, response) => {
        const [status, headers] = answers[next++] as (typeof answers)[number]
        response.writeHead(status, headers).end("x".repeat(100_000))
      })
      const hooks = yield* hooksOf({ url: there.url, secrets: [secret] })
      const errors = yield* Effect.forEach(answers, () =>
        Effect.flip(hooks.onWaiting?.(waiting) ?? Effect.die("none"))
      )
      assert.deepStrictEqual(
        errors.map(({ retryable }) => retryable),
        [true, true, true, true, false]
      )
      assert.strictEqual(errors[3]?.retryAfter, 7_000)
      assert.include(errors[0]?.message, "redirect")
      assert.strictEqual(elsewhere.requests.length, 0)
      there.close()
      const gone = yield* Effect.flip(hooks.onWaiting?.(waiting) ?? Effect.die("none"))
      for (const { message } of [...errors, gone]) assert.notMatch(message, /hidden|127\.0\.0\.1/)
    })
  )

  it.scopedLive("does not wait for ever", () =>
    Effect.gen(function* () {
      const there = yield* site(() => {})
      const hooks = yield* hooksOf({ url: there.url, secrets: [secret], timeout: "50 millis" })
      const error = yield* Effect.flip(hooks.onWaiting?.(waiting) ?? Effect.die("none"))
      assert.include(error.message, "within 50ms")
    })
  )

  it.effect.each([
    [{ url: "https://example.com", secrets: [] }],
    [{ url: "https://example.com", secrets: ["plain"] }],
    [{ url: "https://example.com", secrets: ["whsec_YQ=="] }],
    [{ url: "https://example.com", secrets: ["whsec_%%%"] }],
    [{ url: "ftp://example.com", secrets: [secret] }],
    [{ url: "https://me:pw@example.com", secrets: [secret] }],
    [{ url: "example", secrets: [secret] }]
  ])("is not made of %j", ([options]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(hooksOf(options as HooksWebhook.Options)))
      assert.strictEqual(error._tag, "HooksWebhookError")
      assert.notInclude(error.message, "pw")
    })
  )
})
