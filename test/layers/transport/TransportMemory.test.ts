import { expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import { Dialer, TransportServer } from "../../../src/services/transport/Transport.js"
import { receive, receiveToEnd, suite } from "./Transport.suite.js"

suite("memory", TransportMemory.make, { carriesCodes: true, clientPauses: true })

it.scoped("every connect is a pair of its own, in order", () =>
  Effect.gen(function* () {
    const dialer = yield* Dialer
    const server = yield* TransportServer
    const clients = yield* Effect.all([dialer.connect, dialer.connect])
    const served = [...(yield* Stream.runCollect(Stream.take(server.connections, 2)))]
    const ends = clients.flatMap((client, i) =>
      served.slice(i, i + 1).map((other) => [client, other] as const)
    )
    for (const [i, [client, other]] of ends.entries()) {
      yield* client.send([`from ${i}`])
      yield* other.send([`to ${i}`])
    }
    const heard = yield* Effect.forEach(ends, ([client, other]) =>
      Effect.all([receive(other, 1), receive(client, 1)])
    )
    expect(heard).toEqual([
      [["from 0"], ["to 0"]],
      [["from 1"], ["to 1"]]
    ])
  }).pipe(Effect.provide(TransportMemory.layer()))
)

it.scoped("stopping the server closes what is open and refuses what comes", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const services = yield* Layer.buildWithScope(TransportMemory.layer(), scope)
    const dialer = Context.get(services, Dialer)
    const client = yield* dialer.connect
    yield* Scope.close(scope, Exit.void)
    expect((yield* receiveToEnd(client)).closed.code).toBe(1001)
    expect((yield* Effect.flip(dialer.connect)).message).toContain("stopped")
  })
)
