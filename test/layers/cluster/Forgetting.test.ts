/** Deletion of a principal's sessions, wherever they are. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { closeCode } from "../../../src/services/transport/Transport.js"
import { cluster } from "../../support/Nodes.js"
import { connect, hello, open } from "../../support/Wire.js"

type Opened = Effect.Effect.Success<ReturnType<typeof open>>

const settle = Effect.repeatN(eventLoop.next, 100)
const second = Effect.zipRight(TestClock.adjust("1 second"), settle)

const forget = (principal: string) => Effect.flatMap(Sessions, (sessions) => sessions.forget(principal))

const bob = { auth: { scheme: "bearer", token: "bob" } }

/** How the resume of a session is answered. */
const resumed = (session: Opened) =>
  Effect.gen(function* () {
    const wire = yield* connect
    const { resume_token } = session.welcome
    const resume = { session_id: session.sessionId, resume_token, last_event_seq: 0 }
    yield* wire.send("session.hello", hello({ resume }))
    const { payload, type } = yield* wire.next(() => true)
    return type === "session.error" ? (payload.code as string) : type
  })

const pong = (session: Opened) =>
  Effect.zipRight(session.request("session.ping", { nonce: "alive" }), session.expect("session.pong"))

it.scoped("those of other nodes end too, connected or not, and nobody else's", () =>
  Effect.gen(function* () {
    const { disk, start } = yield* cluster
    const a = yield* start("a", [])
    const b = yield* start("b", [])
    const here = yield* a.run(open())
    const there = yield* b.run(open())
    const left = yield* b.run(open())
    yield* left.connection.close(1000, "")
    const other = yield* b.run(open(bob))
    yield* second
    assert.strictEqual(yield* a.run(forget("alice")), 3)
    yield* second
    for (const session of [here, there]) assert.strictEqual((yield* session.closed).code, closeCode.policy)
    for (const session of [here, there, left])
      for (const node of [a, b])
        assert.strictEqual(yield* node.run(resumed(session)), "RESUME_WINDOW_EXPIRED")
    yield* pong(other)
    yield* b.run(Effect.flatMap(open(), pong))
    yield* second
    const stored = (yield* disk.store.sessions).map(({ principal }) => principal)
    assert.deepStrictEqual(stored.sort(), ["alice", "bob"])
    assert.strictEqual(yield* a.run(forget("carol")), 0)
  })
)

it.scoped("one whose node is not woken writes nothing more, and is closed when it tries to", () =>
  Effect.gen(function* () {
    const { disk, start, wakes } = yield* cluster
    const a = yield* start("a", [])
    const b = yield* start("b", [])
    const session = yield* b.run(open())
    yield* second
    wakes.lost = true
    assert.strictEqual(yield* a.run(forget("alice")), 1)
    yield* session.request("job.submit", { agent: "echo", input: 1 })
    for (let i = 0; i < 3; i++) yield* second
    yield* session.closed
    assert.deepStrictEqual(yield* disk.store.sessions, [])
    assert.strictEqual(yield* b.run(resumed(session)), "RESUME_WINDOW_EXPIRED")
  })
)

it.scoped("of one that nobody is connected to nothing stays on its node, deleted or taken", () =>
  Effect.gen(function* () {
    const { start } = yield* cluster
    const a = yield* start("a", [])
    const b = yield* start("b", [])
    const taken = yield* b.run(open())
    const deleted = yield* b.run(open(bob))
    for (const { connection } of [taken, deleted]) yield* connection.close(1000, "")
    yield* second
    const held = (principal: string) =>
      b.run(Effect.flatMap(Sessions, (sessions) => sessions.list({ principal })))
    assert.lengthOf(yield* held("alice"), 1)
    assert.lengthOf(yield* held("bob"), 1)
    assert.strictEqual(yield* a.run(resumed(taken)), "session.welcome")
    yield* second
    assert.lengthOf(yield* held("alice"), 0)
    assert.strictEqual(yield* a.run(forget("bob")), 1)
    yield* second
    assert.lengthOf(yield* held("bob"), 0)
  })
)
