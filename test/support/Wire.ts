/** A raw client over the in-memory pair: frames as they are, nothing hidden. */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Registry from "../../src/layers/agents/Registry.js"
import * as Auth from "../../src/layers/auth/Auth.js"
import * as Runtime from "../../src/layers/runtime/Runtime.js"
import * as TransportMemory from "../../src/layers/transport/TransportMemory.js"
import { encode } from "../../src/protocol/Codec.js"
import { all } from "../../src/protocol/Features.js"
import type { Registered } from "../../src/services/agents/Agent.js"
import type * as RuntimeOptions from "../../src/services/runtime/RuntimeOptions.js"
import { Dialer } from "../../src/services/transport/Transport.js"

export interface Frame {
  readonly arcp: string
  readonly id: string
  readonly type: string
  readonly session_id: string
  readonly job_id?: string
  readonly trace_id?: string
  readonly event_seq?: number
  readonly extensions?: Readonly<Record<string, unknown>>
  // biome-ignore lint/suspicious/noExplicitAny: tests look into payloads freely
  readonly payload: any
}

let ids = 0
export const nextId = () => `msg-${++ids}`

/** A connection, not yet greeted. */
export const connect = Effect.gen(function* () {
  const dialer = yield* Dialer
  const connection = yield* dialer.connect
  const seen: Array<Frame> = []
  let pending: Array<Frame> = []
  const sendText = (text: string) => connection.send([text])
  const next = (want: (frame: Frame) => boolean): Effect.Effect<Frame> =>
    Effect.suspend(() => {
      const i = pending.findIndex(want)
      if (i >= 0) return Effect.succeed(pending.splice(0, i + 1)[i] as Frame)
      pending = []
      return connection.take.pipe(
        Effect.orDieWith((closed) => new Error(`closed ${closed.code} ${closed.reason}`)),
        Effect.flatMap((frames) => {
          for (const text of Chunk.toReadonlyArray(frames)) {
            const frame = JSON.parse(text as string) as Frame
            seen.push(frame)
            pending.push(frame)
          }
          return next(want)
        })
      )
    })
  return {
    connection,
    seen,
    sendText,
    /** The next frame of a type, skipping others. */
    expect: (type: string, more: (frame: Frame) => boolean = () => true) =>
      next((frame) => frame.type === type && more(frame)),
    next,
    /** Sends a message; returns its id. */
    send: (type: string, payload: unknown, more: Record<string, unknown> = {}) => {
      const id = nextId()
      return Effect.as(sendText(encode({ id, type, payload, ...more })), id)
    },
    closed: Effect.flip(Effect.forever(connection.take))
  }
})

export const hello = (more: Record<string, unknown> = {}, features: ReadonlyArray<string> = all) => ({
  client: { name: "test", version: "1" },
  auth: { scheme: "bearer", token: "alice" },
  capabilities: { features },
  ...more
})

/** A connection with an open session. */
export const open = (more?: Record<string, unknown>, features?: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const wire = yield* connect
    yield* wire.send("session.hello", hello(more, features))
    const welcome = yield* wire.expect("session.welcome")
    return {
      ...wire,
      welcome: welcome.payload,
      sessionId: welcome.session_id,
      request: (type: string, payload: unknown, extra: Record<string, unknown> = {}) =>
        wire.send(type, payload, { session_id: welcome.session_id, ...extra })
    }
  })

/** A runtime in memory with an in-memory transport. Tokens are the principals' own names. */
export const runtime = (agents: ReadonlyArray<Registered>, options?: RuntimeOptions.Input) =>
  Runtime.serve().pipe(
    Layer.provideMerge(TransportMemory.layer()),
    Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis", ...options } })),
    Layer.provide(Registry.layer(agents)),
    Layer.provide(Auth.layerStatic({ alice: "alice", bob: "bob" }))
  )
