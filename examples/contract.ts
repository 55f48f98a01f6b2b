// A contract that client and server share: input, result and failures are checked on both sides, and typed.
// What goes over the wire is JSON; what each side sees is not.
//
//   npm run example contract

import { Effect, Layer, Redacted, Schema, Stream } from "effect"
import { Agent, ArcpClient, Auth, Event, Job, Registry, Runtime, TransportMemory } from "effect-arcp"

// The contract. In a real project it is a module of its own, without any of the server's dependencies.
class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { left: Schema.Int }) {}

const Searched = Event.vendor(
  "x-vendor.example.searched",
  Schema.Struct({ day: Schema.Date, free: Schema.Int })
)

const Book = Agent.make("book", {
  version: "1.0.0",
  input: Schema.Struct({ day: Schema.Date, seats: Schema.Int.pipe(Schema.positive()) }),
  output: Schema.Struct({ reference: Schema.String, day: Schema.Date, price: Schema.Number }),
  error: SoldOut,
  events: [Searched]
})

// The server's side: `day` is a Date here, a SoldOut can be failed with, the result is encoded.
const book = Agent.handle(Book, ({ day, seats }) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    yield* job.emit(Searched, { day, free: 4 })
    if (seats > 4) return yield* new SoldOut({ left: 4 })
    return { reference: `B-${day.getUTCDate()}-${seats}`, day, price: seats * 12.5 }
  })
)

const runtime = Runtime.serve().pipe(
  Layer.provideMerge(TransportMemory.layer()),
  Layer.provide(Runtime.layerMemory()),
  Layer.provide(Registry.layer([book])),
  Layer.provide(Auth.layerStatic({ secret: "me" }))
)

// The client's side. `result` is typed by the contract, and so is what can go wrong.
const program = Effect.gen(function* () {
  const client = yield* ArcpClient.make({ token: Redacted.make("secret") })
  const reserve = (seats: number) =>
    client.submit(Book, { day: new Date("2026-05-01"), seats }).pipe(
      // Values again, by the schema of the event.
      Effect.tap((job) =>
        Stream.runForEach(job.of(Searched), ({ day, free }) =>
          Effect.sync(() => console.log(`${free} seats are free on ${day.toDateString()}`))
        )
      ),
      Effect.flatMap((job) => job.result),
      Effect.map(({ day, price, reference }) => `booked ${reference} for ${day.toDateString()} at ${price}`),
      // The contract's own failure, as itself.
      Effect.catchTag("SoldOut", ({ left }) => Effect.succeed(`sold out: only ${left} seats left`)),
      // What the schema does not let through is refused before it is sent.
      Effect.catchTag("InvalidRequest", ({ message }) => Effect.succeed(`refused: ${message}`))
    )
  for (const seats of [2, 9, -1]) console.log(yield* reserve(seats))
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(runtime)))
