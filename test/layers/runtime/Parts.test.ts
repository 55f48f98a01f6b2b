import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as IdGeneratorLayer from "../../../src/layers/runtime/IdGenerator.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as RuntimeOptions from "../../../src/layers/runtime/RuntimeOptions.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { PermissionDenied } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Jobs } from "../../../src/services/jobs/Jobs.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { IdGenerator } from "../../../src/services/runtime/IdGenerator.js"
import { Secrets } from "../../../src/services/runtime/Secrets.js"
import { Store, StoreError } from "../../../src/services/store/Store.js"
import * as TestRuntime from "../../../src/testing/TestRuntime.js"

const Greet = Agent.make("greet", { version: "1.0.0", input: Schema.String, output: Schema.String })
const greet = Agent.handle(Greet, (name) =>
  Effect.gen(function* () {
    const job = yield* Job
    yield* job.log("info", name)
    return `hello ${name}`
  })
)

/** Ids that can be told apart. */
const numbered = Layer.effect(
  IdGenerator,
  Effect.map(IdGenerator, (ids) => {
    let next = 0
    return IdGenerator.of({ ...ids, unsafeMake: (prefix) => `${prefix}_${String(++next).padStart(26, "0")}` })
  })
).pipe(Layer.provide(IdGeneratorLayer.layer()))

const token = `rt_${"ab".repeat(32)}`
const known = Layer.succeed(Secrets, {
  resumeToken: Effect.succeed(Redacted.make(token)),
  digest: (text) => Effect.succeed(`digest of ${text}`)
})

/** Appends by job, counted by a log that wraps the runtime's. */
const counting = () => {
  const appended: Array<string> = []
  const wrap = <E, R>(base: Layer.Layer<EventLog, E, R>) =>
    Layer.effect(
      EventLog,
      Effect.map(EventLog, (log) =>
        EventLog.of({
          ...log,
          append: (job, event) =>
            Effect.zipRight(
              Effect.sync(() => appended.push(event.kind)),
              log.append(job, event)
            )
        })
      )
    ).pipe(Layer.provide(base))
  return { appended, wrap }
}

/** Jobs that nobody may submit on Sundays. */
const closed = <E, R>(base: Layer.Layer<Jobs, E, R>) =>
  Layer.effect(
    Jobs,
    Effect.map(Jobs, (jobs) =>
      Jobs.of({
        ...jobs,
        submit: (session, request) =>
          jobs.refuse(session, request, new PermissionDenied({ message: "not on Sundays" }))
      })
    )
  ).pipe(Layer.provide(base))

const served = <E, R>(runtime: Layer.Layer<Runtime.Services, E, R>) =>
  Runtime.serve().pipe(
    Layer.provideMerge(TransportMemory.layer()),
    Layer.provideMerge(runtime),
    Layer.provide(Registry.layer([greet])),
    Layer.provide(Auth.layerStatic({ alice: "alice" }))
  )

const connected = Effect.suspend(() => ArcpClient.make({ token: Redacted.make("alice") }))

describe("parts of a runtime", () => {
  it.scopedLive("ids, secrets and options that are given are those in use", () =>
    Effect.gen(function* () {
      const client = yield* connected
      const job = yield* client.submit(Greet, "you")
      assert.match(job.jobId, /^job_0{24}\d\d$/)
      assert.strictEqual((yield* client.resumeState).resumeToken, token)
      const options = yield* RuntimeOptions.RuntimeOptions
      assert.strictEqual(Duration.toSeconds(options.resumeWindow), 7)
    }).pipe(
      Effect.provide(
        served(
          Runtime.layerMemory({
            ids: numbered,
            secrets: known,
            options: RuntimeOptions.layerConfig({ shutdownGrace: "0 millis" })
          })
        ).pipe(
          Layer.provide(
            Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["ARCP_RESUME_WINDOW", "7 seconds"]])))
          )
        )
      )
    )
  )

  it.scopedLive("the log and the jobs can be wrapped", () => {
    const { appended, wrap } = counting()
    const runtimes = [
      Runtime.layerMemory({ eventLog: wrap }),
      Runtime.layerMemory({ jobs: closed }),
      Runtime.layer({ eventLog: wrap }).pipe(Layer.provide(StoreMemory.layer()))
    ] as const
    return Effect.gen(function* () {
      const result = Effect.flatMap(connected, (client) =>
        Effect.flatMap(client.submit(Greet, "you"), (job) => job.result)
      )
      assert.strictEqual(yield* Effect.provide(result, served(runtimes[0])), "hello you")
      assert.include(appended, "log")
      const before = appended.length
      const refused = yield* Effect.provide(Effect.flip(result), served(runtimes[1]))
      assert.strictEqual(refused.message, "not on Sundays")
      assert.strictEqual(appended.length, before)
      yield* Effect.provide(result, served(runtimes[2]))
      assert.isAbove(appended.length, before)
    }).pipe(Effect.scoped)
  })

  it.scopedLive("a part fails as it says, and what is out of range as a ParseError", () =>
    Effect.gen(function* () {
      const failing = Layer.fail("no ids" as const)
      const needs = Layer.mergeAll(Registry.layer([]), Auth.layerDev)
      const exit = yield* Effect.exit(
        Layer.build(Runtime.layerMemory({ ids: Layer.merge(failing, numbered) }).pipe(Layer.provide(needs)))
      )
      assert.deepStrictEqual(exit, Exit.fail("no ids" as const))
      const range = yield* Effect.flip(
        Layer.build(Runtime.layerMemory({ options: { maxJobsPerSession: 0 } }).pipe(Layer.provide(needs)))
      )
      assert.strictEqual(range._tag, "ParseError")
    })
  )
})

describe("parts of a runtime for tests", () => {
  it.scopedLive("the same, and auth, store and registry", () => {
    const { appended, wrap } = counting()
    const commits = { times: 0 }
    const store = Layer.effect(
      Store,
      Effect.map(Store, (store) =>
        Store.of({
          ...store,
          commit: (batch) =>
            Effect.zipRight(
              Effect.sync(() => commits.times++),
              store.commit(batch)
            )
        })
      )
    ).pipe(Layer.provide(StoreMemory.layer()))
    return Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Greet, "you")
      assert.strictEqual(yield* job.result, "hello you")
      assert.match(job.jobId, /^job_0/)
      assert.isAbove(appended.length, 0)
      assert.isAbove(commits.times, 0)
      assert.strictEqual((yield* Effect.flip(TestRuntime.connect("somebody")))._tag, "Unauthenticated")
    }).pipe(
      Effect.provide(
        TestRuntime.layer({
          registry: Registry.layer([greet]),
          auth: Auth.layerStatic({ alice: "alice" }),
          client: { token: Redacted.make("alice"), name: undefined },
          store,
          eventLog: wrap,
          ids: numbered,
          secrets: known
        })
      )
    )
  })

  it.scopedLive("a store that fails is an error of the layer", () =>
    Effect.gen(function* () {
      const broken = Layer.effect(
        Store,
        Effect.map(Store, (store) => Store.of({ ...store, aliveAt: new StoreError({ message: "no disk" }) }))
      ).pipe(Layer.provide(StoreMemory.layer()))
      const error = yield* Effect.flip(Layer.build(TestRuntime.layer([greet], { store: broken })))
      assert.strictEqual(error.message, "no disk")
    })
  )
})
