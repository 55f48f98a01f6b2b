/** Many sessions at once: their records are stored, and their ends swept, in batches of which none is left out. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { Outbox } from "../../../src/layers/session/Outbox.js"
import * as Records from "../../../src/layers/session/Records.js"
import { Accepts, type Attachment } from "../../../src/layers/session/Session.js"
import { type SessionEntry, SessionTable, unsettled } from "../../../src/layers/session/SessionTable.js"
import * as Sweeper from "../../../src/layers/session/Sweeper.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import type { EventLog } from "../../../src/services/log/EventLog.js"
import { takenAway } from "../../../src/services/log/taken.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import type { Op, SessionRecord } from "../../../src/services/store/Store.js"

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
const resumeWindow = Duration.minutes(10)

/** A log that notes what is committed, and fails while the test says so. */
const makeLog = () => {
  const committed: Array<Op> = []
  const control: { fails: boolean; taken?: string; onTaken?: (() => void) | undefined } = { fails: false }
  const commit: EventLog["Type"]["commit"] = (ops) =>
    Effect.suspend(() => {
      if (control.fails) return new InternalError({ message: "the disk is full" })
      if (ops.some((op) => op._tag === "PutSession" && op.session.sessionId === control.taken)) {
        control.onTaken?.()
        control.onTaken = undefined
        return takenAway
      }
      // More than any of these tests asks for: whoever writes does not stop.
      if (committed.length > 10_000) return Effect.dieMessage("the same is committed for ever")
      committed.push(...ops)
      return Effect.void
    })
  const stored = () => committed.flatMap((op) => (op._tag === "PutSession" ? [op.session] : []))
  return { committed, control, log: { commit } as EventLog["Type"], stored }
}

/** `count` sessions whose transports have just ended. */
const detached = (table: SessionTable, count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, i) => `sess_${i}`),
    (sessionId) =>
      Effect.gen(function* () {
        const opening = unsettled()
        const entry = yield* table.add(record(sessionId), opening)
        const { epoch } = table.attach(entry, opening, attachment())
        assert.isTrue(table.detach(entry, epoch, 5_000, 4_000))
        return entry
      })
  )

describe("records of sessions", () => {
  it.effect("of however many, each is stored, once", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      yield* detached(table, 1_250)
      const { committed, log, stored } = makeLog()
      const { write } = Records.make({
        table,
        log,
        now: () => 7_000,
        resumeWindow,
        outlived: true,
        letGo: () => {}
      })
      yield* write
      assert.strictEqual(new Set(stored().map(({ sessionId }) => sessionId)).size, 1_250)
      assert.strictEqual(stored().length, 1_250)
      // When its transport ended, not when that was stored.
      for (const session of stored()) assert.deepInclude(session, { attached: false, lastSeenAt: 4_000 })
      assert.deepInclude(committed, { _tag: "Alive", at: 7_000 } as Op)
    })
  )

  it.effect("that could not be stored are stored later", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      yield* detached(table, 3)
      const { control, log, stored } = makeLog()
      const records = Records.make({
        table,
        log,
        now: () => 0,
        resumeWindow,
        outlived: true,
        letGo: () => {}
      })
      control.fails = true
      yield* Effect.fork(records.run)
      records.ring()
      for (let i = 0; i < 3; i++) yield* TestClock.adjust("30 seconds")
      assert.isEmpty(stored())
      control.fails = false
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual(stored().length, 3)
    })
  )

  it.effect("that another process has taken are let go of, and the others are stored", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      yield* detached(table, 3)
      const { control, log, stored } = makeLog()
      control.taken = "sess_1"
      const letGo: Array<string> = []
      const { write } = Records.make({
        table,
        log,
        now: () => 0,
        resumeWindow,
        outlived: true,
        letGo: (entry) => {
          letGo.push(entry.record.sessionId)
          table.supersede(entry)
        }
      })
      yield* write
      assert.deepStrictEqual(letGo, ["sess_1"])
      assert.deepStrictEqual(
        stored().map(({ sessionId }) => sessionId),
        ["sess_0", "sess_2"]
      )
      assert.deepStrictEqual([table.size, table.hasChanged], [2, false])
    })
  )

  it.effect("one that a resume has claimed since is left to the resume, which stores a newer one", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      const [, , claimed] = yield* detached(table, 3)
      const { control, log, stored } = makeLog()
      control.taken = "sess_0"
      control.onTaken = () => {
        if (claimed !== undefined && claimed.state._tag === "Detached") table.claim(claimed, claimed.state)
      }
      const letGo = (entry: SessionEntry) => {
        table.supersede(entry)
      }
      const { write } = Records.make({ table, log, now: () => 0, resumeWindow, outlived: true, letGo })
      yield* write
      assert.strictEqual(claimed?.state._tag, "Opening")
      assert.deepStrictEqual(
        stored().map(({ sessionId }) => sessionId),
        ["sess_1"]
      )
      assert.isTrue(table.hasChanged)
    })
  )

  it("a process says that it is alive at least four times in a window, and every 30 s", () => {
    assert.strictEqual(Duration.toMillis(Records.aliveEvery(Duration.seconds(40))), 10_000)
    assert.strictEqual(Duration.toMillis(Records.aliveEvery(Duration.hours(1))), 30_000)
  })
})

describe("the sweeper", () => {
  it.effect("drops all whose window has passed, in batches with others' turns between them", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      yield* detached(table, 1_000)
      const late = unsettled()
      const attached = yield* table.add(record("attached"), late)
      table.attach(attached, late, attachment())
      let now = 0
      let commits = 0
      yield* Effect.fork(
        Sweeper.run({
          table,
          elapsed: () => now,
          resumeWindow,
          turn: eventLoop,
          committed: Effect.sync(() => {
            commits++
          })
        })
      )
      now = 4_999
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(table.size, 1_001)
      now = 5_000
      yield* TestClock.adjust("30 seconds")
      yield* Effect.repeatN(eventLoop.next, 20)
      assert.strictEqual(table.size, 1)
      assert.isTrue(table.holds(attached))
      assert.isAtLeast(commits, 4)
    })
  )
})

describe("SessionTable", () => {
  it.effect("whoever waits for a session that is being opened goes on, whatever becomes of it", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      const opening = unsettled()
      const entry = yield* table.add(record("a"), opening)
      const failing = yield* Effect.fork(table.settled(entry))
      yield* Effect.yieldNow()
      yield* table.drop(entry, opening)
      yield* failing
      const [other] = yield* detached(table, 1)
      if (other === undefined || other.state._tag !== "Detached") return assert.fail("detached")
      const resuming = table.claim(other, other.state)
      const waiting = yield* Effect.fork(table.settled(other))
      yield* Effect.yieldNow()
      table.release(other, resuming)
      yield* waiting
    })
  )

  it.effect("a session whose transport ended during a resume that failed expires like any other", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      const opening = unsettled()
      const entry = yield* table.add(record("a"), opening)
      const { epoch } = table.attach(entry, opening, attachment())
      if (entry.state._tag !== "Attached") return assert.fail("attached")
      const resuming = table.claim(entry, entry.state)
      assert.isTrue(table.detach(entry, epoch, 5_000, 4_000))
      table.release(entry, resuming)
      assert.deepStrictEqual(
        table.expired(5_000, 9).map(([found]) => found),
        [entry]
      )
    })
  )

  it.effect("what is expired comes in parts", () =>
    Effect.gen(function* () {
      const table = new SessionTable()
      const entries = yield* detached(table, 5)
      assert.deepStrictEqual(
        table.expired(5_000, 2).map(([found]) => found),
        entries.slice(0, 2)
      )
    })
  )
})

describe("Accepts", () => {
  it("remembers a bounded number of jobs, the newest", () => {
    const accepts = new Accepts()
    for (let i = 0; i < 5_000; i++) accepts.sent(`job_${i}`)
    accepts.sent("job_4000")
    assert.isFalse(accepts.begins("job_0"))
    assert.isTrue(accepts.begins("job_4999"))
    assert.isFalse(accepts.begins("job_4999"))
    // Sent again, it counts as new.
    const again = new Accepts()
    again.sent("job_a")
    for (let i = 0; i < 4_000; i++) again.sent(`job_${i}`)
    again.sent("job_a")
    for (let i = 4_000; i < 4_200; i++) again.sent(`job_${i}`)
    assert.isTrue(again.begins("job_a"))
  })
})
