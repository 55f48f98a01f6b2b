/** The console's list of jobs: that it becomes what the runtime has, and stays so, by asking for little. */

import { describe, it } from "@effect/vitest"
import { signal } from "@preact/signals"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { afterEach, assert, vi } from "vitest"
import { type Entry, JobTable } from "../../src/programs/console/model/JobTable.js"
import * as Listing from "../../src/programs/console/state/listing.js"
import type { JobStatus } from "../../src/protocol/JobStatus.js"
import type * as Message from "../../src/protocol/Message.js"
import type { ArcpClientService } from "../../src/services/client/ArcpClient.js"

const { client } = vi.hoisted(() => ({ client: { value: undefined as unknown } }))
vi.mock("../../src/programs/console/state/connection.js", () => {
  const made = signal<unknown>(undefined)
  client.value = made
  return { client: made }
})
afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllGlobals()
})

const hour = 3_600_000

const job = (job_id: string, at: number, status: JobStatus = "success"): Entry => ({
  job_id,
  agent: "a@1.0.0",
  status,
  lease: {},
  parent_job_id: null,
  created_at: new Date(at).toISOString(),
  last_event_seq: 0
})

/** A runtime with these jobs, which can be changed; `asked` are the filters it was asked with, `gave` is how many jobs it gave. */
const runtime = (...jobs: ReadonlyArray<Entry>) => {
  const all = new Map(jobs.map((entry) => [entry.job_id, entry]))
  const asked: Array<NonNullable<Message.ListJobs["filter"]>> = []
  const gave = { count: 0 }
  const list = ((filter = {}, { limit = Number.POSITIVE_INFINITY } = {}) =>
    Stream.suspend(() => {
      asked.push(filter)
      const [after, before] = [filter.created_after, filter.created_before].map((text) =>
        text === undefined ? undefined : Date.parse(text)
      )
      const found = [...all.values()]
        .filter(({ created_at, status }) => {
          const at = Date.parse(created_at)
          return (
            (after === undefined || at > after) &&
            (before === undefined || at < before) &&
            (filter.status === undefined || filter.status.includes(status))
          )
        })
        .sort((a, b) => (a.created_at + a.job_id < b.created_at + b.job_id ? -1 : 1))
        .slice(0, limit)
      gave.count += found.length
      return Stream.fromIterable(found)
    })) as ArcpClientService["list"]
  return { all, asked, gave, list, set: (entry: Entry) => void all.set(entry.job_id, entry) }
}

/** Keeps a table for as long as the scope; `read` says whether all that there was is read. */
const keeping = (list: ArcpClientService["list"], { isHidden = (): boolean => false } = {}) =>
  Effect.gen(function* () {
    const table = new JobTable()
    const asked = yield* Queue.sliding<void>(1)
    const told = { read: false, looks: 0 }
    yield* Effect.forkScoped(
      Listing.keep({
        list,
        table,
        asked: Queue.take(asked),
        isHidden,
        onChange: () => {},
        onRead: () => {
          told.read = true
        },
        onLook: () => {
          told.looks++
        }
      })
    )
    return { table, told, lookAgain: Queue.offer(asked, undefined) }
  })

const ids = (table: JobTable) => Array.from(table.entries, ({ job_id }) => job_id).sort()

describe("the list of jobs", () => {
  it.scoped("has what there is, the newest first, and what was submitted between two looks", () =>
    Effect.gen(function* () {
      const now = 1_000 * hour
      yield* TestClock.setTime(now)
      const there = [0, 1, 20, 300, 900].map((hours) => job(`h${hours}`, now - hours * hour - 1))
      const { list, set } = runtime(
        ...there,
        job("edge", now - 15 * 60_000),
        job("runs", now - 30 * hour, "running")
      )
      const { table, told } = yield* keeping(list)
      yield* TestClock.adjust(0)
      assert.isTrue(told.read)
      assert.deepStrictEqual(ids(table), ["edge", "h0", "h1", "h20", "h300", "h900", "runs"])
      // Short ones before one that still runs: they are seen, although that is seen first.
      yield* TestClock.adjust("8 seconds")
      for (const [i, id] of ["s1", "s2"].entries()) set(job(id, now + 100 + i))
      set(job("newest", now + 7_900, "running"))
      set(job("runs", now - 30 * hour))
      yield* TestClock.adjust("3 seconds")
      assert.includeMembers(ids(table), ["s1", "s2", "newest"])
      assert.strictEqual(table.get("runs")?.status, "success")
      // And one that is seen later than others that were submitted after it.
      set(job("late", now + 7_900 - 4_000))
      yield* TestClock.adjust("3 seconds")
      assert.includeMembers(ids(table), ["late"])
    })
  )

  it.scoped("is there when there are none, whatever this clock says", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_000 * hour)
      const { list, set } = runtime()
      const { table } = yield* keeping(list)
      yield* TestClock.adjust("1 second")
      set(job("short", 900 * hour))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(ids(table), ["short"])
    })
  )

  it.scoped("looks for what is new while what is older is read", () =>
    Effect.gen(function* () {
      const now = 1_000 * hour
      yield* TestClock.setTime(now)
      const { list, set } = runtime(job("first", now - 1))
      const slow = ((filter, options) =>
        filter?.created_before === undefined ? list(filter, options) : Stream.never) as typeof list
      const { table, told } = yield* keeping(slow)
      set(job("new", now + 1, "running"))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(ids(table), ["first", "new"])
      assert.isFalse(told.read)
    })
  )

  it.scoped("keeps the newest 20 000 and those that run, and reads no more", () =>
    Effect.gen(function* () {
      const now = 10_000 * hour
      yield* TestClock.setTime(now)
      const many = (name: string, count: number, from: number) =>
        Array.from({ length: count }, (_, i) => job(`${name}${i}`, from + i * 100))
      const { asked, gave, list } = runtime(
        ...many("new", 5_000, now - 10 * 60_000),
        ...many("day", 30_000, now - 12 * hour),
        ...many("old", 30_000, now - 5_000 * hour),
        job("runs", now - 6_000 * hour, "running")
      )
      const { table, told } = yield* keeping(list)
      yield* TestClock.adjust(0)
      assert.isTrue(told.read)
      assert.isTrue(table.isCut)
      assert.isAtLeast(table.size, 20_000)
      assert.isAtMost(table.size, 21_000)
      const known = new Set(ids(table))
      for (let i = 0; i < 5_000; i++) assert.isTrue(known.has(`new${i}`), `new${i}`)
      assert.isTrue(known.has("runs"))
      assert.isTrue(known.has("day29999"))
      assert.isFalse(known.has("day0"))
      assert.isAtMost(gave.count, 36_000)
      // Nothing that it has let go of comes again, with whatever is asked.
      const size = table.size
      asked.length = 0
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(table.size, size)
      assert.isAbove(asked.length, 10)
    })
  )

  it("never takes again what it has let go of, wherever a stretch that was read begins", () => {
    const table = new JobTable()
    const jobs = Array.from({ length: 22_000 }, (_, i) => job(`j${i}`, 1_000 + i))
    table.take(jobs)
    table.cutAt(new Date(1_010).toISOString())
    assert.isFalse(table.take(jobs.slice(0, 100)))
    assert.strictEqual(table.size, 20_000)
  })

  it.scoped("is whole again when nothing is left of what it has left out", () =>
    Effect.gen(function* () {
      const now = 10_000 * hour
      yield* TestClock.setTime(now)
      const { all, list } = runtime(
        ...Array.from({ length: 22_000 }, (_, i) => job(`j${i}`, now - 12 * hour + i * 100)),
        job("old", now - 5_000 * hour),
        job("runs", now - 6_000 * hour, "running")
      )
      const { table } = yield* keeping(list)
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(table.isCut)
      const known = new Set(ids(table))
      for (const id of all.keys()) if (!known.has(id) && id !== "old") all.delete(id)
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(table.isCut)
      all.delete("old")
      yield* TestClock.adjust("30 seconds")
      assert.isFalse(table.isCut)
    })
  )

  it.scoped("lets go of what is not there any more, by asking for some at a time", () =>
    Effect.gen(function* () {
      const now = 1_000 * hour
      yield* TestClock.setTime(now)
      const { all, gave, list } = runtime(
        ...Array.from({ length: 1_200 }, (_, i) => job(`j${i}`, now - i * 60_000 - 1)),
        job("runs", now - 1, "running")
      )
      let hidden = true
      const { table } = yield* keeping(list, { isHidden: () => hidden })
      yield* TestClock.adjust(0)
      assert.strictEqual(table.size, 1_201)
      for (const id of ["j0", "j499", "j500", "j1199"]) all.delete(id)
      gave.count = 0
      yield* TestClock.adjust("5 minutes")
      // Nobody sees it.
      assert.isAtMost(gave.count, 31 * 4)
      hidden = false
      yield* TestClock.adjust("40 seconds")
      assert.strictEqual(table.size, 1_197)
      for (const id of ["j0", "j499", "j500", "j1199"]) assert.isUndefined(table.get(id))
    })
  )

  it.scoped("asks for what has ended by the time of it, and for nothing that is between", () =>
    Effect.gen(function* () {
      const now = 1_000 * hour
      yield* TestClock.setTime(now)
      const { gave, list, set } = runtime(
        ...Array.from({ length: 5_000 }, (_, i) => job(`j${i}`, now - 2 * hour - i * 60_000)),
        ...["a", "b"].map((id) => job(id, now - 2 * hour - 1, "running")),
        job("c", now - 80 * hour, "running")
      )
      const { table } = yield* keeping(list)
      yield* TestClock.adjust(0)
      set(job("a", now - 2 * hour - 1))
      set(job("c", now - 80 * hour, "error"))
      gave.count = 0
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual(
        ["a", "b", "c"].map((id) => table.get(id)?.status),
        ["success", "running", "error"]
      )
      assert.isAtMost(gave.count, 10)
    })
  )

  it.scoped("looks at once when somebody wants it, and waits no longer for those who do not", () =>
    Effect.gen(function* () {
      const { list } = runtime()
      const { lookAgain, told } = yield* keeping(list)
      yield* TestClock.adjust(0)
      assert.strictEqual(told.looks, 1)
      yield* lookAgain
      yield* TestClock.adjust(0)
      assert.strictEqual(told.looks, 2)
    })
  )

  it("leaves nothing where it waits for somebody to want it, however often it looks", async () => {
    vi.useFakeTimers()
    vi.stubGlobal("document", { hidden: false })
    const { lookAgain } = await import("../../src/programs/console/state/jobs.js")
    // Reactions on each promise.
    const times = new Map<unknown, number>()
    const { prototype } = Promise
    const method = "then"
    const before = prototype[method]
    const set = (value: unknown) =>
      Object.defineProperty(prototype, method, { value, configurable: true, writable: true })
    set(function (this: Promise<unknown>, ...args: Parameters<typeof before>) {
      times.set(this, (times.get(this) ?? 0) + 1)
      return before.apply(this, args)
    })
    const { asked, list } = runtime()
    ;(client.value as { value: unknown }).value = { list }
    try {
      lookAgain()
      await vi.advanceTimersByTimeAsync(Duration.toMillis("10 minutes"))
      assert.isAbove(asked.length, 100)
      assert.isAtMost(
        [...times.values()].reduce((most, n) => Math.max(most, n), 0),
        5
      )
    } finally {
      set(before)
      ;(client.value as { value: unknown }).value = undefined
      await vi.advanceTimersByTimeAsync(1)
    }
  })
})
