/** A durable job whose store is away, for longer than anything else is tried again: it waits, and ends as its code says. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as CredentialStoreMemory from "../../../src/layers/credentials/CredentialStoreMemory.js"
import * as Credentials from "../../../src/layers/credentials/Credentials.js"
import * as IdGenerator from "../../../src/layers/runtime/IdGenerator.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { CredentialProvisioner } from "../../../src/services/credentials/CredentialProvisioner.js"
import type { CredentialStoreService } from "../../../src/services/credentials/CredentialStore.js"
import { Job, type JobService } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type Batch, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { type Frame, open } from "../../support/Wire.js"
import { Upstream } from "../credentials/credentials.js"
import { makeStore, restarted, resume, serve, submit } from "./support.js"

/** What fails while it is away: so many more times. */
class Away {
  private left = 0
  failed = 0

  begin(times = 4): void {
    this.left = times
    this.failed = 0
  }
  private readonly failing = <A, E>(work: Effect.Effect<A, E>): Effect.Effect<A, E | StoreError> =>
    Effect.suspend((): Effect.Effect<A, E | StoreError> => {
      if (this.left === 0) return work
      this.left--
      this.failed++
      return new StoreError({ message: "Postgres does not answer", publicMessage: "the database is away" })
    })

  /** The same, of which these fail. */
  over<Store extends object>(store: Store, names: ReadonlyArray<keyof Store>): Store {
    const failing = names.map((name) => [
      name,
      (...args: ReadonlyArray<unknown>) =>
        this.failing((store[name] as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown>)(...args))
    ])
    return { ...store, ...Object.fromEntries(failing) }
  }
}

const isEnd = ({ type }: Frame) => type === "job.result" || type === "job.error"

const child = Agent.handle(Agent.make("child", { version: "1.0.0" }), (input) => Effect.succeed(input))
const streams = Agent.handle(Agent.make("streams", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const result = yield* (yield* Job).openResult()
    yield* result.write("in pieces")
  }).pipe(Effect.orDie)
)

/** What fails first is what each of these does. */
const doing: Readonly<Record<string, (job: JobService) => Effect.Effect<unknown, unknown>>> = {
  "says what is tool-called": (job) => job.toolCall({ call_id: "c", tool: "t", args: {} }),
  spends: (job) => job.step("pay", job.metric({ name: "cost.model", value: 1, unit: "USD" })),
  "waits until what it has said is stored": (job) => Effect.zipRight(job.log("info", "hello"), job.flush),
  "does a step": (job) => job.step("step", Effect.succeed("done")),
  sleeps: (job) => job.sleep("sleep", "1 millis"),
  "asks, of which nobody knows": (job) =>
    job.input("asked", { prompt: "?", expiresIn: "1 millis" }).pipe(Effect.ignore),
  delegates: (job) => Effect.flatMap(job.delegate("child", 1, { key: "child" }), (one) => one.await),
  "streams its result": (job) => Effect.flatMap(job.openResult(), (result) => result.write("piece"))
}

describe("a durable job whose store takes nothing for a while", () => {
  for (const [what, act] of Object.entries(doing))
    it.scopedLive(`goes on when it ${what}`, () =>
      Effect.gen(function* () {
        const away = new Away()
        const { store } = yield* makeStore
        const parent = Agent.handle(Agent.make("parent", { version: "1.0.0", durable: true }), () =>
          Effect.gen(function* () {
            const job = yield* Job
            yield* job.flush
            away.begin()
            yield* act(job)
          }).pipe(Effect.orDie)
        )
        const runtime = serve({ store: away.over(store, ["commit"]) }, [parent, child], {
          storagePatience: "1 millis",
          revealFailures: true
        })
        yield* Effect.gen(function* () {
          const session = yield* open()
          const more = { lease_request: { "agent.delegate": ["*"], "cost.budget": ["USD:5"] } }
          const { job_id } = yield* submit(session, "parent", {}, more)
          const end = yield* session.next((frame) => isEnd(frame) && frame.job_id === job_id)
          assert.strictEqual(end.type, "job.result", JSON.stringify(end.payload))
          assert.strictEqual(away.failed, 4)
        }).pipe(Effect.provide(runtime))
      })
    )

  it.scopedLive("and one that is not durable ends with that", () =>
    Effect.gen(function* () {
      const away = new Away()
      const { store } = yield* makeStore
      const plain = Agent.handle(Agent.make("plain", { version: "1.0.0" }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          yield* job.flush
          away.begin()
          yield* job.log("info", "hello")
          yield* Effect.never
        }).pipe(Effect.orDie)
      )
      const runtime = serve({ store: away.over(store, ["commit"]) }, [plain], { storagePatience: "1 millis" })
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "plain")
        const { payload } = yield* session.next(isEnd)
        assert.strictEqual(payload.details.reason, "storage")
      }).pipe(Effect.provide(runtime))
    })
  )

  it.scopedLive("can be cancelled meanwhile, and ends so when the store is back", () =>
    Effect.gen(function* () {
      const away = new Away()
      const { store } = yield* makeStore
      const begun = yield* Deferred.make<void>()
      const parent = Agent.handle(Agent.make("parent", { version: "1.0.0", durable: true }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          yield* job.flush
          away.begin(20)
          yield* Deferred.succeed(begun, undefined)
          yield* job.delegate("child", 1, { key: "child" })
          yield* Effect.never
        }).pipe(Effect.orDie)
      )
      const runtime = serve({ store: away.over(store, ["commit"]) }, [parent, child])
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(
          session,
          "parent",
          {},
          { lease_request: { "agent.delegate": ["*"] } }
        )
        yield* Deferred.await(begun)
        away.begin(3)
        yield* session.request("job.cancel", {}, { job_id })
        const { payload } = yield* session.next(isEnd)
        assert.strictEqual(payload.code, "CANCELLED")
      }).pipe(Effect.provide(runtime))
    })
  )
})

/** A durable agent that runs `handler`. */
const durable = (name: string, handler: (job: JobService) => Effect.Effect<unknown, unknown>) =>
  Agent.handle(Agent.make(name, { version: "1.0.0", durable: true }), () =>
    Effect.orDie(Effect.flatMap(Job, handler))
  )

const delegating = { lease_request: { "agent.delegate": ["*"] } }

it.scopedLive("an answer holds nobody up for as long as its store is away, and is stored all the same", () =>
  Effect.gen(function* () {
    const away = new Away()
    const { store } = yield* makeStore
    const asks = durable("asks", (job) => job.input("approve", { prompt: "?" }))
    const runtime = serve({ store: away.over(store, ["commit"]) }, [asks], { storagePatience: "1 millis" })
    yield* Effect.gen(function* () {
      const session = yield* open()
      const { job_id } = yield* submit(session, "asks")
      const { payload: asked } = yield* session.next(({ payload }) => payload.kind === Vendor.inputRequest)
      const answer = Effect.gen(function* () {
        const { input_id } = asked.body
        const id = yield* session.request(Vendor.jobInput, { input_id, value: 7 }, { job_id })
        return yield* session.next(
          ({ payload }) => payload.request_id === id || payload.details?.request_id === id
        )
      })
      away.begin(Number.POSITIVE_INFINITY)
      // The second waits for what has become of the first.
      for (const { payload } of [yield* answer, yield* answer]) {
        assert.strictEqual(payload.code, "INTERNAL_ERROR")
        assert.strictEqual(payload.details.reason, "storage")
        assert.isTrue(payload.retryable)
      }
      away.begin(0)
      assert.strictEqual((yield* session.next(isEnd)).payload.result, 7)
      assert.strictEqual((yield* answer).type, Vendor.jobInputAccepted)
      // Whoever was told that it is not stored yet is told nothing else.
      assert.lengthOf(
        session.seen.filter(({ type }) => type === Vendor.jobInputAccepted),
        1
      )
    }).pipe(Effect.provide(runtime))
  })
)

/** A store whose commits wait from the first that holds what a key came to. */
const holding = Effect.gen(function* () {
  const test = yield* makeStore
  const gate = yield* Effect.makeLatch(false)
  const reached = yield* Deferred.make<void>()
  const isOutcome = ({ ops }: Batch) =>
    ops.some((op) => op._tag === "PutJournal" && op.entries.some(({ value }) => value !== undefined))
  const store: StoreService = {
    ...test.store,
    commit: (batch) =>
      isOutcome(batch)
        ? Effect.zipRight(
            Effect.zipRight(Deferred.succeed(reached, undefined), gate.await),
            test.store.commit(batch)
          )
        : test.store.commit(batch)
  }
  return { gate, reached, test: { ...test, store } }
})

describe("a key that is used again before what it came to is stored", () => {
  const acts: Readonly<Record<string, (job: JobService) => Effect.Effect<unknown, unknown>>> = {
    "of a step": (job) => job.step("key", Effect.succeed("done")),
    "of a delegation": (job) =>
      Effect.flatMap(job.delegate("child", "done", { key: "key" }), (one) => one.await)
  }
  for (const [what, act] of Object.entries(acts))
    it.scopedLive(`waits for that: ${what}`, () =>
      Effect.gen(function* () {
        const { gate, reached, test } = yield* holding
        const settle = Effect.repeatN(eventLoop.next, 50)
        const twice = durable("twice", (job) =>
          Effect.gen(function* () {
            const first = yield* Effect.fork(act(job))
            yield* Deferred.await(reached)
            yield* Fiber.interrupt(first)
            const second = yield* Effect.fork(act(job))
            yield* settle
            yield* gate.open
            return yield* Fiber.join(second)
          })
        )
        const runtime = serve(test, [twice, child], { revealFailures: true })
        yield* Effect.gen(function* () {
          const session = yield* open()
          const { job_id } = yield* submit(session, "twice", {}, delegating)
          const end = yield* session.next((frame) => isEnd(frame) && frame.job_id === job_id)
          assert.strictEqual(end.payload.result, "done", JSON.stringify(end.payload))
          const begun = session.seen.filter(
            ({ payload, type }) =>
              type === "job.event" && (payload.kind === "delegate" || payload.body?.state === "started")
          )
          assert.lengthOf(begun, 1)
        }).pipe(Effect.provide(runtime))
      })
    )
})

it.scopedLive(
  "a child that is opened after its parent has told of it is so only by the node that has the parent",
  () =>
    Effect.gen(function* () {
      const away = new Away()
      const batches: Array<Batch> = []
      const { store } = yield* makeStore
      const seen: StoreService = {
        ...store,
        commit: (batch) => Effect.tap(store.commit(batch), () => Effect.sync(() => batches.push(batch)))
      }
      const parent = durable("parent", (job) =>
        Effect.gen(function* () {
          yield* job.flush
          away.begin()
          return yield* (yield* job.delegate("child", 1, { key: "child" })).await
        })
      )
      const runtime = serve({ store: away.over(seen, ["commit"]) }, [parent, child], {
        storagePatience: "1 millis"
      })
      yield* Effect.gen(function* () {
        const session = yield* open()
        const { job_id } = yield* submit(session, "parent", {}, delegating)
        yield* session.next((frame) => isEnd(frame) && frame.job_id === job_id)
        const opening = batches.filter(({ ops }) =>
          ops.some(
            (op) => op._tag === "PutJournal" && op.jobId === job_id && op.entries[0]?.kind === "delegate"
          )
        )
        assert.isAbove(opening.length, 0)
        for (const { owners } of opening)
          assert.isTrue(
            owners.some((owner) => "job" in owner && owner.job === job_id),
            JSON.stringify(owners)
          )
      }).pipe(Effect.provide(runtime))
    })
)

it.scopedLive("a durable job that is left while it is being opened says nothing before it is run again", () =>
  Effect.gen(function* () {
    const { gate, reached, test } = yield* holding
    const left = yield* Deferred.make<void>()
    const says = durable("says", (job) =>
      Effect.zipRight(
        job.log("info", "begun"),
        Effect.onInterrupt(Effect.never, () => Effect.ignore(job.log("info", "interrupted")))
      )
    )
    const parent = durable("parent", (job) =>
      Effect.onInterrupt(job.delegate("says", 1, { key: "says" }), () => Deferred.succeed(left, undefined))
    )
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(serve(test, [parent, says]), scope)
    const session = yield* Effect.provide(open(), context)
    yield* submit(session, "parent", {}, delegating)
    yield* Deferred.await(reached)
    const stopped = yield* Effect.fork(Scope.close(scope, Exit.void))
    // With all that it delegates to.
    yield* Deferred.await(left)
    yield* gate.open
    yield* Fiber.join(stopped)
    const children = test.batches
      .flat()
      .flatMap((op) => (op._tag === "PutJob" && op.job.parentJobId !== undefined ? [op.job.jobId] : []))
    assert.isAbove(children.length, 0)
    const events = yield* test.store.events(children[0] as string, 0, 100)
    assert.notInclude(
      events.map(({ kind }) => kind),
      "log"
    )
  })
)

/** Credentials whose records cannot be stored while it is away. */
const provisioned = (away: Away) =>
  Effect.map(CredentialStoreMemory.make, (records) => {
    const upstream = new Upstream()
    const store: CredentialStoreService = away.over(records, ["insert", "update"])
    const layer = Credentials.layer({ allowVolatile: true, shutdownGrace: "0 millis" }).pipe(
      Layer.provide(Layer.succeed(CredentialProvisioner, upstream.provisioner)),
      Layer.provide(Layer.succeed(CredentialStoreMemory.CredentialStore, store)),
      Layer.provide(IdGenerator.layer()),
      Layer.orDie
    )
    return { layer, upstream }
  })

const reads: ReadonlyArray<keyof StoreService> = [
  "job",
  "input",
  "journal",
  "journalValue",
  "events",
  "boundsOf"
]

describe("a durable job that is run again while the store is away", () => {
  /** Runs a handler to where it waits, and again; the store is away from where the handler begins, when `when` says so. */
  const again = (
    handler: (job: JobService, away: Away) => Effect.Effect<unknown, unknown>,
    when: "is minted" | "has begun"
  ) =>
    Effect.gen(function* () {
      const before = yield* makeStore
      const reached = yield* Deferred.make<void>()
      const away = new Away()
      const minting = new Away()
      const resumes = yield* Deferred.make<void>()
      let run = 0
      const agent = Agent.handle(Agent.make("durable", { version: "1.0.0", durable: true }), () =>
        Effect.gen(function* () {
          const job = yield* Job
          run++
          if (run === 2) yield* Deferred.await(resumes)
          if (run === 2 && when === "has begun") away.begin()
          const output = yield* handler(job, away)
          yield* job.flush
          if (run === 2) return output
          yield* Deferred.succeed(reached, undefined)
          return yield* Effect.never
        }).pipe(Effect.orDie)
      )
      const { layer: credentials, upstream } = yield* provisioned(minting)
      const start = (store: StoreService) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const agents = [agent, child, streams]
          const runtime = serve({ store }, agents, { revealFailures: true }, { credentials })
          return { context: yield* Layer.buildWithScope(runtime, scope), stop: Scope.close(scope, Exit.void) }
        })
      const first = yield* start(before.store)
      const session = yield* Effect.provide(open(), first.context)
      const lease_request = { "agent.delegate": ["*"], "model.use": ["*"] }
      const { job_id } = yield* submit(session, "durable", {}, { lease_request })
      yield* Deferred.await(reached)
      before.cut = true
      yield* first.stop
      if (when === "is minted") minting.begin()
      const second = yield* start(away.over(restarted(before).store, reads))
      const resumed = yield* Effect.provide(open(resume(session, 0)), second.context)
      // What the session is sent is read, too, and it is to have all of it by then.
      yield* resumed.next(({ payload }) => payload.body?.phase === "recovered")
      yield* Deferred.succeed(resumes, undefined)
      const end = yield* resumed.next((frame) => isEnd(frame) && frame.job_id === job_id)
      yield* second.stop
      assert.strictEqual(end.type, "job.result", JSON.stringify(end.payload))
      assert.strictEqual(when === "is minted" ? minting.failed : away.failed, 4)
      return { result: end.payload.result, upstream }
    })

  it.scopedLive("is minted its credentials as soon as they can be recorded", () =>
    Effect.gen(function* () {
      const minted = (job: JobService) =>
        Effect.map(job.credentials, (all) => all.map(({ value }) => Redacted.value(value)))
      const said: Array<string> = []
      const logger = Logger.make(({ message }) => {
        said.push(String(message))
      })
      const { result, upstream } = yield* Effect.provide(
        again(minted, "is minted"),
        Logger.replace(Logger.defaultLogger, logger)
      )
      assert.deepStrictEqual(result, [upstream.values.at(-1)])
      // Once, however often it was tried.
      assert.lengthOf(
        said.filter((message) => message.includes("the credential store failed")),
        1
      )
    })
  )
  it.scopedLive("is given what its steps came to as soon as that can be read", () =>
    Effect.gen(function* () {
      const { result } = yield* again((job) => job.step("step", Effect.succeed("done")), "has begun")
      assert.strictEqual(result, "done")
    })
  )
  for (const [agent, what, came] of [
    ["child", "has come to", 7],
    ["streams", "has streamed", "in pieces"]
  ] as const)
    it.scopedLive(`is given what a job that it delegated to ${what} as soon as that can be read`, () =>
      Effect.gen(function* () {
        const delegated = (job: JobService) =>
          Effect.flatMap(job.delegate(agent, 7, { key: "child" }), (one) => one.await)
        const { result } = yield* again(delegated, "has begun")
        assert.strictEqual(result, came)
      })
    )
})
