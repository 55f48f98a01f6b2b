/** Every answer of the HTTP interface is one that it declares, with the members that it declares and no others. */
import * as HttpApi from "@effect/platform/HttpApi"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as AST from "effect/SchemaAST"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Api from "../../../src/layers/http/api.js"
import { documentOf } from "../../../src/layers/http/problems.js"
import { fromPayload, retryable } from "../../../src/protocol/Errors.js"
import { type Asking, served } from "./served.js"

/** The answers of each endpoint, by status. */
const declared = () => {
  const found = new Map<string, ReadonlyMap<number, AST.AST | undefined>>()
  HttpApi.reflect(Api.api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint, errors, successes }) => {
      const answers = [...successes, ...errors].map(
        ([status, { ast }]) => [status, Option.getOrUndefined(ast)] as const
      )
      found.set(endpoint.name, new Map(answers))
    }
  })
  return found
}

/** What is wrong with an answer, if anything. */
const amiss = (
  answers: ReadonlyMap<number, AST.AST | undefined>,
  status: number,
  type: string,
  text: string
) => {
  if (!answers.has(status)) return `${status} is not declared: ${text}`
  const ast = answers.get(status)
  if (ast === undefined) return text === "" ? undefined : `a body where none is declared: ${text}`
  if (status >= 400 && !type.startsWith("application/problem+json")) return `${status} as ${type}`
  if (!type.includes("json")) return undefined
  const read = Schema.decodeUnknownEither(Schema.make(ast), { onExcessProperty: "error", errors: "all" })(
    JSON.parse(text)
  )
  return Either.isLeft(read) ? `${status}: ${read.left.message}` : undefined
}

/** Every status of a failure: of each code, with each detail that makes it another. */
const failures = () => {
  const details = [
    {},
    { limit: "any" },
    ...["unanswered", "storage", "unknown_input", "not_ended", "any"].map((reason) => ({ reason }))
  ]
  const statuses = Object.keys(retryable).flatMap((code) =>
    details.map(
      (details) => documentOf(fromPayload({ code, message: "no", retryable: false, details })).status
    )
  )
  // Those of the server, before the gateway has seen the request.
  return new Set([...statuses, 403, 431, 500, 503])
}

/** What is read of answers. */
interface Told {
  readonly job_id?: string
  readonly waiting_for?: ReadonlyArray<string>
}

describe("the answers over HTTP", () => {
  it("have every failure declared that there may be, at every endpoint", () => {
    const missing = [...declared()].flatMap(([name, answers]) =>
      [...failures()].filter((status) => !answers.has(status)).map((status) => `${name}: ${status}`)
    )
    expect(missing).toEqual([])
  })

  it.scopedLive("are those that are declared", () =>
    Effect.gen(function* () {
      const answers = declared()
      const problems: Array<string> = []
      const seen = new Map<string, Set<number>>()
      const { ask } = yield* served({
        policy: Policy.layer({ operators: ["ops"], observers: ["ops"] }),
        options: { maxJobsPerSession: 40, concurrencyPerPrincipal: 8 }
      })
      /** Asks, and looks at the answer. */
      const told = async (name: string, path: string, asking: Asking = {}) => {
        const response = await ask(`/v1/${path}`, asking)
        const text = await response.text()
        const { status } = response
        seen.set(name, (seen.get(name) ?? new Set()).add(status))
        const wrong = amiss(
          answers.get(name) ?? new Map(),
          status,
          response.headers.get("content-type") ?? "",
          text
        )
        if (wrong !== undefined) problems.push(`${name}: ${wrong}`)
        const body: Told | undefined = /^[[{]/.test(text) ? JSON.parse(text.split("\n")[0] ?? "") : undefined
        return body
      }
      yield* Effect.promise(async () => {
        const wait = { prefer: "wait=60" }
        const submit = async (agent: string, input: unknown, more: Asking = {}, terms: object = {}) =>
          (await told("submit", "jobs", { json: { agent, input, ...terms }, ...more }))?.job_id as string
        const delegating = { lease_request: { "agent.delegate": ["**"], "cost.budget": ["USD:1"] } }
        const done = await submit("echo", { a: 1 }, { headers: wait })
        const streamed = await submit(
          "chunks",
          { chunks: 3, size: 10, encoding: "base64" },
          { headers: wait }
        )
        const long = await submit("echo", "x".repeat(1_500_000), { headers: wait })
        const failed = await submit("fail", { message: "no" }, { headers: wait })
        await submit("delegate", { agent: "echo", input: 1 }, { headers: wait }, delegating)
        await submit("read", { path: "/etc/passwd" }, { headers: wait })
        await submit(
          "echo",
          1,
          {},
          {
            lease_constraints: { expires_at: new Date(Date.now() + 60_000).toISOString() },
            extensions: { "x-vendor.effect-arcp.schedule": { delay_sec: 3600 } }
          }
        )
        const key = { headers: { "idempotency-key": "one" } }
        await submit("sleep", { ms: 60_000 }, key)
        await submit("sleep", { ms: 60_000 }, key)
        await submit("echo", 1, key)
        const sleeps = await submit("sleep", { ms: 60_000 }, { headers: { prefer: "wait=0" } })
        await submit("nobody", 1)
        await submit("ver@9.9.9", 1)
        await submit("sleep", { ms: "long" })
        await submit("echo", 1, { token: "" })
        await submit("echo", 1, { headers: { accept: "text/html" } })
        await submit("echo", 1, {}, { inptu: 1 })
        await told("submit", "jobs", {
          method: "POST",
          body: "{}",
          headers: { "content-type": "text/plain" }
        })
        await told("submit", "jobs", { json: { agent: "echo", input: "x".repeat(2 ** 21) } })

        await told("list", "jobs")
        await told("list", "jobs?status=success&limit=1")
        await told("list", "jobs?limit=x")
        await told("list", "jobs", { token: "ops" })
        for (const id of [done, failed, sleeps, "job_none"]) await told("job", `jobs/${id}`)
        for (const id of [done, failed, "job_none"]) {
          await told("events", `jobs/${id}/events`)
          await told("events", `jobs/${id}/events?after=x`)
          await told("events", `jobs/${id}/events`, { headers: { accept: "text/html" } })
        }
        const last = await ask(`/v1/jobs/${done}/events`, { headers: { accept: "application/x-ndjson" } })
        await told("events", `jobs/${done}/events?after=${(await last.text()).trim().split("\n").length}`)
        for (const id of [done, streamed, long, failed, sleeps, "job_none"])
          await told("result", `jobs/${id}/result`)
        await told("result", `jobs/${streamed}/result`, { headers: { range: "bytes=1-3" } })
        await told("result", `jobs/${streamed}/result`, { headers: { range: "bytes=99-" } })
        await told("result", `jobs/${streamed}/result`, { headers: { "if-none-match": "*" } })

        const asks = await submit("ask", { prompt: "well?" })
        const asked = async (): Promise<string> =>
          (await told("job", `jobs/${asks}`))?.waiting_for?.[0] ?? (await asked())
        const input = await asked()
        await told("list", "jobs?status=running")
        await told("answer", `jobs/${asks}/inputs/${input}`, { json: {} })
        await told("answer", `jobs/${asks}/inputs/none`, { json: { value: 1 } })
        await told("answer", `jobs/${asks}/inputs/${input}`, { json: { value: "yes" } })
        await told("answer", `jobs/${asks}/inputs/${input}`, { json: { value: "no" } })
        for (const id of [sleeps, done, "job_none"]) await told("cancel", `jobs/${id}/cancel`, { json: {} })
        await told("cancel", `jobs/${sleeps}/cancel`, { json: { reason: 1 } })
        for (const token of ["a", "b", "ops"])
          await told("remove", `jobs/${done}`, { method: "DELETE", token })
        await told("remove", `jobs/${sleeps}?cancel=perhaps`, { method: "DELETE", token: "ops" })
        await told("removeAll", "jobs?principal=alice", { method: "DELETE" })
        await told("removeAll", "jobs?principal=alice", { method: "DELETE", token: "ops" })
        await told("removeAll", "jobs?principal=alice&cancel=true", { method: "DELETE", token: "ops" })
        for (const name of ["agents", "sessions", "me", "nodes"] as const) {
          await told(name, name)
          await told(name, name, { token: "ops" })
          await told(name, name, { token: "nobody" })
          await told(name, name, { headers: { accept: "text/html" } })
        }
      })
      expect(problems).toEqual([])
      const statuses = Object.fromEntries([...seen].map(([name, all]) => [name, [...all].sort()]))
      expect(statuses).toEqual({
        submit: [200, 201, 202, 400, 401, 406, 413, 415, 422],
        list: [200, 400],
        job: [200, 404],
        events: [200, 204, 400, 404, 406],
        result: [200, 206, 304, 404, 409, 416],
        answer: [204, 400, 404, 409],
        cancel: [202, 400, 404],
        remove: [200, 400, 403, 404],
        removeAll: [200, 403, 409],
        agents: [200, 401, 406],
        sessions: [200, 401, 406],
        me: [200, 401, 406],
        nodes: [200, 401, 406]
      })
    })
  )
})
