// Runs a workflow of @effect/workflow inside an agent. The job has the session, the lease, the cancel and the events; the
// workflow has its own engine, and with it a durability of its own, which is not under the job's log.
//
//   npm run example workflow

import { Activity, Workflow, WorkflowEngine } from "@effect/workflow"
import { Effect, Layer, PubSub, Redacted, Schema, Stream } from "effect"
import { Agent, ArcpClient, Auth, Job, Registry, Runtime, TransportMemory } from "effect-arcp"

// The workflow: an order is paid once, whoever asks for it and how often. Its key is that of the execution.
class Refused extends Schema.TaggedError<Refused>()("Refused", { reason: Schema.String }) {}

const Order = Workflow.make({
  name: "Order",
  payload: { orderId: Schema.String, cents: Schema.Int },
  success: Schema.String,
  error: Refused,
  idempotencyKey: ({ orderId }) => orderId
})

/** What its activities say, by order: they run in the engine, and know of no job. */
const said = Effect.runSync(PubSub.unbounded<{ readonly orderId: string; readonly text: string }>())
let payments = 0

const orders = Order.toLayer(({ cents, orderId }) =>
  Effect.gen(function* () {
    const say = (text: string) => PubSub.publish(said, { orderId, text })
    const receipt = yield* Activity.make({
      name: "pay",
      success: Schema.String,
      error: Refused,
      execute: Effect.gen(function* () {
        yield* say(`paying ${cents} cents`)
        yield* Effect.sleep("200 millis")
        if (cents > 10_000) return yield* new Refused({ reason: "too much" })
        return `receipt ${++payments}`
      })
    })
    yield* Activity.make({ name: "ship", execute: Effect.asVoid(say("shipping")) })
    return receipt
  })
)

// The agent: it may be run again whole when its process dies, because the same order is the same execution of the workflow;
// with a durable engine (ClusterWorkflowEngine of @effect/cluster) that one has gone on meanwhile.
const Buy = Agent.make("buy", {
  version: "1.0.0",
  restart: "rerun",
  input: Schema.Struct({ orderId: Schema.String, cents: Schema.Int }),
  output: Schema.String,
  error: Refused
})

const buy = Agent.handle(Buy, (order) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    const heard = yield* PubSub.subscribe(said)
    yield* Stream.fromQueue(heard).pipe(
      Stream.filter(({ orderId }) => orderId === order.orderId),
      Stream.runForEach(({ text }) => job.log("info", text)),
      Effect.forkScoped
    )
    return yield* Order.execute(order)
  }).pipe(Effect.scoped)
)

const engine = orders.pipe(Layer.provideMerge(WorkflowEngine.layerMemory))

const runtime = Runtime.serve().pipe(
  Layer.provideMerge(TransportMemory.layer()),
  Layer.provide(Runtime.layerMemory()),
  Layer.provide(Registry.layer([buy])),
  Layer.provide(engine),
  Layer.provide(Auth.layerStatic({ secret: "me" }))
)

const program = Effect.gen(function* () {
  const client = yield* ArcpClient.make({ token: Redacted.make("secret") })

  const job = yield* client.submit(Buy, { orderId: "A1", cents: 4_200 })
  yield* Stream.runForEach(job.events, (event) => Effect.sync(() => console.log(event.kind, event.body)))
  console.log(yield* job.result)

  // Another job, the same order: the execution that there is.
  const again = yield* client.submit(Buy, { orderId: "A1", cents: 4_200 })
  console.log(`${yield* again.result}, after ${payments} payment`)

  const refused = yield* client.submit(Buy, { orderId: "B2", cents: 1_000_000 })
  console.log("refused:", (yield* Effect.flip(refused.result)).message)
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(runtime)))
