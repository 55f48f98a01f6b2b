/** A hundred clients that died without `bye` lock nobody out, protocol 4.8: over each store, before and after a restart. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Store } from "../../../src/services/store/Store.js"
import { rig } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"
import { alsoInPostgres } from "../store/pg/layers.js"

const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
const settle = Effect.repeatN(eventLoop.next, 50)

/** A store of each kind, whose next process finds what the last one left. */
const memory = Effect.map(Layer.build(StoreMemory.layer()), (context) => Layer.succeedContext(context))
const sqlite = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-room-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
).pipe(Effect.map((folder) => StoreSqlite.layer({ filename: join(folder, "log.db"), synchronous: "NORMAL" })))

type Opened = Effect.Effect.Success<ReturnType<typeof open>>
const resumed = (session: Opened) =>
  Effect.gen(function* () {
    const wire = yield* connect
    const { sessionId: session_id, welcome } = session
    const resume = { session_id, resume_token: welcome.resume_token, last_event_seq: 0 }
    yield* wire.send("session.hello", hello({ resume }))
    return (yield* wire.next(() => true)).type === "session.welcome"
  })
const refused = Effect.gen(function* () {
  const wire = yield* connect
  yield* wire.send("session.hello", hello())
  const { payload, type } = yield* wire.next(() => true)
  return type === "session.error" && payload.details.limit === "sessions_per_principal"
})

for (const [name, make] of [
  ["memory", memory],
  ["SQLite", sqlite],
  ...alsoInPostgres().map(({ kept }) => ["Postgres", Effect.sync(kept)] as const)
] as const)
  describe(`a principal with as many sessions as it may have, over ${name}`, () => {
    it.scoped("gets a place of a client that died, the longest gone first, and none of one with a job", () =>
      Effect.gen(function* () {
        const store = yield* make
        const process = <A, E>(body: Effect.Effect<A, E, Effect.Effect.Context<ReturnType<typeof open>>>) =>
          Effect.scoped(
            Effect.flatMap(Layer.build(store), (context) =>
              Effect.provide(body, rig([forever], { store: Context.get(context, Store) }))
            )
          )
        const dead = yield* process(
          Effect.gen(function* () {
            const all: Array<Opened> = []
            for (let i = 0; i < 100; i++) all.push(yield* open())
            const [working, longest, next] = all as [Opened, Opened, Opened]
            yield* working.request("job.submit", { agent: "forever", input: null })
            yield* working.expect("job.event")
            assert.isTrue(yield* refused, "all of them are there")
            // In this order, and without a word.
            for (const { connection } of [working, longest, next]) yield* connection.close(1006, "")
            yield* settle
            yield* open()
            assert.isFalse(yield* resumed(longest))
            assert.isTrue(yield* resumed(working))
            return { next, all }
          })
        )
        yield* process(
          Effect.gen(function* () {
            // All of them died with the process, and a hundred more come.
            for (let i = 0; i < 100; i++) yield* open()
            assert.isFalse(yield* resumed(dead.next))
            assert.isTrue(yield* refused)
          })
        )
      })
    )
  })
