/** A client against a runtime whose every message the test says. */
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"

const { sessionError, welcome } = ScriptedRuntime

export const collect = <A, E>(stream: Stream.Stream<A, E>) =>
  Effect.map(Stream.runCollect(stream), (chunk) => [...chunk])

export const scripted = Effect.gen(function* () {
  const context = yield* Layer.build(ScriptedRuntime.layer())
  const runtime = Context.get(context, ScriptedRuntime.ScriptedRuntime)
  /** A client that is connecting. At once: there is no clock that moves. */
  const connecting = (options: Partial<ArcpClient.Options> = { reconnect: Schedule.recurs(20) }) =>
    ArcpClient.make({ token: Redacted.make("alice"), ...options }).pipe(Effect.provide(context), Effect.fork)
  /** A client, and the runtime's end of its first connection. */
  const open = (first?: string, options?: Partial<ArcpClient.Options>) =>
    Effect.gen(function* () {
      const client = yield* connecting({ reconnect: Schedule.recurs(20), ...options })
      const server = yield* runtime.welcomed(first)
      return { client: yield* Fiber.join(client), server }
    })
  /** The same, with the client's own delays. */
  const openPatient = Effect.gen(function* () {
    const client = yield* connecting({})
    const server = yield* runtime.welcomed()
    return { client: yield* Fiber.join(client), server }
  })
  const submitted = (
    client: ArcpClient.ArcpClientService,
    server: ScriptedRuntime.Scripted,
    options?: ArcpClient.SubmitOptions
  ) =>
    Effect.gen(function* () {
      const submitting = yield* Effect.fork(client.submit("x", 1, options))
      yield* server.accept()
      return yield* Fiber.join(submitting)
    })
  /** Drops the connection, refuses the resume, and welcomes the session that takes its place. */
  const replaced = (server: ScriptedRuntime.Scripted, features?: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      yield* server.drop
      const second = yield* runtime.greeted
      assert.isDefined(second.hello.payload["resume"])
      yield* second.server.send(sessionError("RESUME_WINDOW_EXPIRED"))
      const { hello, server: other } = yield* runtime.greeted
      assert.isUndefined(hello.payload["resume"])
      yield* other.send(welcome(features, { session_id: "sess_2" }))
      return other
    })
  return { ...runtime, connecting, open, openPatient, replaced, submitted }
})
