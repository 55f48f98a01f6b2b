import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { coversJob, Policy } from "../../../src/layers/auth/Policy.js"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Credentials } from "../../../src/services/credentials/Credentials.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Lease } from "../../../src/services/lease/Lease.js"
import { eventLoop, Turn } from "../../../src/services/runtime/Turn.js"
import type { JobRecord } from "../../../src/services/store/Store.js"
import { type Frame, open } from "../../support/Wire.js"
import { agents, as, makeStore, narrow, resume, type Session, serve, submit } from "./support.js"

/** One credential per job, and a new value when it is rotated. */
const credentials = () => {
  const values = new Map<string, string>()
  let rotations = 0
  const of = (value: string) => ({
    id: "cred_1",
    scheme: "bearer" as const,
    value: Redacted.make(value),
    endpoint: "https://gateway.example",
    profile: "p"
  })
  const held = (jobId: string) => {
    const value = values.get(jobId)
    return value === undefined ? [] : [of(value)]
  }
  const cache = new Map<string, ReturnType<typeof held>>()
  const stable = (jobId: string) => {
    const found = cache.get(jobId)
    if (found !== undefined && Redacted.value(found[0]?.value ?? Redacted.make("")) === values.get(jobId))
      return found
    const fresh = held(jobId)
    cache.set(jobId, fresh)
    return fresh
  }
  const rotated = (jobId: string) =>
    Effect.sync(() => {
      const value = `rotated ${++rotations}`
      values.set(jobId, value)
      return of(value)
    })
  const layer = Layer.succeed(Credentials, {
    enabled: true,
    mint: ({ jobId }) =>
      Effect.sync(() => {
        values.set(jobId, `secret ${jobId}`)
        return stable(jobId)
      }),
    held: stable,
    rotate: rotated,
    release: (jobId) => Effect.sync(() => values.delete(jobId)),
    outstanding: Effect.succeed([]),
    revoke: () => Effect.void
  })
  return { layer, values }
}

const watchable = Layer.succeed(Policy, {
  listable: () => Effect.succeed("everyone" as const),
  maySubscribe: () => Effect.succeed(true),
  mayCancel: () => Effect.succeed(false),
  mayAnswer: () => Effect.succeed(false),
  mayUseAgent: () => Effect.succeed(true)
})

const subscribe = (session: Session, job_id: string | undefined) =>
  Effect.gen(function* () {
    yield* session.request("job.subscribe", { job_id })
    return (yield* session.expect("job.subscribed")).payload
  })

describe("credentials", () => {
  it.scoped("are shown to the submitter only, and only to a token of it that covers the job", () =>
    Effect.gen(function* () {
      const { layer, values } = credentials()
      yield* Effect.gen(function* () {
        const alice = yield* open()
        const terms = { lease_request: { "tool.call": ["*"] }, idempotency_key: "k" }
        const accepted = yield* submit(alice, "forever", {}, terms)
        assert.strictEqual(accepted.payload.credentials.length, 1)
        const shown: ReadonlyArray<readonly [string, boolean]> = [
          ["alice", true],
          ["bob", false],
          ["narrow", false]
        ]
        for (const [token, sees] of shown) {
          const session = yield* open(as(token))
          const subscribed = yield* subscribe(session, accepted.job_id)
          assert.strictEqual(subscribed.credentials !== undefined, sees, token)
          const listing = JSON.stringify(session.seen)
          assert.strictEqual(listing.includes("secret "), sees, token)
        }
        const again = yield* submit(yield* open(), "forever", {}, terms)
        assert.isDefined(again.payload.credentials)
        const hidden = yield* submit(yield* open(as("narrow")), "forever", {}, terms)
        assert.strictEqual(hidden.job_id, accepted.job_id)
        assert.isUndefined(hidden.payload.credentials)
        // Within its own ceiling it sees them.
        const own = yield* open(as("narrow"))
        const mine = { lease_request: { "tool.call": ["search.web"] }, idempotency_key: "n" }
        const job = yield* submit(own, "forever", {}, mine)
        assert.isDefined((yield* subscribe(own, job.job_id)).credentials)
        assert.strictEqual(values.size, 2)
      }).pipe(Effect.provide(serve(yield* makeStore, agents, {}, { credentials: layer, policy: watchable })))
      assert.strictEqual(values.size, 0)
    })
  )

  it.scoped(
    "that are rotated are told to the owner, without the value when its token does not cover the job, also in a replay",
    () =>
      Effect.gen(function* () {
        const { layer } = credentials()
        const rotator = Agent.handle(Agent.make("rotator", { version: "1.0.0" }), () =>
          Effect.flatMap(Job, (job) =>
            Effect.repeatN(Effect.zipRight(Effect.sleep("1 minute"), job.rotateCredential("cred_1")), 1)
          ).pipe(Effect.zipRight(Effect.never))
        )
        yield* Effect.gen(function* () {
          const alice = yield* open()
          yield* submit(alice, "rotator", {}, { lease_request: { "tool.call": ["*"] } })
          yield* alice.expect("job.event")
          yield* TestClock.adjust("1 minute")
          const told = yield* alice.expect("job.event")
          assert.match(told.payload.body.value, /^rotated/)
          yield* alice.connection.close(1000, "")
          const token = yield* open({ ...resume(alice, 1), ...as("narrow") })
          const nothing = { phase: "credential_rotated", id: "cred_1" }
          // What the wide token was told does not come again for a narrow one.
          assert.deepStrictEqual((yield* token.expect("job.event")).payload.body, nothing)
          yield* TestClock.adjust("1 minute")
          assert.deepStrictEqual((yield* token.expect("job.event")).payload.body, nothing)
          yield* token.connection.close(1000, "")
          const wide = yield* open(resume(token, 1))
          for (let i = 0; i < 2; i++)
            assert.match((yield* wide.expect("job.event")).payload.body.value, /^rotated/)
          yield* wide.connection.close(1000, "")
          const features = all.filter((feature) => feature !== "provisioned_credentials")
          const without = yield* open(resume(wide, 1), features)
          for (let i = 0; i < 2; i++)
            assert.deepStrictEqual((yield* without.expect("job.event")).payload.body, nothing)
        }).pipe(
          Effect.provide(
            serve(
              yield* makeStore,
              [rotator],
              { heartbeatInterval: "1 day" },
              { credentials: layer, policy: watchable }
            )
          )
        )
      })
  )
})

describe("credentials and connections in the clear", () => {
  const rotator = Agent.handle(Agent.make("rotator", { version: "1.0.0" }), () =>
    Effect.flatMap(Job, (job) => Effect.zipRight(job.rotateCredential("cred_1"), Effect.never))
  )
  const rotated = (session: Session) =>
    session.expect("job.event", ({ payload }) => payload.body.phase === "credential_rotated")

  it.scoped("are told over those that are not, whatever the session was resumed over before", () =>
    Effect.gen(function* () {
      const { layer, values } = credentials()
      let exposed = true
      yield* Effect.gen(function* () {
        const clear = yield* open()
        const { job_id, payload } = yield* submit(clear, "rotator")
        assert.isUndefined(payload.credentials)
        assert.isUndefined((yield* rotated(clear)).payload.body.value)
        assert.isUndefined((yield* subscribe(yield* open(), job_id)).credentials)
        assert.strictEqual(values.get(job_id ?? ""), "rotated 1")
        exposed = false
        const tls = yield* open(resume(clear, 0))
        assert.isDefined((yield* tls.expect("job.accepted")).payload.credentials)
        assert.strictEqual((yield* rotated(tls)).payload.body.value, "rotated 1")
        assert.isDefined((yield* subscribe(yield* open(), job_id)).credentials)
        exposed = true
        const again = yield* open(resume(tls, 0))
        assert.isUndefined((yield* again.expect("job.accepted")).payload.credentials)
        assert.isUndefined((yield* rotated(again)).payload.body.value)
      }).pipe(
        Effect.provide(
          serve(yield* makeStore, [rotator], {}, { credentials: layer }, (connection) => ({
            ...connection,
            exposed
          }))
        )
      )
    })
  )

  it.scoped(
    "are not in an accept when the session was resumed meanwhile by a narrower token, or in the clear",
    () =>
      Effect.gen(function* () {
        const { layer, values } = credentials()
        const minting = yield* Effect.makeLatch(false)
        let exposed = false
        let asked = 0
        const slow = Layer.map(layer, (context) => {
          const service = Context.get(context, Credentials)
          const mint: typeof service.mint = (job) =>
            Effect.zipRight(
              Effect.suspend(() => {
                asked++
                return minting.await
              }),
              service.mint(job)
            )
          return Context.make(Credentials, { ...service, mint })
        })
        yield* Effect.gen(function* () {
          for (const [token, clear] of [
            ["alice", false],
            ["narrow", false],
            ["alice", true]
          ] as const) {
            exposed = false
            asked = 0
            yield* minting.close
            const before = yield* open()
            const id = yield* before.request("job.submit", {
              agent: "forever",
              input: {},
              lease_request: { "tool.call": ["*"] }
            })
            yield* Effect.repeat(eventLoop.next, { until: () => Effect.sync(() => asked > 0) })
            exposed = clear
            const after = yield* open({ ...resume(before, 0), ...as(token) })
            yield* minting.open
            const { job_id, payload } = yield* after.expect("job.accepted")
            assert.strictEqual(payload.request_id, id)
            assert.isTrue(values.has(job_id ?? ""))
            assert.strictEqual(payload.credentials !== undefined, token === "alice" && !clear)
          }
        }).pipe(
          Effect.provide(
            serve(yield* makeStore, agents, {}, { credentials: slow, policy: watchable }, (connection) => ({
              ...connection,
              exposed
            }))
          )
        )
      })
  )

  it.scoped(
    "are not told over one in the clear when what it is sent was read for another, which took its place",
    () =>
      Effect.gen(function* () {
        const { layer } = credentials()
        const { store } = yield* makeStore
        const gate = yield* Effect.makeLatch(true)
        const closing = yield* Effect.makeLatch(true)
        let reading = 0
        let exposed = true
        const slow: typeof store = {
          ...store,
          page: (...args) =>
            Effect.zipRight(
              Effect.suspend(() => {
                reading++
                return gate.await
              }),
              store.page(...args)
            )
        }
        yield* Effect.gen(function* () {
          const first = yield* open()
          yield* submit(first, "rotator")
          yield* rotated(first)
          yield* gate.close
          yield* closing.close
          reading = 0
          const clear = yield* open(resume(first, 1))
          yield* Effect.repeat(eventLoop.next, { until: () => Effect.sync(() => reading > 0) })
          exposed = false
          const tls = yield* open(resume(clear, 1))
          yield* gate.open
          assert.isDefined((yield* rotated(tls)).payload.body.value)
          yield* closing.open
          yield* Effect.exit(clear.next(() => false))
          assert.notInclude(JSON.stringify(clear.seen), "rotated 1")
        }).pipe(
          Effect.provide(
            serve({ store: slow }, [rotator], {}, { credentials: layer }, (connection) => ({
              ...connection,
              exposed,
              close: (code, reason) => Effect.zipRight(closing.await, connection.close(code, reason))
            }))
          )
        )
      })
  )
})

describe("an identity covers a job", () => {
  const job = (more: Partial<JobRecord> = {}) => ({ agent: "echo@1.0.0", lease: {}, ...more }) as JobRecord
  const ceiling = (leaseCeiling: Record<string, ReadonlyArray<string>>) => ({
    principal: "alice",
    leaseCeiling
  })

  it.effect("whose agent is one of its own and whose lease and budget are within its ceiling", () =>
    Effect.gen(function* () {
      assert.isTrue(yield* coversJob({ principal: "alice" }, job({ lease: { "cost.budget": ["USD:5"] } })))
      assert.isTrue(yield* coversJob(narrow, job()))
      assert.isFalse(yield* coversJob(narrow, job({ agent: "echoes@1.0.0" })))
      assert.isTrue(yield* coversJob(narrow, job({ lease: { "tool.call": ["search.web"] } })))
      assert.isFalse(yield* coversJob(narrow, job({ lease: { "tool.call": ["search.web", "mail.send"] } })))
      assert.isFalse(yield* coversJob(narrow, job({ lease: { "fs.read": ["/a"] } })))
    })
  )

  it.effect("whose budget it could have been given", () =>
    Effect.gen(function* () {
      const usd = ceiling({ "cost.budget": ["USD:5"] })
      assert.isTrue(yield* coversJob(usd, job({ lease: { "cost.budget": ["USD:5"] } })))
      assert.isTrue(yield* coversJob(usd, job({ lease: { "cost.budget": ["USD:5", "credits:1"] } })))
      assert.isFalse(yield* coversJob(usd, job({ lease: { "cost.budget": ["USD:5.01"] } })))
      assert.isFalse(yield* coversJob(usd, job({ lease: { "cost.budget": ["credits:1"] } })))
      assert.isFalse(yield* coversJob(usd, job()))
    })
  )

  it.effect("is decided in turns, once for a lease and a ceiling that stay the same", () => {
    let turns = 0
    const turn = { ...eventLoop, next: Effect.sync(() => turns++) }
    const many = Array.from({ length: 300 }, (_, i) => `/${"**/a/".repeat(100)}${i}`)
    const record = job({ lease: { "fs.read": many } })
    const under = { "fs.read": many.map((pattern) => `${pattern}/b`) }
    return Effect.gen(function* () {
      assert.isFalse(yield* coversJob(ceiling(under), record))
      assert.isAbove(turns, 5)
      turns = 0
      assert.isFalse(yield* coversJob(ceiling(under), record))
      assert.strictEqual(turns, 0)
      under["fs.read"].unshift("/**")
      assert.isTrue(yield* coversJob(ceiling(under), record))
    }).pipe(Effect.provideService(Turn, turn))
  })
})

describe("what a job looks like", () => {
  const spender = Agent.handle(Agent.make("spender", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const lease = yield* Lease
      yield* lease.spend({ amount: "1.5", currency: "USD" })
      return yield* Effect.never
    })
  )
  const parent = Agent.handle(Agent.make("parent", { version: "1.0.0" }), () =>
    Effect.gen(function* () {
      const job = yield* Job
      yield* job.delegate("spender", {}, { lease: { "cost.budget": ["USD:2"] } })
      return yield* Effect.never
    })
  )

  it.scoped(
    "subscribed: its delegation and its counters; listed: when it was submitted, and by its parent",
    () =>
      Effect.gen(function* () {
        yield* Effect.gen(function* () {
          const session = yield* open()
          const root = yield* submit(
            session,
            "parent",
            {},
            {
              lease_request: { "agent.delegate": ["spender"], "cost.budget": ["USD:5"] }
            }
          )
          const child = yield* session.expect(
            "job.accepted",
            ({ payload }) => payload.parent_job_id === root.job_id
          )
          yield* session.expect(
            "job.event",
            ({ job_id, payload }) => job_id === child.job_id && payload.kind === "metric"
          )

          const watcher = yield* open()
          const subscribed = yield* subscribe(watcher, child.job_id)
          assert.strictEqual(subscribed.parent_job_id, root.job_id)
          assert.strictEqual(subscribed.delegate_id, child.payload.delegate_id)
          assert.deepStrictEqual(subscribed.budget, { USD: 0.5 })
          assert.deepStrictEqual((yield* subscribe(watcher, root.job_id)).budget, { USD: 3.5 })

          const list = (filter: unknown) =>
            Effect.gen(function* () {
              yield* watcher.request("session.list_jobs", { filter })
              return (yield* watcher.expect("session.jobs")).payload.jobs as ReadonlyArray<
                Record<string, unknown>
              >
            })
          const all = yield* list({})
          assert.deepStrictEqual(
            all.map((entry) => entry["delegate_id"]),
            [undefined, child.payload.delegate_id]
          )
          for (const entry of all) assert.strictEqual(entry["submitted_at"], entry["created_at"])
          const children: ReadonlyArray<Partial<Frame>> = yield* list({ parent_job_id: root.job_id })
          assert.deepStrictEqual(
            children.map(({ job_id }) => job_id),
            [child.job_id]
          )
          assert.deepStrictEqual(yield* list({ parent_job_id: child.job_id }), [])
          // Delegated jobs do not count against their session's cap.
        }).pipe(Effect.provide(serve(yield* makeStore, [parent, spender], { maxJobsPerSession: 1 })))
      })
  )
})
