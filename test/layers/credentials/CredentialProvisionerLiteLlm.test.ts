import { createHash } from "node:crypto"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import { describe, expect, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as ConfigProvider from "effect/ConfigProvider"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as LiteLlm from "../../../src/layers/credentials/CredentialProvisionerLiteLlm.js"
import { toWire } from "../../../src/layers/credentials/Credentials.js"
import { BudgetExhausted, InternalError } from "../../../src/protocol/Errors.js"
import type { CredentialRecord } from "../../../src/services/credentials/CredentialStore.js"
import { aRecord } from "./CredentialStore.suite.js"
import { aJob, Disk, start } from "./credentials.js"

const masterKey = "sk-master-1234567890"

type Body = Readonly<Record<string, unknown>>

/** What the gateway does with one request in place of answering it as it should. */
type Fault =
  | { readonly status: number; readonly body: string; readonly headers?: Record<string, string> }
  | "reset before"
  | "reset after"
  | "slow before"
  | "slow after"
  | "malformed before"
  | "malformed after"
  | undefined

/** A gateway that behaves like LiteLLM, on a local port. */
class Gateway {
  url = ""
  /** Alias → key. */
  readonly keys = new Map<string, { readonly key: string; readonly request: Body; spend: number }>()
  /** Every key there ever was. */
  readonly made: Array<string> = []
  readonly seen: Array<{
    readonly path: string
    readonly body: Body
    readonly headers: IncomingMessage["headers"]
  }> = []
  readonly faults: Record<string, Array<Fault>> = {}
  models: ReadonlyArray<string> = ["gpt-4o", "gpt-4o-mini", "openai/o3", "openai/o3/pro", "all-proxy-models"]
  private waiting: Array<() => void> = []

  changed = () => {
    for (const check of this.waiting) check()
  }

  /** Waits for requests, or for what `changed` is called about. */
  until(holds: () => boolean) {
    return Effect.async<void>((resume) => {
      const check = () => {
        if (!holds()) return
        this.waiting = this.waiting.filter((other) => other !== check)
        resume(Effect.void)
      }
      this.waiting.push(check)
      check()
    })
  }

  paths(path: string) {
    return this.seen.filter((request) => request.path === path)
  }

  private error(status: number, message: string, type = "bad_request_error") {
    return { status, body: JSON.stringify({ error: { message, type, param: "None", code: String(status) } }) }
  }

  private answer(
    path: string,
    body: Body,
    token: string,
    query: URLSearchParams
  ): { status: number; body: string } {
    if (token !== masterKey)
      return this.error(
        401,
        `Authentication Error, Invalid proxy server token passed. Received API Key = ${token}`,
        "auth_error"
      )
    switch (path) {
      case "/models":
        return {
          status: 200,
          body: JSON.stringify({ data: this.models.map((id) => ({ id, object: "model" })) })
        }
      case "/key/generate": {
        const alias = String(body["key_alias"])
        if (this.keys.has(alias)) return this.error(400, `Key with alias '${alias}' already exists.`)
        const key = `sk-${this.made.length}-AbCdEfGh`
        this.made.push(key)
        this.keys.set(alias, { key, request: body, spend: 0 })
        return {
          status: 200,
          body: JSON.stringify({ key, key_alias: alias, token_id: sha256(key), expires: null })
        }
      }
      case "/key/info": {
        const found = Array.from(this.keys.values()).find(({ key }) => sha256(key) === query.get("key"))
        return found === undefined
          ? this.error(404, "Key not found in database", "not_found_error")
          : {
              status: 200,
              body: JSON.stringify({
                key: query.get("key"),
                info: { spend: found.spend, max_budget: found.request["max_budget"] ?? null }
              })
            }
      }
      case "/key/delete": {
        const aliases = body["key_aliases"] as ReadonlyArray<string>
        if (aliases.filter((alias) => this.keys.delete(alias)).length === 0)
          return this.error(404, "{'error': 'No keys found'}")
        return { status: 200, body: JSON.stringify({ deleted_keys: aliases }) }
      }
      default:
        return { status: 404, body: '{"detail":"Not Found"}' }
    }
  }

  handle = (request: IncomingMessage, response: ServerResponse) => {
    let text = ""
    request.on("data", (chunk) => {
      text += chunk
    })
    request.on("end", () => {
      const { pathname: path, searchParams } = new URL(request.url ?? "/", "http://gateway")
      const body = text === "" ? {} : (JSON.parse(text) as Body)
      this.seen.push({ path: request.url ?? "", body, headers: request.headers })
      const fault = this.faults[path]?.shift()
      if (typeof fault === "object") {
        response.writeHead(fault.status, fault.headers ?? {}).end(fault.body)
      } else if (fault?.endsWith("before")) {
        this.disturb(fault, response)
      } else {
        const token = (request.headers.authorization ?? "").replace("Bearer ", "")
        const answer = this.answer(path, body, token, searchParams)
        if (fault === undefined)
          response.writeHead(answer.status, { "content-type": "application/json" }).end(answer.body)
        else this.disturb(fault, response)
      }
      this.changed()
    })
  }

  private disturb(fault: string, response: ServerResponse) {
    if (fault.startsWith("reset")) response.socket?.resetAndDestroy()
    else if (fault.startsWith("malformed")) response.writeHead(200).end('{"key": "sk-torn-')
    // And slow is never.
  }
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex")

const serve = (handle: (request: IncomingMessage, response: ServerResponse) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<ReturnType<typeof createServer>>((resume) => {
        const server = createServer(handle)
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    ),
    (server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  )

const gateway = Effect.gen(function* () {
  const upstream = new Gateway()
  upstream.url = yield* serve(upstream.handle)
  return upstream
})

const provisioner = (upstream: Gateway, options: Partial<LiteLlm.Options> = {}) =>
  LiteLlm.make({ baseUrl: upstream.url, masterKey: Redacted.make(masterKey), ...options }).pipe(
    Effect.provide(FetchHttpClient.layer)
  )

/** Records whose coming and going `upstream.until` notices. */
class Records extends Map<string, CredentialRecord> {
  constructor(readonly changed: () => void) {
    super()
  }
  override set(id: string, record: CredentialRecord) {
    super.set(id, record)
    // After whoever writes has gone on.
    setImmediate(() => this.changed?.())
    return this
  }
  override delete(id: string) {
    setImmediate(() => this.changed())
    return super.delete(id)
  }
}

/** Milliseconds after which a call was in vain, where gateways do not answer, and where a busy machine must not be taken for that. */
const patience = { short: 500, long: 60_000 }

/**
 * Everything, in real time: the faults are those of real connections. A mint that was given up is one more key, under an alias
 * of its own, which is revoked; whoever counts keys has the long patience.
 */
const make = (options: Partial<LiteLlm.Options> = {}, callTimeout = patience.long) =>
  Effect.gen(function* () {
    const upstream = yield* gateway
    const disk = new Disk(new Records(upstream.changed))
    const credentials = yield* start(yield* provisioner(upstream, options), disk.store, {
      callTimeout,
      settle: 100,
      mintRetry: 1,
      revokeRetry: 1,
      maxRevokeRetry: 10
    })
    const nothingLeft = upstream.until(() => upstream.keys.size === 0 && disk.records.size === 0)
    return { upstream, disk, credentials, nothingLeft }
  })

const request = (fields: Parameters<typeof aJob>[1] = {}) => ({
  id: "cred_00000000000000000000000001",
  profile: "openai",
  job: aJob("job_a", fields)
})
const budget = (amounts: Record<string, string>) =>
  new Map(
    Object.entries(amounts).map(([currency, amount]) => [currency, BigDecimal.unsafeFromString(amount)])
  )

describe("a key", () => {
  it.scopedLive("is made for the job, held to its lease, and deleted by our id", () =>
    Effect.gen(function* () {
      const { upstream, credentials, nothingLeft } = yield* make(
        {
          endpoint: "https://models.example/",
          allowInsecure: false,
          parameters: { team_id: "agents", models: ["everything"], key_alias: "mine" }
        },
        // On a busy machine the first call of all takes long, and another after it would be for another key.
        60_000
      )
      const [credential] = yield* credentials.mint(aJob("job_a"))
      if (credential === undefined) throw new Error("no key")
      const [generated] = upstream.paths("/key/generate")
      expect(generated?.body).toEqual({
        key_type: "llm_api",
        team_id: "agents",
        key_alias: credential.id,
        models: ["gpt-4o"],
        max_budget: 5,
        metadata: { job_id: "job_a", principal: "alice" }
      })
      expect(toWire(credential)).toEqual({
        id: credential.id,
        scheme: "bearer",
        value: upstream.keys.get(credential.id)?.key,
        endpoint: "https://models.example",
        profile: "openai",
        constraints: { "cost.budget": ["USD:5"], "model.use": ["gpt-4o"] }
      })
      yield* credentials.release("job_a")
      yield* nothingLeft
      const deleted = upstream.paths("/key/delete").map(({ body }) => body)
      expect(deleted).toEqual([{ key_aliases: [credential.id] }])
    })
  )

  it.scopedLive("is only for jobs that may use models", () =>
    Effect.gen(function* () {
      const { profiles } = yield* provisioner(yield* gateway, { profile: "litellm" })
      expect(profiles(aJob("job_a"))).toEqual(["litellm"])
      expect(profiles(aJob("job_a", { lease: { "fs.read": ["/**"] } }))).toEqual([])
      // An empty list upstream would mean every model.
      expect(profiles(aJob("job_a", { lease: { "model.use": [] } }))).toEqual([])
    })
  )

  it.scoped("expires with the lease, or before", () =>
    Effect.gen(function* () {
      const upstream = yield* gateway
      yield* TestClock.setTime(Date.parse("2030-01-01T00:00:00Z"))
      const durations: Array<unknown> = []
      const mint = (expires_at: string | undefined, maxDuration?: Duration.DurationInput) =>
        Effect.gen(function* () {
          upstream.keys.clear()
          const { mint } = yield* provisioner(upstream, { maxDuration })
          const { constraints } = yield* mint(
            request({ leaseConstraints: expires_at === undefined ? {} : { expires_at } })
          )
          durations.push(upstream.seen.pop()?.body["duration"], constraints?.expires_at)
        })
      yield* mint(undefined)
      yield* mint("2030-01-01T00:10:00.999Z")
      yield* mint("2030-01-01T00:00:00.100Z")
      yield* mint(undefined, "1 hour")
      yield* mint("2030-01-01T00:10:00Z", "60.9 seconds")
      expect(durations).toEqual([
        ...[undefined, undefined],
        ...["600s", "2030-01-01T00:10:00.999Z"],
        ...["1s", "2030-01-01T00:00:00.100Z"],
        ...["3600s", undefined],
        ...["60s", "2030-01-01T00:10:00Z"]
      ])
    })
  )

  it.scopedLive("may spend what the job may, and no more than the operator says", () =>
    Effect.gen(function* () {
      const upstream = yield* gateway
      const spend = (amounts: Record<string, string>, options: Partial<LiteLlm.Options> = {}) =>
        Effect.gen(function* () {
          upstream.keys.clear()
          const { mint } = yield* provisioner(upstream, options)
          const { constraints } = yield* mint(request({ budget: budget(amounts) }))
          return [upstream.seen.pop()?.body["max_budget"], constraints?.["cost.budget"]]
        })
      expect(yield* spend({ USD: "0.1", EUR: "9" })).toEqual([0.1, ["USD:0.1"]])
      expect(yield* spend({ credits: "9" })).toEqual([undefined, undefined])
      expect(yield* spend({ credits: "9" }, { currency: "credits" })).toEqual([9, ["credits:9"]])
      expect(yield* spend({}, { maxBudget: "2.50" })).toEqual([2.5, ["USD:2.5"]])
      expect(yield* spend({ USD: "1" }, { maxBudget: "2.50" })).toEqual([1, ["USD:1"]])
      expect(yield* spend({ USD: "9" }, { maxBudget: "2.50" })).toEqual([2.5, ["USD:2.5"]])
      expect(yield* Effect.flip(spend({ USD: "0.00" }))).toMatchObject({
        budgetExhausted: true,
        nothingMade: true
      })
    })
  )

  it.scopedLive("is for models that exist and that the lease names, one by one", () =>
    Effect.gen(function* () {
      const upstream = yield* gateway
      const models = (patterns: ReadonlyArray<string>, options: Partial<LiteLlm.Options> = {}) =>
        Effect.gen(function* () {
          upstream.keys.clear()
          const { mint } = yield* provisioner(upstream, options)
          yield* mint(request({ lease: { "model.use": patterns } }))
          return upstream.seen.pop()?.body["models"]
        })
      expect(yield* models(["gpt-4o", "gpt-4o", "unheard-of"])).toEqual(["gpt-4o"])
      expect(yield* models(["gpt-*"])).toEqual(["gpt-4o", "gpt-4o-mini"])
      // A star of the gateway's would cross the slash.
      expect(yield* models(["openai/*"])).toEqual(["openai/o3"])
      expect(yield* models(["**"])).toEqual(["gpt-4o", "gpt-4o-mini", "openai/o3", "openai/o3/pro"])
      expect(yield* models(["*"], { models: ["local"] })).toEqual(["local"])
      upstream.models = ["openai/*"]
      expect(yield* models(["openai/o3", "openai/**", "mistral/large"])).toEqual(["openai/o3"])
    })
  )

  it.scopedLive("is not made for names that mean many models, nor for none", () =>
    Effect.gen(function* () {
      const upstream = yield* gateway
      upstream.models = [...upstream.models, "*", "openai/*", ""]
      const { mint } = yield* provisioner(upstream)
      for (const name of [
        "all-proxy-models",
        "all-team-models",
        "no-default-models",
        "unheard-of",
        "mistral/*"
      ]) {
        const error = yield* Effect.flip(mint(request({ lease: { "model.use": [name] } })))
        expect(error).toMatchObject({ retryable: false, nothingMade: true })
        expect(error.message).toMatch(/none of the models that the lease's model\.use names/)
      }
      expect(upstream.made).toEqual([])
    })
  )

  it.scopedLive("rotated, keeps what is left of its budget; its value is in no URL", () =>
    Effect.gen(function* () {
      const { upstream, credentials, nothingLeft } = yield* make()
      const [credential] = yield* credentials.mint(aJob("job_a"))
      const id = credential?.id ?? ""
      const key = upstream.keys.get(id)
      if (key === undefined) throw new Error("no key")
      key.spend = 1.25
      const rotated = yield* credentials.rotate("job_a", id)
      expect(rotated.constraints?.["cost.budget"]).toEqual(["USD:3.75"])
      expect(upstream.paths("/key/generate")[1]?.body).toMatchObject({ max_budget: 3.75, models: ["gpt-4o"] })
      yield* upstream.until(() => !upstream.keys.has(id))
      expect(Array.from(upstream.keys.values(), ({ key }) => key)).toEqual([Redacted.value(rotated.value)])
      for (const { path } of upstream.seen) for (const key of upstream.made) expect(path).not.toContain(key)

      const [second] = upstream.keys.values()
      // As floating point counts.
      if (second !== undefined) second.spend = 0.1 + 0.2
      const again = yield* credentials.rotate("job_a", id)
      expect(again.constraints?.["cost.budget"]).toEqual(["USD:3.449999999999"])
      yield* upstream.until(() => upstream.keys.size === 1)
      const [third] = upstream.keys.values()
      if (third !== undefined) third.spend = 3.75
      const error = yield* Effect.flip(credentials.rotate("job_a", id))
      expect(error.message).toMatch(/USD budget is used up/)
      yield* credentials.release("job_a")
      yield* nothingLeft
    })
  )

  it.scopedLive("of a version that answers no hash is known by its own", () =>
    Effect.gen(function* () {
      const upstream = yield* gateway
      const answer = { key: "sk-old", token_id: "sk-old" }
      upstream.faults["/key/generate"] = [{ status: 200, body: JSON.stringify(answer) }]
      const { mint } = yield* provisioner(upstream)
      expect((yield* mint(request())).reference).toBe(sha256("sk-old"))
    })
  )
})

describe("no key is left alive", () => {
  const internal = { status: 500, body: "<html>Internal Server Error</html>" }
  const minting: Record<string, ReadonlyArray<Fault>> = {
    "500s, then success": [internal, internal],
    "500s to the end": [internal, internal, internal],
    "connection reset before it is processed": ["reset before"],
    "connection reset after, the answer lost": ["reset after"],
    "every answer lost": ["reset after", "reset after", "reset after"],
    "no answer in time, not processed": ["slow before"],
    "no answer in time, processed": ["slow after"],
    "malformed JSON": ["malformed before"],
    "malformed JSON of a key that exists": ["malformed after"],
    "an answer of something else": [{ status: 200, body: "[]" }],
    "a key of another alias": [{ status: 200, body: '{"key":"sk-x","key_alias":"other"}' }],
    "a gateway time-out": [{ status: 504, body: "" }],
    "too many requests": [{ status: 429, body: "{}" }]
  }
  for (const [name, faults] of Object.entries(minting))
    it.scopedLive(`when a mint meets ${name}`, () =>
      Effect.gen(function* () {
        const { upstream, disk, credentials, nothingLeft } = yield* make({}, patience.short)
        upstream.faults["/key/generate"] = [...faults]
        const minted = yield* Effect.either(credentials.mint(aJob("job_a")))
        expect(minted._tag).toBe(faults.length === 3 ? "Left" : "Right")
        const held = credentials.held("job_a").map(({ id }) => id)
        // What did not get an answer goes at once, the job's own stays.
        yield* upstream.until(() => disk.records.size === held.length && upstream.keys.size === held.length)
        expect(Array.from(upstream.keys.keys())).toEqual(held)
        yield* credentials.release("job_a")
        yield* nothingLeft
      })
    )

  const deleting: Record<string, ReadonlyArray<Fault>> = {
    "500s, then success": [internal, internal],
    "connection reset before it is processed": ["reset before"],
    "connection reset after, then an unknown key": ["reset after"],
    "no answer in time": ["slow before", "slow after"],
    "malformed JSON": ["malformed before"],
    "malformed JSON after, then an unknown key": ["malformed after"],
    "a page of another server": [
      { status: 404, body: "<p>The requested URL /key/delete was not found on this server.</p>" },
      { status: 404, body: '{"detail":"Not Found"}' },
      { status: 404, body: "" }
    ],
    "too many requests": [{ status: 429, body: "{}" }]
  }
  for (const [name, faults] of Object.entries(deleting))
    it.scopedLive(`when a revocation meets ${name}`, () =>
      Effect.gen(function* () {
        const { upstream, credentials, nothingLeft } = yield* make({}, patience.short)
        yield* credentials.mint(aJob("job_a"))
        upstream.faults["/key/delete"] = [...faults]
        yield* credentials.release("job_a")
        yield* nothingLeft
        expect(upstream.faults["/key/delete"]).toEqual([])
      })
    )

  it.scopedLive("and one that upstream never had, or has no more, is done with", () =>
    Effect.gen(function* () {
      const upstream = yield* gateway
      const { revoke } = yield* provisioner(upstream)
      yield* revoke(aRecord("cred_a"))
      for (const message of ["Key not found in database", "{'error': 'No keys found'}"])
        for (const status of [400, 404]) {
          upstream.faults["/key/delete"] = [{ status, body: JSON.stringify({ error: { message } }) }]
          yield* revoke(aRecord("cred_a"))
        }
      upstream.faults["/key/delete"] = [{ status: 400, body: JSON.stringify({ error: { message: "bad" } }) }]
      expect(yield* Effect.flip(revoke(aRecord("cred_a")))).toMatchObject({ retryable: false })
    })
  )
})

describe("what only an operator can put right", () => {
  it.scopedLive("a key that may not manage keys: not tried again, and the message says what to do", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make({
        masterKey: Redacted.make("sk-wrong"),
        models: ["gpt-4o"]
      })
      const error = yield* Effect.flip(credentials.mint(aJob("job_a")))
      expect(error).toBeInstanceOf(InternalError)
      expect(error.message).toMatch(/refuses the runtime's key \(401\); set ARCP_LITELLM_KEY/)
      expect(upstream.seen).toHaveLength(1)
      expect(disk.records.size).toBe(0)
    })
  )

  it.scopedLive("nor is a revocation that is refused", () =>
    Effect.gen(function* () {
      const { upstream, disk, credentials } = yield* make()
      const [credential] = yield* credentials.mint(aJob("job_a"))
      upstream.faults["/key/delete"] = [{ status: 403, body: `{"error":{"message":"${masterKey} may not"}}` }]
      yield* credentials.release("job_a")
      yield* upstream.until(() => disk.states[0] === "failed")
      expect(upstream.paths("/key/delete")).toHaveLength(1)
      const [outstanding] = yield* credentials.outstanding
      expect(outstanding?.lastError).toMatch(/ARCP_LITELLM_KEY/)
      yield* credentials.revoke(credential?.id ?? "")
      expect(upstream.keys.size).toBe(0)
    })
  )

  it.live("a gateway that is not there: nothing was made, so nothing is left to revoke", () =>
    Effect.gen(function* () {
      const upstream = new Gateway()
      upstream.url = yield* Effect.scoped(serve(() => {}))
      const { mint, revoke } = yield* provisioner(upstream, { models: ["gpt-4o"] })
      const error = yield* Effect.flip(mint(request()))
      expect(error).toMatchObject({ retryable: true, nothingMade: true })
      expect(error.message).toMatch(/failed \(ECONNREFUSED\); check that it runs where ARCP_LITELLM_URL says/)
      expect(yield* Effect.flip(revoke(aRecord("cred_a")))).toMatchObject({ retryable: true })
    })
  )

  it.scopedLive("a redirect does not take the key elsewhere", () =>
    Effect.gen(function* () {
      const elsewhere: Array<IncomingMessage> = []
      const other = yield* serve((request, response) => {
        elsewhere.push(request)
        response.end("{}")
      })
      const upstream = yield* gateway
      const moved = { status: 307, body: "", headers: { location: `${other}/key/generate` } }
      upstream.faults["/key/generate"] = [moved]
      const { mint } = yield* provisioner(upstream)
      const error = yield* Effect.flip(mint(request()))
      expect(error.message).toMatch(/307 to \/key\/generate\); correct ARCP_LITELLM_URL/)
      expect(elsewhere).toEqual([])
    })
  )
})

describe("a spend cap upstream", () => {
  const answers = [
    [400, '{"error":{"message":"ExceededBudget: User=x over budget. Spend=5, Budget=5","type":"None"}}'],
    [
      429,
      '{"error":{"message":"Budget has been exceeded! Current cost: 5.0, Max budget: 1.0","type":"budget_exceeded"}}'
    ],
    [400, '{"error":{"type":"budget_exceeded"}}']
  ] as const

  for (const [status, body] of answers)
    it.scopedLive(`is BUDGET_EXHAUSTED: ${status} ${body.slice(0, 60)}`, () =>
      Effect.gen(function* () {
        expect(LiteLlm.spendCapError(status, body)).toBeInstanceOf(BudgetExhausted)
        const { upstream, disk, credentials } = yield* make()
        upstream.faults["/key/generate"] = [{ status, body }]
        expect(yield* Effect.flip(credentials.mint(aJob("job_a")))).toBeInstanceOf(BudgetExhausted)
        expect(upstream.paths("/key/generate")).toHaveLength(1)
        expect(disk.records.size).toBe(0)
      })
    )

  it("and nothing else is", () => {
    expect(LiteLlm.spendCapError(429, '{"error":{"message":"Rate limit reached"}}')).toBeUndefined()
    expect(LiteLlm.spendCapError(500, "Budget has been exceeded")).toBeUndefined()
    expect(LiteLlm.spendCapError(400, '{"error":{"message":"unknown field budget"}}')).toBeUndefined()
  })
})

describe("secrets", () => {
  it.scopedLive("neither the runtime's key nor a job's is in a log, an error or a record", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const see = (value: unknown) =>
        seen.push(Inspectable.format(value), JSON.stringify(value) ?? "", String(value))
      const logger = Logger.make(({ message, annotations, cause }) => {
        see(message)
        see(cause)
        see(Array.from(annotations))
      })
      yield* Effect.gen(function* () {
        const { upstream, disk, credentials } = yield* make({}, patience.short)
        const quoting = {
          status: 400,
          body: `{"error":{"message":"sk-0-AbCdEfGh and ${masterKey} are bad"}}`
        }
        const [credential] = yield* credentials.mint(aJob("job_a"))
        see(credential)
        for (const fault of [
          quoting,
          { ...quoting, status: 503 },
          "reset after",
          "malformed after"
        ] as const) {
          upstream.faults["/key/generate"] = [fault, fault, fault]
          see(yield* Effect.exit(credentials.mint(aJob(`job_${seen.length}`))))
        }
        upstream.faults["/key/delete"] = [quoting]
        yield* credentials.release("job_a")
        yield* upstream.until(() => disk.states.includes("failed"))
        see(Array.from(disk.records.values()))
        expect(upstream.made.length).toBeGreaterThan(2)
        see(yield* credentials.outstanding)
        for (const key of [...upstream.made, masterKey]) expect(seen.join("\n")).not.toContain(key)
        expect(seen.join("\n")).toContain("its log says why")
      }).pipe(
        Effect.scoped,
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Logger.withMinimumLogLevel(LogLevel.All)
      )
    })
  )
})

describe("options", () => {
  const refused = (options: Partial<LiteLlm.Options>) =>
    Effect.map(Effect.flip(provisioner(new Gateway(), options)), ({ message }) => message)

  it.effect("are refused when they cannot be right", () =>
    Effect.gen(function* () {
      expect(yield* refused({ baseUrl: "litellm" })).toMatch(/must be a URL/)
      expect(yield* refused({ baseUrl: "ftp://litellm" })).toMatch(/must be a URL/)
      expect(yield* refused({ baseUrl: "http://litellm.example" })).toMatch(/must be https/)
      expect(yield* refused({ baseUrl: "https://l", endpoint: "http://litellm.example" })).toMatch(
        /must be https/
      )
      const inUrl = yield* refused({ baseUrl: "https://user:hunter2@litellm" })
      expect(inUrl).toMatch(/no user, password/)
      expect(inUrl).not.toContain("hunter2")
      expect(yield* refused({ baseUrl: "https://l", masterKey: Redacted.make("") })).toMatch(
        /ARCP_LITELLM_KEY/
      )
      for (const maxBudget of ["", "five", "0", "-1"])
        expect(yield* refused({ baseUrl: "https://l", maxBudget })).toMatch(/maxBudget/)
      yield* LiteLlm.make({
        baseUrl: "http://litellm.example",
        masterKey: Redacted.make(masterKey),
        allowInsecure: true
      })
    }).pipe(Effect.provide(FetchHttpClient.layer))
  )

  const withEnvironment = (env: Record<string, string>) =>
    Layer.build(LiteLlm.layerConfig()).pipe(
      Effect.scoped,
      Effect.provide(FetchHttpClient.layer),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env))))
    )

  it.effect("come from the environment", () =>
    Effect.gen(function* () {
      const url = { ARCP_LITELLM_URL: "https://litellm.example" }
      yield* withEnvironment({ ...url, ARCP_LITELLM_KEY: masterKey, ARCP_LITELLM_MODELS: "a, b" })
      expect(String(yield* Effect.flip(withEnvironment(url)))).toMatch(/ARCP_LITELLM_KEY/)
      const error = yield* Effect.flip(
        withEnvironment({ ARCP_LITELLM_URL: "http://litellm.example", ARCP_LITELLM_KEY: masterKey })
      )
      expect(String(error)).toMatch(/must be https/)
      expect(Inspectable.format(error)).not.toContain(masterKey)
      const configured = (env: Record<string, string>) =>
        LiteLlm.configured.pipe(
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env))))
        )
      expect(yield* configured(url)).toBe(true)
      expect(yield* configured({})).toBe(false)
    })
  )
})
