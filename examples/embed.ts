// The runtime inside an application that has an HTTP API of its own: one endpoint starts a job, one streams its events
// to a browser (server-sent events), and ARCP clients connect next to them. On SQLite.
//
//   npm run example embed            # asks itself, and ends
//   npm run example embed -- --serve    # serves until Ctrl-C

import { createServer } from "node:http"
import {
  FileSystem,
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApiSchema,
  HttpServer,
  HttpServerResponse
} from "@effect/platform"
import { NodeFileSystem, NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Redacted, Schema, Stream } from "effect"
import { Agent, ArcpClient, Auth, Job, Registry, Runtime, Transport, TransportMemory } from "effect-arcp"
import { DialerWebSocket, RuntimeSqlite, TransportWebSocket } from "effect-arcp/node"

const Count = Agent.make("count", { version: "1.0.0", input: Schema.Int, output: Schema.Int })

const count = Agent.handle(Count, (to) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    for (let current = 1; current <= to; current++) {
      yield* job.progress({ current, total: to })
      yield* Effect.sleep("50 millis")
    }
    return to
  })
)

// The application's own API.
const Api = HttpApi.make("application").add(
  HttpApiGroup.make("jobs")
    .add(
      HttpApiEndpoint.post("start", "/jobs")
        .setPayload(Schema.Struct({ to: Schema.Int.pipe(Schema.between(1, 1000)) }))
        .addSuccess(Schema.Struct({ jobId: Schema.String }), { status: 202 })
    )
    .add(
      HttpApiEndpoint.get("events", "/jobs/:jobId/events")
        .setPath(Schema.Struct({ jobId: Schema.String }))
        .addSuccess(HttpApiSchema.Text({ contentType: "text/event-stream" }))
    )
)

const token = Redacted.make("secret")

/** One server-sent event. */
const sse = (event: string, data: unknown) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`

/** A job from its first event to its end, as whoever asks may see it. Each reader has a session of its own. */
const eventsOf = (jobId: string) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.make({ token })
    const job = yield* client.subscribe(jobId, { contract: Count, history: true })
    const result = Effect.match(job.result, {
      onSuccess: (value) => sse("result", value),
      onFailure: (error) => sse("error", error.message)
    })
    return job.events.pipe(
      Stream.map(({ body, kind }) => sse(kind, body)),
      Stream.concat(Stream.fromEffect(result))
    )
  }).pipe(
    Stream.unwrapScoped,
    Stream.catchAll((error) => Stream.make(sse("error", error.message))),
    Stream.encodeText
  )

const Jobs = HttpApiBuilder.group(Api, "jobs", (handlers) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.ArcpClient
    const dialer = yield* Transport.Dialer
    // The handle on the job goes with its scope; the job goes on.
    const start = (to: number) =>
      Effect.scoped(Effect.map(client.submit(Count, to), ({ jobId }) => ({ jobId })))
    const events = (jobId: string) => Stream.provideService(eventsOf(jobId), Transport.Dialer, dialer)
    return handlers
      .handle("start", ({ payload }) => Effect.orDie(start(payload.to)))
      .handleRaw("events", ({ path }) =>
        HttpServerResponse.stream(events(path.jobId), { contentType: "text/event-stream" })
      )
  })
)

// ARCP on the same server, for clients elsewhere.
const webSocket = TransportWebSocket.mount({ path: "/arcp", server: HttpApiBuilder.Router })

// The application itself reaches the runtime without a socket: the same runtime, served a second time.
const inProcess = Runtime.serve().pipe(Layer.provideMerge(TransportMemory.layer()))

const application = (filename: string) =>
  HttpApiBuilder.serve().pipe(
    Layer.provide(HttpApiBuilder.api(Api).pipe(Layer.provide(Jobs))),
    Layer.provide(ArcpClient.layer({ token })),
    Layer.provide(inProcess),
    Layer.provide(Runtime.serve()),
    Layer.provide(webSocket),
    Layer.provideMerge(NodeHttpServer.layer(() => TransportWebSocket.protect(createServer()), { port: 0 })),
    Layer.provide(RuntimeSqlite.layer({ filename })),
    Layer.provide(Registry.layer([count])),
    Layer.provide(Auth.layerStatic({ secret: "me" }))
  )

/** What a browser would do, and an ARCP client. */
const visit = Effect.gen(function* () {
  const { address } = yield* HttpServer.HttpServer
  if (address._tag !== "TcpAddress") return yield* Effect.dieMessage("it listens on a port")
  const url = `http://127.0.0.1:${address.port}`
  const { jobId } = yield* Effect.promise(async () => {
    const started = await fetch(`${url}/jobs`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ to: 5 })
    })
    console.log(`POST /jobs → ${started.status}`)
    return started.json()
  })
  const events = yield* Effect.promise(async () => (await fetch(`${url}/jobs/${jobId}/events`)).text())
  console.log(events.trim().replaceAll("\n\n", "\n"))

  const client = yield* ArcpClient.make({ token }).pipe(
    Effect.provide(DialerWebSocket.layer({ url: `ws://127.0.0.1:${address.port}/arcp` }))
  )
  const job = yield* client.submit(Count, 3)
  console.log(`over /arcp: ${yield* job.result}`)
})

const main = Effect.gen(function* () {
  const files = yield* FileSystem.FileSystem
  const layer = application(`${yield* files.makeTempDirectoryScoped()}/jobs.db`)
  if (process.argv.includes("--serve")) yield* Layer.launch(HttpServer.withLogAddress(layer))
  else yield* Effect.provide(visit, layer)
})

NodeRuntime.runMain(Effect.scoped(main).pipe(Effect.provide(NodeFileSystem.layer)))
