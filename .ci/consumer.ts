// What an application's strict compiler makes of the packed package: compiled by pack-and-import.sh, with the options of
// the strictest and the declarations of every library checked.
import { createServer } from "node:http"
import { HttpLayerRouter } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer, Redacted, Schema } from "effect"
import { Agent, ArcpClient, Auth, EventLog, Policy, Registry, Runtime, RuntimeOptions } from "effect-arcp"
import { AuthJwt } from "effect-arcp/jwt"
import { RuntimeSqlite, TransportWebSocket } from "effect-arcp/node"
import { Arcp } from "effect-arcp/promise"
import { TestRuntime } from "effect-arcp/testing"

export const Greet = Agent.make("greet", { version: "1.0.0", input: Schema.String, output: Schema.String })
export const greet = Agent.handle(Greet, (name) => Effect.succeed(`Hello, ${name}`))

export const tenant = <E>(path: `/${string}`, filename: string, auth: Layer.Layer<Auth.Auth, E>) =>
  Runtime.serve().pipe(
    Layer.provide(TransportWebSocket.mount({ path, server: HttpLayerRouter.HttpRouter })),
    Layer.provide(
      RuntimeSqlite.layer(
        { filename },
        {
          options: RuntimeOptions.layerConfig(),
          policy: Policy.layer({ operators: ["ops"], cancel: undefined }),
          eventLog: (base) =>
            Layer.effect(
              EventLog.EventLog,
              Effect.map(EventLog.EventLog, (log) => EventLog.EventLog.of({ ...log }))
            ).pipe(Layer.provide(base))
        }
      )
    ),
    Layer.provide(Registry.layer([greet])),
    Layer.provide(auth)
  )

/** Nothing is left to provide. */
export const server: Layer.Layer<never, unknown> = HttpLayerRouter.serve(
  Layer.merge(
    tenant("/public", "public.db", AuthJwt.layer({ key: { secret: Redacted.make("secret") } })),
    tenant("/internal", "internal.db", Auth.layerConfig())
  )
).pipe(Layer.provide(NodeHttpServer.layer(() => TransportWebSocket.protect(createServer()), { port: 0 })))

/** What may be undefined is passed on as it is. */
export const submitted = (idempotencyKey: string | undefined, options: Partial<ArcpClient.SubmitOptions>) =>
  Effect.flatMap(ArcpClient.ArcpClient, (client) =>
    Effect.flatMap(client.submit(Greet, "you", { ...options, idempotencyKey }), (job) => job.result)
  ).pipe(Effect.scoped, Effect.provide(TestRuntime.layer([greet], { client: { name: undefined } })))

export const withoutEffect = (signal: AbortSignal | undefined) =>
  Arcp.connect({ url: "wss://example.com/arcp", token: "secret", signal })

// @ts-expect-error there is no such part
Runtime.layerMemory({ polices: Policy.layer() })
