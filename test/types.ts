/**
 * The types are part of the interface: `npm run check` fails when one of the lines below `@ts-expect-error` compiles,
 * or when another one does not. Nothing here is run.
 */
import { createServer } from "node:http"
import { createServer as createHttpsServer } from "node:https"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import type * as HttpServer from "@effect/platform/HttpServer"
import type * as SqlClient from "@effect/sql/SqlClient"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ParseError } from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { expectTypeOf } from "vitest"
import * as Registry from "../src/layers/agents/Registry.js"
import * as Auth from "../src/layers/auth/Auth.js"
import * as AuthPeer from "../src/layers/auth/AuthPeer.js"
import * as ArcpClient from "../src/layers/client/ArcpClient.js"
import * as EventLogLayer from "../src/layers/log/EventLog.js"
import * as Runtime from "../src/layers/runtime/Runtime.js"
import * as RuntimeOptions from "../src/layers/runtime/RuntimeOptions.js"
import * as StoreMemory from "../src/layers/store/StoreMemory.js"
import * as StoreSql from "../src/layers/store/StoreSql.js"
import * as TransportWebSocket from "../src/layers/transport/TransportWebSocket.js"
import { Arcp } from "../src/promise.js"
import * as PromiseNode from "../src/promise.node.js"
import type { ArcpError } from "../src/protocol/Errors.js"
import type { Body } from "../src/protocol/Event.js"
import * as Event from "../src/public/Event.js"
import * as Agent from "../src/services/agents/Agent.js"
import type { Registry as RegistryTag } from "../src/services/agents/Registry.js"
import { Auth as AuthTag } from "../src/services/auth/Auth.js"
import type { Policy } from "../src/services/auth/Policy.js"
import type { Credentials } from "../src/services/credentials/Credentials.js"
import { Job } from "../src/services/jobs/Job.js"
import { Lease } from "../src/services/lease/Lease.js"
import type { IdGenerator } from "../src/services/runtime/IdGenerator.js"
import type { RuntimeOptions as RuntimeOptionsTag } from "../src/services/runtime/RuntimeOptions.js"
import type { Store, StoreError } from "../src/services/store/Store.js"
import type { Dialer, TransportError, TransportServer } from "../src/services/transport/Transport.js"
import * as TestRuntime from "../src/testing/TestRuntime.js"

class TooLarge extends Data.TaggedError("TooLarge")<{ readonly files: number }> {}
const Review = Agent.make("review", {
  version: "1.0.0",
  input: Schema.Struct({ repository: Schema.String, since: Schema.optional(Schema.DateFromString) }),
  output: Schema.Struct({ findings: Schema.NumberFromString }),
  error: Schema.Union(
    Schema.TaggedStruct("TooLarge", { files: Schema.Number }),
    Schema.TaggedStruct("NotThere", { repository: Schema.String })
  )
})
type Result = { readonly findings: number }
type Failure =
  | { readonly _tag: "TooLarge"; readonly files: number }
  | { readonly _tag: "NotThere"; readonly repository: string }

class Reviewers extends Context.Tag("test/Reviewers")<
  Reviewers,
  { readonly review: (repository: string) => Effect.Effect<number> }
>() {}

// Submitting

export const submitting = Effect.gen(function* () {
  const client = yield* ArcpClient.ArcpClient

  const job = yield* client.submit(Review, { repository: ".", since: new Date() })
  expectTypeOf(job).toEqualTypeOf<ArcpClient.JobHandle<Result, Failure>>()
  // @ts-expect-error a field of the input is missing
  yield* client.submit(Review, {})
  // @ts-expect-error a field of the input has another type
  yield* client.submit(Review, { repository: 1 })
  // @ts-expect-error a field that the input does not have
  yield* client.submit(Review, { repository: ".", branch: "main" })
  // @ts-expect-error the input decoded, not as it goes over the wire
  yield* client.submit(Review, { repository: ".", since: "2026-01-31T00:00:00Z" })
  // @ts-expect-error a mistyped option
  yield* client.submit(Review, { repository: "." }, { idempotency_key: "k" })
  // @ts-expect-error submitScoped checks the input too
  yield* client.submitScoped(Review, { repository: 1 })

  const { findings } = yield* job.result
  expectTypeOf(findings).toEqualTypeOf<number>()
  // @ts-expect-error the result has no such field
  expectTypeOf((yield* job.result).errors)
  // @ts-expect-error the result decoded, not as it came over the wire
  const text: Effect.Effect<{ readonly findings: string }, unknown> = job.result

  const byName = yield* client.submit("review", { anything: true })
  expectTypeOf(byName).toEqualTypeOf<ArcpClient.JobHandle<unknown, never>>()
  // @ts-expect-error without a contract the result is not known
  expectTypeOf((yield* byName.result).findings)

  const watched = yield* client.subscribe(job.jobId, { contract: Review })
  expectTypeOf(watched.result).toEqualTypeOf<Effect.Effect<Result, Failure | ArcpClient.ClientError>>()
  const attached = yield* client.attach(job.jobId, { contract: Review })
  expectTypeOf(attached.result).toEqualTypeOf<Effect.Effect<Result, Failure | ArcpClient.ClientError>>()
  return text
})

// Failures

export const failures = (job: ArcpClient.JobHandle<Result, Failure>) => {
  expectTypeOf<Effect.Effect.Error<typeof job.result>>().toEqualTypeOf<Failure | ArcpClient.ClientError>()
  // @ts-expect-error nothing is handled
  const none: Effect.Effect<unknown, never> = job.result
  const declared = job.result.pipe(
    Effect.catchTags({
      TooLarge: ({ files }) => Effect.succeed(files),
      NotThere: ({ repository }) => Effect.succeed(repository)
    })
  )
  expectTypeOf<Effect.Effect.Error<typeof declared>>().toEqualTypeOf<ArcpClient.ClientError>()
  // @ts-expect-error the runtime's errors are left
  const half: Effect.Effect<unknown, never> = declared
  const all: Effect.Effect<unknown, never> = declared.pipe(Effect.catchAll(() => Effect.void))
  const cancelled = declared.pipe(
    Effect.catchTag("Cancelled", (error) => {
      expectTypeOf<typeof error.code>().toEqualTypeOf<"CANCELLED">()
      expectTypeOf(error.retryable).toEqualTypeOf<false>()
      return Effect.void
    })
  )
  expectTypeOf<Effect.Effect.Error<typeof cancelled>>().toEqualTypeOf<
    Exclude<ArcpClient.ClientError, { readonly _tag: "Cancelled" }>
  >()
  // @ts-expect-error it does not fail like this
  const unknown = job.result.pipe(Effect.catchTag("TooSmall", () => Effect.void))
  return [none, half, all, unknown]
}

// Requirements

export const requirements = (client: ArcpClient.ArcpClientService, job: ArcpClient.JobHandle) => {
  const made = ArcpClient.make({ token: Redacted.make("secret") })
  expectTypeOf<Effect.Effect.Context<typeof made>>().toEqualTypeOf<Dialer | Scope.Scope>()
  // @ts-expect-error a scope, and still no way to the runtime
  Effect.runFork(Effect.scoped(made))
  // @ts-expect-error the layer has no way to the runtime
  Layer.launch(ArcpClient.layer({ token: Redacted.make("secret") })).pipe(Effect.runFork)

  const submitted = client.submit(Review, { repository: "." })
  expectTypeOf<Effect.Effect.Context<typeof submitted>>().toEqualTypeOf<Scope.Scope>()
  // @ts-expect-error a handle lives in a scope
  Effect.runFork(submitted)
  Effect.runFork(Effect.scoped(submitted))

  const written = job.resultAsFile("result.json")
  expectTypeOf<Effect.Effect.Context<typeof written>>().toEqualTypeOf<FileSystem.FileSystem>()
  // @ts-expect-error there is no file system
  Effect.runFork(written)
}

// Agents

const reviewing = Agent.handle(Review, ({ repository }) =>
  Effect.gen(function* () {
    const reviewers = yield* Reviewers
    const job = yield* Job
    const lease = yield* Lease
    yield* lease.authorize("fs.read", repository)
    yield* job.progress({ current: 1 })
    return { findings: yield* reviewers.review(repository) }
  })
)
export const agents = () => {
  const registry = Registry.layer([reviewing])
  // Job, Lease and Scope come from the runtime; what else a handler requires is the layer's.
  expectTypeOf<Layer.Layer.Context<typeof registry>>().toEqualTypeOf<Reviewers>()
  const holding = Agent.handle(Review, () =>
    Effect.as(
      Effect.acquireRelease(Reviewers, () => Effect.void),
      { findings: 0 }
    )
  )
  expectTypeOf(holding).toEqualTypeOf<Agent.Registered<Reviewers>>()
  const alone = Agent.handle(Review, () =>
    Effect.as(
      Effect.addFinalizer(() => Effect.void),
      { findings: 0 }
    )
  )
  expectTypeOf(alone).toEqualTypeOf<Agent.Registered>()
  // @ts-expect-error the handler's service is missing
  const missing: Layer.Layer<RegistryTag, unknown> = registry
  const provided: Layer.Layer<RegistryTag, unknown> = registry.pipe(
    Layer.provide(Layer.succeed(Reviewers, { review: () => Effect.succeed(0) }))
  )
  // @ts-expect-error not the output of the contract
  Agent.handle(Review, () => Effect.succeed({ findings: "none" }))
  // What is wrong is the handler, so there is the message, and not at the contract with all that is in a schema.
  Agent.handle(
    Review,
    // @ts-expect-error the handler returns what is not the output of the contract
    () => Effect.succeed({ findings: "none" })
  )
  Agent.handle(
    Review,
    // @ts-expect-error the handler fails with what the contract does not declare
    () => Effect.fail({ _tag: "TooSmall" as const })
  )
  // @ts-expect-error a field that the input does not have
  Agent.handle(Review, ({ branch }) => Effect.succeed({ findings: branch }))
  // @ts-expect-error a failure that the contract does not declare
  Agent.handle(Review, () => Effect.fail({ _tag: "TooSmall" as const }))
  Agent.handle(Review, () => Effect.fail(new TooLarge({ files: 1 })))
  // @ts-expect-error a failure of a service is not declared either
  Agent.handle(Review, () => Effect.tryPromise(async () => ({ findings: 1 })))
  return [missing, provided]
}

// Events

export const events = (job: ArcpClient.JobHandle) =>
  Stream.runForEach(job.events, (event) => {
    expectTypeOf(event.eventSeq).toEqualTypeOf<number>()
    // @ts-expect-error a body is known by its kind only
    expectTypeOf(event.body.message)
    // @ts-expect-error there is no such kind
    if (event.kind === "logs") return Effect.void
    switch (event.kind) {
      case "log":
        expectTypeOf(event.body.message).toEqualTypeOf<string>()
        break
      case "progress":
        expectTypeOf(event.body).toEqualTypeOf<Body<"progress">>()
        // @ts-expect-error that is another kind's
        expectTypeOf(event.body.level)
        break
      case "gap":
        expectTypeOf(event.body.reason).toEqualTypeOf<"evicted" | "session_lost" | "unsubscribed">()
        break
      case "other":
        expectTypeOf(event.wireKind).toEqualTypeOf<string>()
        expectTypeOf(event.body).toEqualTypeOf<unknown>()
        break
      default:
        // @ts-expect-error only `other` has it
        expectTypeOf(event.wireKind)
    }
    return Effect.void
  })

// Typed events

const Step = Event.vendor("x-vendor.acme.step", Schema.Struct({ name: Schema.String, at: Schema.Date }))
const Score = Event.vendor("x-vendor.acme.score", Schema.NumberFromString)
const Build = Agent.make("build", { version: "1.0.0", events: [Step, Score] })
const emitting = (count: number) =>
  Effect.gen(function* () {
    const job = yield* Job
    yield* job.emit(Step, { name: "compile", at: new Date() })
    yield* job.emit(Score, count)
    // @ts-expect-error the value, not as it goes over the wire
    yield* job.emit(Score, "1")
    // @ts-expect-error a field is missing
    yield* job.emit(Step, { name: "compile" })
    yield* job.emit("x-vendor.acme.other", { anything: true })
  })
export const typedEvents = (client: ArcpClient.ArcpClientService) =>
  Effect.gen(function* () {
    const declared = Agent.handle(Build, () => Effect.orDie(emitting(1)))
    expectTypeOf(declared).toEqualTypeOf<Agent.Registered<never>>()
    const Scored = Agent.make("scored", { version: "1.0.0", events: [Score] })
    Agent.handle(Scored, () => Effect.flatMap(Job, (job) => Effect.orDie(job.emit(Score, 1))))
    // @ts-expect-error it emits steps, which its contract does not declare
    Agent.handle(Scored, () => Effect.orDie(emitting(1)))
    // A contract that says nothing of events takes any.
    Agent.handle(Agent.make("any", { version: "1.0.0" }), () => Effect.orDie(emitting(1)))
    // @ts-expect-error nothing declares what is emitted outside a handler
    const outside: Effect.Effect<void, unknown, Job> = emitting(1)

    const job = yield* client.submit(Build, {})
    expectTypeOf(job.of(Step)).toEqualTypeOf<
      Stream.Stream<{ readonly name: string; readonly at: Date }, ArcpClient.ClientError>
    >()
    expectTypeOf(job.of(Score)).toEqualTypeOf<Stream.Stream<number, ArcpClient.ClientError>>()
    const scored = yield* client.submit(Scored, {})
    // @ts-expect-error not an event of its contract
    scored.of(Step)
    expectTypeOf((yield* client.subscribe(job.jobId, { contract: Scored })).of(Score)).toEqualTypeOf<
      Stream.Stream<number, ArcpClient.ClientError>
    >()
    // @ts-expect-error not an event of its contract
    ;(yield* client.attach(job.jobId, { contract: Scored })).of(Step)
    // Without a contract, whoever reads knows what to look for.
    expectTypeOf((yield* client.submit("scored", {})).of(Score)).toEqualTypeOf<
      Stream.Stream<number, ArcpClient.ClientError>
    >()
    const any: ArcpClient.JobHandle = scored
    // @ts-expect-error not a kind of a vendor
    Event.vendor("step", Schema.String)
    return [any, outside]
  })
Agent.fromPromise("scored", { version: "1.0.0", events: [Score] }, async (_, job) => {
  await job.emit(Score, 1)
  await job.emit("x-vendor.acme.other", {})
  // @ts-expect-error not a value of the event
  await job.emit(Score, "1")
  // @ts-expect-error not declared
  await job.emit(Step, { name: "compile", at: new Date() })
})
export const typedEventsWithPromises = async (arcp: Arcp) => {
  const job = await arcp.submit(Build, {})
  expectTypeOf(job.of(Score)).toEqualTypeOf<AsyncIterable<number>>()
  const scored = await arcp.submit(Agent.make("scored", { version: "1.0.0", events: [Score] }), {})
  // @ts-expect-error not an event of its contract
  scored.of(Step)
}

// Delegating

export const delegating = Effect.gen(function* () {
  const job = yield* Job
  const child = yield* job.delegate(Review, { repository: "." })
  expectTypeOf(child.await).toEqualTypeOf<Effect.Effect<Result, Failure | ArcpError>>()
  // @ts-expect-error a field of the input has another type
  yield* job.delegate(Review, { repository: 1 })
  const byName = yield* job.delegate("review", { anything: true })
  expectTypeOf(byName.await).toEqualTypeOf<Effect.Effect<unknown, ArcpError>>()
  // @ts-expect-error a child's failures are not handled by themselves
  const unhandled: Effect.Effect<Result> = child.await
  // @ts-expect-error a body of another shape than its kind has
  yield* job.progress({ current: "1" })
  // @ts-expect-error a vendor's kinds begin with x-vendor.
  yield* job.emit("mine", {})
  return unhandled
})

// Doors: endpoints in other servers, and who comes in

export const doors = (path: string | undefined) => {
  const server = createServer()
  const onNode = TransportWebSocket.mount({ path: "/arcp", server })
  expectTypeOf(onNode).toEqualTypeOf<Layer.Layer<TransportServer, TransportError, RuntimeOptionsTag>>()
  expectTypeOf(TransportWebSocket.mount({ server: createHttpsServer() })).toEqualTypeOf<typeof onNode>()
  // The platform's routers as they are.
  const onRouter = TransportWebSocket.mount({ path: "/arcp", server: HttpApiBuilder.Router })
  expectTypeOf(onRouter).toEqualTypeOf<
    Layer.Layer<TransportServer, never, RuntimeOptionsTag | HttpServer.HttpServer>
  >()
  const onLayerRouter = TransportWebSocket.mount({ path: "/arcp", server: HttpLayerRouter.HttpRouter })
  expectTypeOf(onLayerRouter).toEqualTypeOf<
    Layer.Layer<
      TransportServer,
      never,
      RuntimeOptionsTag | HttpServer.HttpServer | HttpLayerRouter.HttpRouter
    >
  >()
  TransportWebSocket.mount({ path: undefined, allowedOrigins: undefined, server })
  // @ts-expect-error a path begins with a slash
  TransportWebSocket.mount({ path, server })
  // @ts-expect-error that is no server
  TransportWebSocket.mount({ server: {} })

  const judge: AuthPeer.PeerJudge = (peer) => {
    expectTypeOf(peer.headers?.cookie).toEqualTypeOf<ReadonlyArray<Redacted.Redacted> | undefined>()
    return Effect.map(AuthPeer.cookie(peer, "session"), (cookie) => ({ principal: Redacted.value(cookie) }))
  }
  expectTypeOf(Auth.layerDev.pipe(AuthPeer.withPeer(judge))).toEqualTypeOf<Layer.Layer<AuthTag>>()
  expectTypeOf(Layer.succeed(AuthTag, AuthPeer.fromPeer(judge))).toEqualTypeOf<Layer.Layer<AuthTag>>()
  // @ts-expect-error an identity has a principal
  AuthPeer.fromPeer(() => Effect.succeed({}))
  // @ts-expect-error whoever knows the token only says so
  Layer.succeed(AuthTag, { verify: () => Effect.succeed({ principal: "alice" }) })

  expectTypeOf(StoreSql.layer({ prefix: undefined })).toEqualTypeOf<
    Layer.Layer<Store, StoreError, SqlClient.SqlClient>
  >()
  expectTypeOf(StoreSql.migrate()).toEqualTypeOf<Effect.Effect<void, StoreError, SqlClient.SqlClient>>()
}

// Without Effect

export const promises = async (arcp: Arcp) => {
  const { signal } = new AbortController()
  const job = await arcp.submit(Review, { repository: "." }, { signal })
  expectTypeOf(job.result).toEqualTypeOf<Promise<Result>>()
  // @ts-expect-error a field of the input is missing
  await arcp.submit(Review, {}, { signal })
  expectTypeOf((await arcp.submit("review", {})).result).toEqualTypeOf<Promise<unknown>>()
  for await (const event of job.events)
    if (event.kind === "log") expectTypeOf(event.body.message).toEqualTypeOf<string>()
  expectTypeOf((await arcp.subscribe(job.jobId, { contract: Review })).result).toEqualTypeOf<
    Promise<Result>
  >()
  // Without a token, the page's cookie says who it is.
  await Arcp.connect({ url: "wss://example.com/arcp" })
  // @ts-expect-error a way to the runtime is needed
  await Arcp.connect({ token: "secret" })
  // Node gets the other one's declarations: they have to be the same.
  expectTypeOf(PromiseNode.Arcp.connect).parameters.toEqualTypeOf<Parameters<typeof Arcp.connect>>()
  expectTypeOf<keyof PromiseNode.Arcp>().toEqualTypeOf<keyof Arcp>()
}

// What a promise agent is given is what its schema decodes, and what it returns is what its schema encodes.
const Wait = Schema.Struct({ until: Schema.Date })
Agent.fromPromise("wait", { version: "1.0.0", input: Wait }, async ({ until }) => {
  expectTypeOf(until).toEqualTypeOf<Date>()
})
Agent.fromPromise("one", { version: "1.0.0", output: Schema.Number }, async () => 1)
Agent.fromPromise("one", { version: "1.0.0", output: Schema.NumberFromString }, (input) => {
  expectTypeOf(input).toEqualTypeOf<unknown>()
  return 1
})
Agent.fromPromise(
  "both",
  {
    version: "1.0.0",
    input: Wait,
    output: Schema.Struct({ at: Schema.Date, of: Schema.Array(Schema.String) }),
    error: Schema.TaggedStruct("TooLate", { until: Schema.Date }),
    events: [Score],
    examples: [{ until: "2026-01-31T00:00:00Z" }],
    durable: undefined
  },
  async ({ until }: { readonly until: Date }, job) => {
    await job.emit(Score, 1)
    // @ts-expect-error not declared
    await job.emit(Step, { name: "compile", at: until })
    return { at: until, of: ["a"] }
  }
)
// A contract that clients share.
Agent.fromPromise(Review, async ({ repository }, job) => {
  await job.authorize("fs.read", repository)
  return { findings: 1 }
})
Agent.fromPromise(Build, async (_, job) => job.emit(Score, 1))
Agent.fromPromise(Agent.make("scored", { version: "1.0.0", events: [Score] }), async (_, job) => {
  // @ts-expect-error not declared
  await job.emit(Step, { name: "compile", at: new Date() })
})
Agent.fromPromise(
  Review,
  // @ts-expect-error not the output of the contract
  async () => ({ findings: "none" })
)
// @ts-expect-error a contract has its options
Agent.fromPromise(Review, { version: "1.0.0" }, async () => ({ findings: 1 }))
// Without a schema the function says what it takes, and nobody checks.
Agent.fromPromise("hosts", { version: "1.0.0" }, async (hosts: ReadonlyArray<string>) => hosts.length)
// @ts-expect-error the schema gives another type than the function takes
Agent.fromPromise("hosts", { version: "1.0.0", input: Schema.Number }, async (hosts: string) => hosts)
// @ts-expect-error an example is as it goes over the wire
Agent.fromPromise("wait", { version: "1.0.0", input: Wait, examples: [{ until: new Date() }] }, () => 1)
Agent.fromPromise(
  "one",
  { version: "1.0.0", output: Schema.NumberFromString },
  // @ts-expect-error not what its schema encodes, but the encoded
  async () => "1"
)
Agent.fromPromise(
  "at",
  { version: "1.0.0", output: Schema.Struct({ at: Schema.Date }) },
  // @ts-expect-error a field is missing
  () => ({})
)

// Putting a runtime together

class NoPlans extends Data.TaggedError("NoPlans") {}
class NoLedger extends Data.TaggedError("NoLedger") {}
class Plans extends Context.Tag("test/Plans")<Plans, object>() {}
class Ledger extends Context.Tag("test/Ledger")<Ledger, object>() {}

type OwnNeeds = AuthTag | RegistryTag
type Of<L> = L extends Layer.Layer<infer A, infer E, infer R> ? [A, E, R] : never

export const runtimes = (
  policy: Layer.Layer<Policy, NoPlans, Plans>,
  credentials: Layer.Layer<Credentials, NoLedger, Ledger | IdGenerator>,
  ids: Layer.Layer<IdGenerator>,
  ofTheWrongKind: Layer.Layer<Policy>
) => {
  const plain = Runtime.layerMemory()
  expectTypeOf<Of<typeof plain>>().toEqualTypeOf<[Runtime.Services | Store, never, OwnNeeds]>()
  const limited = Runtime.layerMemory({ options: { cancelGrace: "1 second" } })
  expectTypeOf<Of<typeof limited>[1]>().toEqualTypeOf<ParseError>()
  const configured = Runtime.layerMemory({ options: RuntimeOptions.layerConfig(), ids, secrets: undefined })
  expectTypeOf<Of<typeof configured>[1]>().toEqualTypeOf<ConfigError>()

  // Each part has errors and requirements of its own; what the runtime has, it gives to them.
  const both = Runtime.layer({ policy, credentials })
  expectTypeOf<Of<typeof both>>().toEqualTypeOf<
    [Runtime.Services, Runtime.StartError | NoPlans | NoLedger, OwnNeeds | Store | Plans | Ledger]
  >()
  const wrapped = Runtime.layerMemory({
    jobs: (base) => {
      expectTypeOf(base).toEqualTypeOf<Runtime.JobsLayer<never>>()
      return Layer.merge(base, Layer.effectDiscard(Plans))
    }
  })
  expectTypeOf<Of<typeof wrapped>>().toEqualTypeOf<[Runtime.Services | Store, never, OwnNeeds | Plans]>()

  // @ts-expect-error there is no such part
  Runtime.layerMemory({ polices: policy })
  // @ts-expect-error there is no such option
  Runtime.layerMemory({ options: { cancelGrace: "1 second", cancelGraze: "1 second" } })
  // @ts-expect-error these are ids, and not a policy
  Runtime.layerMemory({ policy: ids })
  // @ts-expect-error a policy is not a layer of options
  Runtime.layerMemory({ options: ofTheWrongKind })
  // @ts-expect-error the log is wrapped, by a function
  Runtime.layerMemory({ eventLog: EventLogLayer.layer() })
  // @ts-expect-error a wrapper of the log gives a log
  Runtime.layerMemory({ eventLog: () => ids })
  // @ts-expect-error a constructor is called
  Layer.provide(plain, StoreMemory.layer)

  const nothing = Registry.layer([])
  expectTypeOf<Of<typeof nothing>[2]>().toEqualTypeOf<never>()
  return [both, limited, configured, wrapped]
}

export const runtimesForTests = (
  auth: Layer.Layer<AuthTag, NoPlans, Plans>,
  store: Layer.Layer<Store, never, Ledger>
) => {
  const plain = TestRuntime.layer([reviewing])
  expectTypeOf<Of<typeof plain>>().toEqualTypeOf<[TestRuntime.Services, never, Reviewers]>()
  const swapped = TestRuntime.layer([reviewing], { auth, store, options: { cancelGrace: 0 } })
  expectTypeOf<Of<typeof swapped>>().toEqualTypeOf<
    [TestRuntime.Services, Runtime.StartError | NoPlans, Reviewers | Plans | Ledger]
  >()
  const registry = Registry.layer([reviewing])
  const asHosted = TestRuntime.layer({ registry })
  expectTypeOf<Of<typeof asHosted>>().toEqualTypeOf<
    [TestRuntime.Services, Registry.AgentRegistrationError, Reviewers]
  >()
  // @ts-expect-error agents or a registry
  TestRuntime.layer([reviewing], { registry })
  // @ts-expect-error who may connect is said once
  TestRuntime.layer([], { auth, identities: { secret: "me" } })
  // @ts-expect-error a ceiling that is misspelt would be none
  TestRuntime.layer([], { identities: { secret: { principal: "me", leaseCeilling: {} } } })
  // @ts-expect-error there is no such option of a client
  TestRuntime.layer([], { client: { tokens: undefined } })
  return [plain, swapped, asHosted]
}

// Options may be passed on when they may be undefined.

export const passedOn = (
  client: ArcpClient.ArcpClientService,
  key: string | undefined,
  options: Partial<ArcpClient.SubmitOptions>
) => [
  client.submit("review", {}, { ...options, idempotencyKey: key, leaseRequest: undefined }),
  client.subscribe("job", { contract: undefined, history: undefined, fromEventSeq: undefined }),
  ArcpClient.make({ token: Redacted.make("secret"), name: key, ack: { events: undefined } })
]

// A step gives what its schema says, which the effect may give more exactly.

export const steps = (job: Job["Type"], files: Effect.Effect<Array<string>>) => {
  const listed = job.step("list", files, {
    output: Schema.Array(Schema.String),
    compensate: (output) => {
      expectTypeOf(output).toEqualTypeOf<ReadonlyArray<string>>()
      return Effect.void
    }
  })
  expectTypeOf<Effect.Effect.Success<typeof listed>>().toEqualTypeOf<ReadonlyArray<string>>()
  const plain = job.step("plain", files, {
    compensate: (output) => {
      expectTypeOf(output).toEqualTypeOf<Array<string>>()
      return Effect.void
    }
  })
  expectTypeOf<Effect.Effect.Success<typeof plain>>().toEqualTypeOf<Array<string>>()
  // @ts-expect-error a schema of something else
  const other = job.step("other", files, { output: Schema.Number })
  return [listed, plain, other]
}
