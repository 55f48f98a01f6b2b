import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import { all } from "../../../src/protocol/Features.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { type Batch, StoreError } from "../../../src/services/store/Store.js"
import { boot, Disk } from "../../support/Rig.js"
import type { open } from "../../support/Wire.js"

/** Says something every 10 s, and ends after so many. */
export const ticking = Agent.handle(Agent.make("ticking", { version: "1.0.0" }), (times) =>
  Effect.gen(function* () {
    const job = yield* Job
    for (let i = 1; i <= Number(times); i++) {
      yield* Effect.sleep("10 seconds")
      yield* job.log("info", `tick ${i}`)
    }
    return "done"
  })
)

/** `short` ends after a minute; the clock of a test begins at 0. */
export const auth = AuthLayer.layerStatic({
  short: { principal: "alice", expiresAt: 60_000 },
  long: "alice",
  bob: "bob"
})
const watchAll = Layer.effect(
  Policy,
  Effect.map(Policy, (service) => Policy.of({ ...service, maySubscribe: () => Effect.succeed(true) }))
).pipe(Layer.provide(PolicyLayer.layer()))

/** A frame of 100 kB now, and again, so many of them. */
export const flood = Agent.handle(Agent.make("flood", { version: "1.0.0" }), (count) =>
  Effect.gen(function* () {
    const job = yield* Job
    const text = "x".repeat(100_000)
    for (let n = 0; n < Number(count); n++) yield* job.emit("x-vendor.test.n", { n, text })
  })
)

export const renewal = [...all, "x-vendor.effect-arcp.renewal"]
export const as = (token: string) => ({ auth: { scheme: "bearer", token } })
export const settle = Effect.repeatN(eventLoop.next, 30)
/** Passes time in steps of five seconds. */
export const pass = (seconds: number) =>
  Effect.forEach(
    Array.from({ length: Math.ceil(seconds / 5) }),
    () => Effect.zipRight(TestClock.adjust("5 seconds"), Effect.repeatN(eventLoop.next, 5)),
    { discard: true }
  )

export const running = <A, E, R>(
  body: (disk: Disk) => Effect.Effect<A, E, R>,
  options: RuntimeOptions.Input = {}
) =>
  Effect.gen(function* () {
    const disk = yield* Disk.make
    const { run } = yield* boot([ticking, flood], { disk, options, auth, policy: watchAll })
    return yield* run(body(disk))
  })

type Session = Effect.Effect.Success<ReturnType<typeof open>>
export const submit = (session: Session, times: number, more: Record<string, unknown> = {}) =>
  Effect.zipRight(
    session.request("job.submit", { agent: "ticking", input: times, ...more }),
    Effect.map(session.expect("job.accepted"), ({ payload }) => payload.job_id as string)
  )
export const from = ({ sessionId, welcome: { resume_token } }: Session, last_event_seq = 0) => ({
  resume: { session_id: sessionId, resume_token, last_event_seq }
})
export const subscribe = (session: Session, jobId: string) =>
  Effect.zipRight(
    session.request("job.subscribe", { job_id: jobId }),
    session.next(({ type }) => type === "job.subscribed" || type === "session.error")
  )
/** Takes what has come, and what a ping is answered after. */
export const read = (session: Session) =>
  Effect.zipRight(session.request("session.ping", { nonce: "x" }), session.expect("session.pong"))
export const ofJob = ({ seen }: Session, jobId: string) =>
  seen.filter((frame) => frame.job_id === jobId && frame.event_seq !== undefined)
export const isUnobserve = ({ ops }: Batch) => ops.some(({ _tag }) => _tag === "Unobserve")
export const away = new StoreError({ message: "the disk is full" })
