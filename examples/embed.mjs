// The runtime inside an application that has an HTTP server of its own, on SQLite.
//
//   node examples/embed.mjs

import { createServer } from "node:http"
import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { Agent, Auth, Registry, Runtime } from "effect-arcp"
import { RuntimeSqlite, TransportWebSocket } from "effect-arcp/node"

const echo = Agent.fromPromise("echo", { version: "1.0.0" }, async (input) => input)

const routes = HttpRouter.empty.pipe(
  HttpRouter.get("/", HttpServerResponse.text("an ordinary page\n")),
  HttpRouter.get("/arcp", TransportWebSocket.route)
)

const application = Layer.merge(HttpServer.serve(routes), Runtime.serve).pipe(
  Layer.provide(TransportWebSocket.layerMounted({ path: "/arcp" })),
  Layer.provide(NodeHttpServer.layer(() => TransportWebSocket.protect(createServer()), { port: 0 })),
  Layer.provide(RuntimeSqlite.layer({ filename: ".arcp/embedded.db" })),
  Layer.provide(Registry.layer([echo])),
  Layer.provide(Auth.layerStatic({ secret: "me" }))
)

// With an argument, as CI runs it, it starts and stops; else it serves until Ctrl-C.
const main = process.argv.includes("--once")
  ? Effect.scoped(Effect.zipRight(Layer.build(application), Effect.logInfo("served")))
  : Layer.launch(application)

NodeRuntime.runMain(main)
