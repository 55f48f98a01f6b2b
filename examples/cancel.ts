// Three ways to cancel a job, and what the agent may still do: its finalizers run, and what they emit arrives
// before the job's end.
//
//   npm run example cancel

import { Deferred, Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { Agent, ArcpClient, Auth, Job, Registry, Runtime, TransportMemory } from "effect-arcp"

// Cancellation is interruption: an agent cleans up as any Effect program does.
const brew = Agent.handle(Agent.make("brew", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    yield* Effect.acquireRelease(job.log("info", "lights the stove"), () =>
      Effect.ignore(job.log("warn", "puts the fire out"))
    )
    yield* job.status("brewing")
    yield* Effect.never
  }).pipe(Effect.scoped)
)

const runtime = Runtime.serve().pipe(
  Layer.provideMerge(TransportMemory.layer()),
  // A job gets this long to clean up; then it is over whether it has or not.
  Layer.provide(Runtime.layerMemory({ options: { cancelGrace: "5 seconds" } })),
  Layer.provide(Registry.layer([brew])),
  Layer.provide(Auth.layerStatic({ secret: "me" }))
)

const say = (text: string) => Effect.sync(() => console.log(text))

/** Prints a job's events; `brewing` is done when it is at work. The stream ends with the job. */
const watch = (job: ArcpClient.JobHandle<unknown, unknown>) =>
  Effect.gen(function* () {
    const brewing = yield* Deferred.make<void>()
    const ended = yield* job.events.pipe(
      Stream.runForEach(({ body, kind }) =>
        Effect.zipRight(
          say(`  ${kind === "log" ? body.message : kind === "status" ? `status: ${body.phase}` : kind}`),
          kind === "status" && body.phase === "brewing" ? Deferred.succeed(brewing, undefined) : Effect.void
        )
      ),
      Effect.fork
    )
    yield* Deferred.await(brewing)
    return ended
  })

const program = Effect.gen(function* () {
  const client = yield* ArcpClient.make({ token: Redacted.make("secret") })

  yield* say("1. asked to, with a reason")
  const asked = yield* client.submit("brew", {})
  const watched = yield* watch(asked)
  yield* asked.cancel("nobody is thirsty")
  yield* Fiber.join(watched)
  const error = yield* Effect.flip(asked.result)
  yield* say(`  ended: ${error._tag}`)

  yield* say("2. who waits for the result gives up: here after a second, by a timeout")
  const awaited = yield* client.submit("brew", {})
  const seen = yield* watch(awaited)
  yield* awaited.result.pipe(Effect.timeout("1 second"), Effect.ignore)
  yield* Fiber.join(seen)

  yield* say("3. the scope of a job that was submitted with `submitScoped` is left")
  const { jobId } = yield* Effect.scoped(Effect.tap(client.submitScoped("brew", {}), watch))
  // That handle is gone; a subscription sees what happened.
  const after = yield* client.subscribe(jobId, { history: true })
  const last = yield* Stream.runLast(after.events)
  const { body, kind } = Option.getOrThrow(last)
  if (kind === "log") yield* say(`  ${body.message}`)

  const jobs = yield* Stream.runCollect(client.list())
  yield* say(`all: ${Array.from(jobs, (job) => job.status).join(", ")}`)
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(runtime)))
