/** The states of a session, and which transitions change nothing. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { Outbox } from "../../../src/layers/session/Outbox.js"
import { Accepts, type Attachment } from "../../../src/layers/session/Session.js"
import { type SessionDetached, SessionTable, unsettled } from "../../../src/layers/session/SessionTable.js"
import type { SessionRecord } from "../../../src/services/store/Store.js"

const record = (sessionId: string): SessionRecord => ({
  sessionId,
  principal: "alice",
  version: "1.1",
  features: [],
  createdAt: 0,
  lastSeenAt: 0,
  attached: true,
  tokenDigest: "t",
  acked: 0
})
const attachment = (): Attachment => ({
  outbox: new Outbox(1),
  accepts: new Accepts(),
  cursor: 0,
  close: () => Effect.void
})
const gone = (until: number): SessionDetached => ({ _tag: "Detached", until })

describe("SessionTable", () => {
  it.effect("a session that was resumed is neither dropped nor expired by who saw it detached", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      const seen = gone(5)
      const entry = yield* table.add(record("a"), seen)
      assert.deepStrictEqual(table.expired(10, 9), [[entry, seen]])
      const opening = table.claim(entry, seen)
      yield* table.drop(entry, seen)
      assert.isTrue(table.holds(entry))
      assert.deepStrictEqual(table.expired(10, 9), [])
      table.attach(entry, opening, attachment())
      yield* table.drop(entry, seen)
      assert.isTrue(table.holds(entry))
      // Detached anew it has its place after those that went before it.
      const other = yield* table.add(record("b"), gone(20))
      assert.isTrue(table.detach(entry, 1, 30, 0))
      assert.deepStrictEqual(
        table.expired(25, 9).map(([found]) => found),
        [other]
      )
    })
  )

  it.effect("a detach is to be stored, but not while a resume is", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      const opening = unsettled()
      const entry = yield* table.add(record("a"), opening)
      const { epoch } = table.attach(entry, opening, attachment())
      const { state } = entry
      if (state._tag !== "Attached") return assert.fail("attached")
      const resuming = table.claim(entry, state)
      assert.isTrue(table.detach(entry, epoch, 9, 1))
      assert.isFalse(table.detach(entry, epoch, 9, 1))
      assert.deepStrictEqual(table.takeChanged(9), [])
      table.release(entry, resuming)
      assert.deepStrictEqual(table.takeChanged(9), [entry])
      assert.isFalse(entry.record.attached)
      assert.deepStrictEqual(table.takeChanged(9), [])
    })
  )

  it.effect("dropping closes the scope, once, and leaves no trace of the principal", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      const seen = gone(5)
      const entry = yield* table.add(record("a"), seen)
      let closed = 0
      yield* Scope.addFinalizer(
        entry.scope,
        Effect.sync(() => closed++)
      )
      assert.strictEqual(table.countOf("alice"), 1)
      yield* table.drop(entry, seen)
      yield* table.drop(entry, seen)
      table.touch(entry)
      assert.deepStrictEqual(
        [closed, table.size, table.countOf("alice"), table.takeChanged(9).length],
        [1, 0, 0, 0]
      )
    })
  )
})
