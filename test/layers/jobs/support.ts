/** A runtime over a store that fails, waits or is cut off when told to; and one after the other over the same store. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import type { Policy } from "../../../src/services/auth/Policy.js"
import type { Credentials } from "../../../src/services/credentials/Credentials.js"
import type { Admission } from "../../../src/services/jobs/Admission.js"
import type { Hooks } from "../../../src/services/jobs/Hooks.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type { Consumer } from "../../../src/services/log/Committed.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { type Op, Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import { type Connection, TransportServer } from "../../../src/services/transport/Transport.js"
import type { Frame, open } from "../../support/Wire.js"

export type Session = Effect.Effect.Success<ReturnType<typeof open>>

/** A store in memory that passes for a durable one. */
export interface TestStore {
  readonly store: StoreService
  /** Commits fail, for as long as this is set. */
  failing: boolean
  /** Commits that have failed for it. */
  failed: number
  /** The process is dead: what it commits from now on is not stored. */
  cut: boolean
  /** Commits wait at this latch. */
  readonly gate: Effect.Latch
  /** Commits that wait there. */
  waiting: number
  /** The batches that were committed. */
  readonly batches: Array<ReadonlyArray<Op>>
}

/** A store that fails, waits or is cut off when told to. */
export const makeStoreOf = (layer: Layer.Layer<Store, StoreError>) =>
  Effect.gen(function* () {
    const inner = Context.get(yield* Layer.build(layer), Store)
    const gate = yield* Effect.makeLatch(true)
    return attachedTo(inner, gate)
  })

export const makeStore = Effect.suspend(() => makeStoreOf(StoreMemory.layer()))

const attachedTo = (inner: StoreService, gate: Effect.Latch): TestStore => {
  const test: TestStore = {
    failing: false,
    failed: 0,
    cut: false,
    gate,
    waiting: 0,
    batches: [],
    store: {
      ...inner,
      kind: "durable",
      commit: (batch) =>
        Effect.zipRight(
          Effect.suspend(() => {
            test.waiting++
            return gate.await
          }),
          Effect.suspend(() => {
            test.waiting--
            if (test.failing) {
              test.failed++
              return Effect.fail(new StoreError({ message: "the disk is full" }))
            }
            if (test.cut) return Effect.void
            test.batches.push(batch.ops)
            return inner.commit(batch)
          })
        )
    }
  }
  return test
}

/** The same store as the next process finds it: what the last one is told from now on is not stored. */
export const restarted = (before: TestStore): TestStore => {
  before.cut = true
  const inner = before.store
  const after = attachedTo(
    {
      ...inner,
      commit: (batch) =>
        Effect.suspend(() => {
          before.cut = false
          return Effect.ensuring(
            inner.commit(batch),
            Effect.sync(() => {
              before.cut = true
            })
          )
        })
    },
    Effect.unsafeMakeLatch(true)
  )
  return after
}

export const narrow: Auth.Identity = {
  principal: "alice",
  agents: ["echo", "forever"],
  leaseCeiling: { "tool.call": ["search.*"] }
}

/** A transport each of whose connections is as the test has it. */
const transportOf = (connected: (connection: Connection) => Connection) =>
  Layer.effect(
    TransportServer,
    Effect.map(TransportServer, (server) => ({
      ...server,
      connections: Stream.map(server.connections, connected)
    }))
  )

export const serve = (
  { store }: Pick<TestStore, "store">,
  agents: ReadonlyArray<Agent.Registered>,
  options: RuntimeOptions.Input = {},
  parts?: {
    readonly policy?: Layer.Layer<Policy>
    readonly admission?: Layer.Layer<Admission>
    readonly credentials?: Layer.Layer<Credentials>
    readonly consumers?: ReadonlyArray<Consumer>
    readonly hooks?: Layer.Layer<Hooks>
  },
  connected: (connection: Connection) => Connection = (connection) => connection
) =>
  Runtime.serve().pipe(
    Layer.provide(transportOf(connected)),
    Layer.provideMerge(TransportMemory.layer()),
    Layer.provide(
      Runtime.layer({ options: { shutdownGrace: "0 millis", ...options }, ...parts }).pipe(
        Layer.provideMerge(Layer.succeed(Store, store))
      )
    ),
    Layer.provide(Registry.layer(agents)),
    Layer.provide(Auth.layerStatic({ alice: "alice", bob: "bob", ops: "ops", narrow }))
  )

export const as = (token: string) => ({ auth: { scheme: "bearer", token } })

export const resume = (session: Session, last_event_seq: number) => ({
  resume: { session_id: session.sessionId, resume_token: session.welcome.resume_token, last_event_seq }
})

/** Submits, and gives the accept. */
export const submit = (
  session: Session,
  agent: string,
  input: unknown = {},
  more: Record<string, unknown> = {}
): Effect.Effect<Frame> =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input, ...more })
    return yield* session.expect("job.accepted", (frame) => frame.payload.request_id === id)
  })

/** The types of what came for a job. */
export const typesOf = (session: Session, jobId: string | undefined): ReadonlyArray<string> =>
  session.seen.filter((frame) => frame.job_id === jobId).map(({ type }) => type)

export const pong = (session: Session) =>
  Effect.gen(function* () {
    const nonce = String(Math.random())
    yield* session.request("session.ping", { nonce })
    yield* session.expect("session.pong", (frame) => frame.payload.ping_nonce === nonce)
  })

export const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
/** Runs until it is interrupted, and then says so. */
export const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, (job) =>
    Effect.onInterrupt(Effect.never, () => Effect.ignore(job.log("info", "cleanup")))
  )
)
/** Emits one message, and fails with what the emit fails with. */
export const talk = Agent.handle(Agent.make("talk", { version: "1.0.0", input: Schema.String }), (message) =>
  Effect.flatMap(Job, (job) => job.log("info", message))
)
export const agents = [echo, forever, talk]
