import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as root from "../../../src/index.js"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as RuntimeSqlite from "../../../src/layers/runtime/RuntimeSqlite.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import * as DialerWebSocket from "../../../src/layers/transport/DialerWebSocket.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import * as node from "../../../src/node.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import type { Registry as RegistryTag } from "../../../src/services/agents/Registry.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Jobs } from "../../../src/services/jobs/Jobs.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { Store } from "../../../src/services/store/Store.js"
import { Dialer } from "../../../src/services/transport/Transport.js"
import * as testing from "../../../src/testing.js"

/** What the application has, beside its runtimes. */
class Database extends Context.Tag("test/Database")<Database, string>() {}

/** A layer that counts how often it is built. */
const counted = <I, S>(tag: Context.Tag<I, S>, service: S) => {
  const built = { times: 0 }
  const layer = Layer.scoped(
    tag,
    Effect.sync(() => {
      built.times++
      return service
    })
  )
  return { built, layer }
}

const whose = (name: string) =>
  Agent.handle(
    Agent.make(name, { version: "1.0.0", output: Schema.String }),
    Effect.fn(function* () {
      const { principal } = yield* Job
      return `${name} for ${principal} on ${yield* Database}`
    })
  )

const clientOf = (url: string, token: string) =>
  ArcpClient.make({ token: Redacted.make(token) }).pipe(Effect.provide(DialerWebSocket.layer({ url })))

const resultOf = (client: ArcpClient.ArcpClientService, agent: string) =>
  Effect.flatMap(client.submit(agent, null), (job) => job.result)

class Router extends HttpRouter.Tag("test/Router")<Router>() {}

/** A path of the application's server, with a runtime of its own after it. */
const tenant = <E, R>(
  path: `/${string}`,
  runtime: Layer.Layer<Runtime.Services, E, R>,
  agent: Agent.Registered<Database>,
  token: string
) =>
  Runtime.serve().pipe(
    Layer.provide(TransportWebSocket.mount({ path, server: Router })),
    Layer.provide(runtime),
    Layer.provide(Registry.layer([agent])),
    Layer.provide(Auth.layerStatic({ [token]: token }))
  )

/** Two runtimes in one graph: on one server and one database, each with agents and principals of its own. */
const application = <E, R>(
  one: Layer.Layer<Runtime.Services, E, R>,
  two: Layer.Layer<Runtime.Services, E, R>
) => {
  const database = counted(Database, "the database")
  const layer = Router.unwrap(HttpServer.serve()).pipe(
    Layer.provide(
      Layer.merge(
        tenant("/public", one, whose("open"), "stranger"),
        tenant("/internal", two, whose("secret"), "insider")
      )
    ),
    Layer.provide(Router.Live),
    Layer.provide(database.layer),
    Layer.provideMerge(
      NodeHttpServer.layer(() => TransportWebSocket.protect(createServer()), { port: 0, host: "127.0.0.1" })
    )
  )
  return { database, layer }
}

const addressOf = Effect.map(HttpServer.HttpServer, ({ address }) =>
  address._tag === "TcpAddress" ? `ws://127.0.0.1:${address.port}` : "unix"
)

/** Both serve, and neither knows whom the other one knows. */
const apart = Effect.gen(function* () {
  const address = yield* addressOf
  const stranger = yield* clientOf(`${address}/public`, "stranger")
  const insider = yield* clientOf(`${address}/internal`, "insider")
  assert.strictEqual(yield* resultOf(stranger, "open"), "open for stranger on the database")
  assert.strictEqual(yield* resultOf(insider, "secret"), "secret for insider on the database")
  for (const [path, token] of [
    ["/public", "insider"],
    ["/internal", "stranger"]
  ] as const)
    assert.strictEqual(
      (yield* Effect.flip(clientOf(`${address}${path}`, token)))._tag,
      "Unauthenticated",
      `${token} at ${path}`
    )
  assert.strictEqual((yield* Effect.flip(stranger.submit("secret", null)))._tag, "AgentNotAvailable")
  assert.strictEqual((yield* Effect.flip(insider.submit("open", null)))._tag, "AgentNotAvailable")
})

const agentsIn = (filename: string) =>
  Effect.flatMap(Store, (store) => store.jobs({ principals: "everyone", limit: 10 })).pipe(
    Effect.map((jobs) => jobs.map(({ agent }) => agent)),
    Effect.provide(StoreSqlite.layerReadOnly({ filename }))
  )

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-two-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

describe("two runtimes in one graph", () => {
  it.scopedLive(
    "in memory: their paths, agents and principals are their own, the application's layers shared",
    () =>
      Effect.gen(function* () {
        const { database, layer } = application(Runtime.layerMemory(), Runtime.layerMemory())
        yield* Effect.provide(apart, layer)
        assert.strictEqual(database.built.times, 1)
      })
  )

  it.scopedLive("on two SQLite files: the jobs of each are in its own", () =>
    Effect.gen(function* () {
      const path = yield* directory
      const one = join(path, "public.db")
      const two = join(path, "internal.db")
      const { layer } = application(
        RuntimeSqlite.layer({ filename: one }),
        RuntimeSqlite.layer({ filename: two })
      )
      yield* Effect.provide(Effect.scoped(apart), layer)
      assert.deepStrictEqual(yield* agentsIn(one), ["open@1.0.0"])
      assert.deepStrictEqual(yield* agentsIn(two), ["secret@1.0.0"])
    })
  )

  it.scopedLive("in memory both, reached without a socket", () => {
    const inProcess = (agent: string, token: string) =>
      Layer.effect(Dialer, Dialer).pipe(
        Layer.merge(Runtime.serve()),
        Layer.provide(TransportMemory.layer()),
        Layer.provide(Runtime.layerMemory()),
        Layer.provide(Registry.layer([whose(agent)])),
        Layer.provide(Auth.layerStatic({ [token]: token }))
      )
    class One extends Context.Tag("test/One")<One, Dialer["Type"]>() {}
    class Two extends Context.Tag("test/Two")<Two, Dialer["Type"]>() {}
    const both = Layer.merge(
      Layer.project(inProcess("open", "stranger"), Dialer, One, (dialer) => dialer),
      Layer.project(inProcess("secret", "insider"), Dialer, Two, (dialer) => dialer)
    ).pipe(Layer.provide(Layer.succeed(Database, "none")))
    return Effect.gen(function* () {
      const connect = (dialer: Dialer["Type"], token: string) =>
        Effect.provideService(ArcpClient.make({ token: Redacted.make(token) }), Dialer, dialer)
      const [one, two] = [yield* One, yield* Two]
      assert.strictEqual((yield* Effect.flip(connect(one, "insider")))._tag, "Unauthenticated")
      assert.strictEqual(
        yield* resultOf(yield* connect(one, "stranger"), "open"),
        "open for stranger on none"
      )
      assert.strictEqual(
        yield* resultOf(yield* connect(two, "insider"), "secret"),
        "secret for insider on none"
      )
    }).pipe(Effect.provide(both))
  })

  it.scopedLive("two runtimes for tests are two", () => {
    class One extends Context.Tag("test/One")<One, ArcpClient.ArcpClientService>() {}
    class Two extends Context.Tag("test/Two")<Two, ArcpClient.ArcpClientService>() {}
    const own = <I>(tag: Context.Tag<I, ArcpClient.ArcpClientService>, agent: string) =>
      Layer.project(testing.TestRuntime.layer([whose(agent)]), ArcpClient.ArcpClient, tag, (client) => client)
    return Effect.gen(function* () {
      const [one, two] = [yield* One, yield* Two]
      assert.strictEqual(yield* resultOf(one, "open"), "open for test on none")
      assert.strictEqual(yield* resultOf(two, "secret"), "secret for test on none")
    }).pipe(
      Effect.provide(
        Layer.merge(own(One, "open"), own(Two, "secret")).pipe(Layer.provide(Layer.succeed(Database, "none")))
      )
    )
  })
})

describe("one runtime", () => {
  const needs = Layer.mergeAll(Registry.layer([]), Auth.layerDev)

  it.scopedLive("that is provided and merged is one, and each of its parts is built once", () => {
    const policy = counted(Policy, Policy.of({} as Policy["Type"]))
    const jobs = { times: 0 }
    const runtime = Runtime.layerMemory({
      // Effect builds a fresh layer at every mention; a runtime mentions its parts once.
      policy: Layer.fresh(policy.layer),
      jobs: (base) =>
        Layer.fresh(
          Layer.tap(base, () =>
            Effect.sync(() => {
              jobs.times++
            })
          )
        )
    })
    const server = Runtime.serve().pipe(
      Layer.provide(TransportMemory.layer()),
      Layer.provide(runtime),
      Layer.merge(runtime),
      Layer.provideMerge(runtime),
      Layer.provide(needs)
    )
    return Effect.gen(function* () {
      yield* Layer.build(server)
      assert.strictEqual(policy.built.times, 1)
      assert.strictEqual(jobs.times, 1)
    })
  })

  it.scopedLive("that two transports serve is one", () => {
    const inProcess = TransportMemory.layer()
    const runtime = Runtime.layerMemory()
    const server = Layer.merge(
      Runtime.serve().pipe(Layer.provide(TransportWebSocket.layer({ port: 0 }))),
      Runtime.serve().pipe(Layer.provide(inProcess))
    ).pipe(Layer.provideMerge(inProcess), Layer.provideMerge(runtime), Layer.provide(needs))
    return Effect.gen(function* () {
      const context = yield* Layer.build(server)
      const client = yield* Effect.provide(ArcpClient.make({ token: Redacted.make("any") }), context)
      assert.deepStrictEqual(yield* client.agents, [])
    })
  })

  it.scopedLive("is another one at another call, and in another build", () =>
    Effect.gen(function* () {
      const built = (layer: Layer.Layer<Runtime.Services, unknown, RegistryTag | Auth.Auth>) =>
        Effect.map(Layer.build(Layer.provide(layer, needs)), Context.get(Sessions))
      const runtime = Runtime.layerMemory()
      assert.notStrictEqual(yield* built(runtime), yield* built(runtime))
      const memoMap = yield* Layer.makeMemoMap
      const scope = yield* Effect.scope
      const inOneGraph = (layer: Layer.Layer<Runtime.Services, unknown, RegistryTag | Auth.Auth>) =>
        Layer.buildWithMemoMap(layer, memoMap, scope).pipe(
          Effect.map(Context.get(Jobs)),
          Effect.provide(needs)
        )
      assert.strictEqual(yield* inOneGraph(runtime), yield* inOneGraph(runtime))
      assert.notStrictEqual(yield* inOneGraph(runtime), yield* inOneGraph(Runtime.layerMemory()))
    })
  )
})

/** Layers that are values: they hold nothing, read nothing and need nothing, so that sharing them cannot be noticed. */
const constants = [
  "Admission.layerAdmitAll",
  "Auth.layerDev",
  "Credentials.layerNone",
  "Hooks.layerNone",
  "Policy.layerSamePrincipal",
  "Secrets.layer"
]

it("every other layer of the package is made by a call", () => {
  const values = Object.entries({ ...root, ...node, ...testing } as Record<string, Record<string, unknown>>)
  const found = values.flatMap(([module, names]) =>
    Object.entries(names).flatMap(([name, value]) => (Layer.isLayer(value) ? [`${module}.${name}`] : []))
  )
  assert.deepStrictEqual(found.sort(), constants)
})
