// What a strict compiler makes of the client alone: compiled by run.sh where the optional dependencies, and the
// types of Node, are not installed, with the declarations of every library checked.
import { Effect, Layer, Redacted, Schema, Stream } from "effect"
import { Agent, ArcpClient, DialerWebSocketGlobal, type Errors, Event } from "effect-arcp"
import { Arcp, type Job } from "effect-arcp/promise"

const Found = Event.vendor("x-vendor.example.com.found", Schema.Struct({ file: Schema.String }))
const Review = Agent.make("review", {
  version: "1.0.0",
  input: Schema.Struct({ repository: Schema.String }),
  output: Schema.Struct({ findings: Schema.Number }),
  events: [Found]
})

export const reviewed: Effect.Effect<number, unknown> = Effect.gen(function* () {
  const client = yield* ArcpClient.ArcpClient
  const job = yield* client.submit(Review, { repository: "." })
  yield* Stream.runForEach(job.events, (event) =>
    event.kind === "log" ? Effect.log(event.body.message) : Effect.void
  )
  return (yield* job.result).findings
}).pipe(
  Effect.scoped,
  Effect.provide(ArcpClient.layer({ token: Redacted.make("secret"), name: undefined })),
  Effect.provide(Layer.orDie(DialerWebSocketGlobal.layer({ url: "wss://example.com/arcp" })))
)

export const withoutEffect = async (signal: AbortSignal | undefined): Promise<Job> => {
  const arcp = await Arcp.connect({ url: "wss://example.com/arcp", token: "secret", signal })
  return arcp.submit("review", { repository: "." })
}

export const code = (error: Errors.ArcpError): string => error.code

// @ts-expect-error a repository has no number
export const mistaken = (client: ArcpClient.ArcpClientService) => client.submit(Review, { repository: 1 })
