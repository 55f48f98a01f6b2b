// Somebody submits a job; somebody else watches it, from another connection: first what has happened so far, then
// live, with nothing missing and nothing twice where the two meet.
//
//   npm run example subscribe

import { Effect, Layer, Redacted, Schema, Stream } from "effect"
import { Agent, ArcpClient, Auth, Job, Registry, Runtime, TransportMemory } from "effect-arcp"

const Bake = Agent.make("bake", { version: "1.0.0", input: Schema.Int, output: Schema.String })

const bake = Agent.handle(Bake, (count) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    for (let current = 1; current <= count; current++) {
      yield* job.progress({ current, total: count, units: "cakes" })
      yield* Effect.sleep("20 millis")
    }
    return `${count} cakes`
  })
)

const runtime = Runtime.serve().pipe(
  Layer.provideMerge(TransportMemory.layer()),
  Layer.provide(Runtime.layerMemory()),
  Layer.provide(Registry.layer([bake])),
  // Two tokens of one principal: by default jobs are shown to nobody else.
  Layer.provide(Auth.layerStatic({ laptop: "me", phone: "me" }))
)

const program = Effect.gen(function* () {
  const laptop = yield* ArcpClient.make({ token: Redacted.make("laptop") })
  const phone = yield* ArcpClient.make({ token: Redacted.make("phone") })

  const mine = yield* laptop.submit(Bake, 30)
  // Half way, the phone comes along. It finds the job in the list.
  yield* mine.progress.changes.pipe(
    Stream.takeUntil((progress) => progress?.current === 15),
    Stream.runDrain
  )
  const [entry] = yield* Stream.runCollect(phone.list({ status: ["running"] }))
  if (entry === undefined) return yield* Effect.dieMessage("the phone finds no job")
  console.log(`the phone finds ${entry.agent}, ${entry.status}`)

  // The runtime logs who has subscribed to what: that is the line between.
  const seen = yield* phone.subscribe(entry.job_id, { contract: Bake, history: true })
  const joinedAt = Date.now()
  const cakes: Array<{ readonly current: number; readonly live: boolean }> = []
  yield* Stream.runForEach(seen.events, (event) =>
    Effect.sync(() => {
      if (event.kind === "progress")
        cakes.push({ current: event.body.current, live: Date.parse(event.ts) >= joinedAt })
    })
  )
  const live = cakes.filter((cake) => cake.live).length
  console.log(`it sees ${cakes.map((cake) => cake.current).join(" ")}`)
  console.log(`${cakes.length - live} from before it came, ${live} as they happen`)
  console.log(`the laptop gets: ${yield* mine.result}`)
  console.log(`the phone gets:  ${yield* seen.result}`)
  if (cakes.some((cake, i) => cake.current !== i + 1) || cakes.length !== 30) process.exitCode = 1
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(runtime)))
