/** Which jobs the console follows, and what it holds of them, without a browser. */
import { signal } from "@preact/signals"
import * as Effect from "effect/Effect"
import * as fc from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { assert, describe, it, vi } from "vitest"
import { Held } from "../../src/programs/console/model/Held.js"
import { Pieces, type Streamed } from "../../src/programs/console/model/Streamed.js"
import { catchingUp } from "../../src/programs/console/state/catchingUp.js"
import { inTurn } from "../../src/programs/console/state/turns.js"
import { InvalidRequest, JobNotFound, PermissionDenied } from "../../src/protocol/Errors.js"
import type { JobEvent } from "../../src/services/client/ArcpClient.js"

const { client } = vi.hoisted(() => ({ client: { value: undefined as unknown } }))
vi.mock("../../src/programs/console/state/connection.js", () => {
  const made = signal<unknown>(undefined)
  client.value = made
  return { client: made }
})
const { dropped, watchers } = vi.hoisted(() => ({
  dropped: [] as Array<string>,
  watchers: [] as Array<(jobId: string) => void>
}))
vi.mock("../../src/programs/console/state/jobs.js", () => ({
  table: Object.assign(new Map(), {
    drop: (jobId: string) => {
      dropped.push(jobId)
      for (const onDrop of watchers) onDrop(jobId)
    },
    watchDrops: (onDrop: (jobId: string) => void) => watchers.push(onDrop)
  }),
  version: signal(0)
}))

/** What a job has that has delegated: as many events as children. */
const delegations = (children: ReadonlyArray<string>): ReadonlyArray<JobEvent> =>
  children.map((id, i) => ({
    kind: "delegate",
    ts: new Date(i).toISOString(),
    eventSeq: i + 1,
    body: { delegate_id: id, agent: "child", input: null, lease_request: {} }
  }))

/** A client of jobs that have each delegated to 30, two deep, none of which ends. */
const tree = () => {
  const open = new Set<string>()
  const below = (jobId: string): ReadonlyArray<string> =>
    jobId.split(".").length > 2 ? [] : Array.from({ length: 30 }, (_, i) => `${jobId}.${i}`)
  return {
    open,
    subscribe: (jobId: string) =>
      Effect.as(
        Effect.acquireRelease(
          Effect.sync(() => open.add(jobId)),
          () => Effect.sync(() => open.delete(jobId))
        ),
        {
          subscribed: { job_id: jobId, agent: "a@1", current_status: "running" },
          events: Stream.concat(Stream.fromIterable(delegations(below(jobId))), Stream.never),
          chunks: Stream.never,
          result: Effect.never
        }
      ),
    list: ({ parent_job_id: parent }: { readonly parent_job_id: string }) =>
      Stream.fromIterable(below(parent).map((job_id) => ({ job_id, delegate_id: job_id })))
  }
}

describe("jobs that are followed", () => {
  it("are bounded, and what is looked at, and all that is shown below it, goes on", async () => {
    vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run))
    const { follow } = await import("../../src/programs/console/state/follow.js")
    const runtime = tree()
    ;(client.value as { value: unknown }).value = runtime
    const shown = (job: ReturnType<typeof follow>): ReadonlyArray<string> => [
      job.jobId,
      ...job.children.value.flatMap((child) => shown(child.job))
    ]
    const looked = follow("job")
    await vi.waitFor(() => assert.isAbove(shown(looked).length, 25), { timeout: 30_000, interval: 50 })
    assert.include([...runtime.open], "job")
    assert.isAtMost(shown(looked).length, 48)
    for (const jobId of shown(looked)) assert.include([...runtime.open], jobId)
    assert.isTrue(looked.hasMore.value)
    // The next one that is looked at takes its place.
    const next = follow("next")
    await vi.waitFor(() => assert.isAbove(shown(next).length, 24), { timeout: 30_000, interval: 50 })
    for (const jobId of shown(next)) assert.include([...runtime.open], jobId)
    assert.notInclude([...runtime.open], "job")
    assert.isAtMost(runtime.open.size, 48)
    assert.notStrictEqual(follow("job"), looked)
    ;(client.value as { value: unknown }).value = undefined
  })

  it("are not in the list any more when they have been deleted", async () => {
    vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run))
    const { follow } = await import("../../src/programs/console/state/follow.js")
    ;(client.value as { value: unknown }).value = {
      subscribe: (jobId: string) =>
        Effect.fail(
          jobId === "deleted"
            ? new JobNotFound({ message: "no such job" })
            : new PermissionDenied({ message: "this job may be listed, but not subscribed to" })
        )
    }
    const jobs = ["secret", "deleted"].map(follow)
    await vi.waitFor(() => {
      for (const job of jobs) assert.isDefined(job.problem.value)
    })
    assert.deepStrictEqual(dropped, ["deleted"])
    ;(client.value as { value: unknown }).value = undefined
  })

  it("are known to be read in part while what comes is of the past", () =>
    Effect.gen(function* () {
      const hour = 3_600_000
      yield* TestClock.setTime(10 * hour)
      const isBehind = { value: false }
      const times: Array<number> = []
      const reading = yield* Effect.fork(catchingUp(isBehind, times))
      yield* TestClock.adjust("3 seconds")
      assert.isFalse(isBehind.value)
      // An hour of it comes each second, and the runtime's clock is ahead.
      for (let i = 0; i < 9; i++) {
        times.push(i * hour + 5_000)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(isBehind.value, i > 0)
      }
      // What comes from now on is as old each time.
      times.push(10 * hour + 14_000)
      yield* TestClock.adjust("1 second")
      times.push(10 * hour + 15_000)
      yield* TestClock.adjust("1 second")
      assert.isFalse(isBehind.value)
      assert.isNotNull(yield* Fiber.poll(reading).pipe(Effect.map(Option.getOrNull)))
    }).pipe(Effect.provide(TestContext.TestContext), Effect.runPromise))

  it("are forgotten with all that was known of them when they are not there any more", async () => {
    vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run))
    const { follow, verify } = await import("../../src/programs/console/state/follow.js")
    let isThere = true
    const handle = {
      subscribed: { job_id: "forgotten", agent: "a@1", current_status: "success" },
      events: Stream.fromIterable(delegations(["child"])),
      chunks: Stream.empty,
      result: Effect.succeed("secret"),
      completedAt: Effect.succeed(undefined)
    }
    ;(client.value as { value: unknown }).value = {
      subscribe: () =>
        Effect.suspend(() =>
          isThere ? Effect.succeed(handle) : new JobNotFound({ message: "no such job" })
        ),
      list: () => Stream.empty
    }
    const job = follow("forgotten")
    await vi.waitFor(() => assert.deepStrictEqual(job.model.end, { status: "success", result: "secret" }))
    await verify("forgotten")
    assert.strictEqual(job.model.events.length, 1)
    isThere = false
    await verify("forgotten")
    assert.isUndefined(job.model.end)
    assert.strictEqual(job.model.events.length, 0)
    assert.strictEqual(job.problem.value?.code, "JOB_NOT_FOUND")
    assert.isUndefined(job.subscribed.value)
    ;(client.value as { value: unknown }).value = undefined
  })

  it("are followed when nobody else has a handle on them any more", async () => {
    vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run))
    const { follow } = await import("../../src/programs/console/state/follow.js")
    let isAsked = true
    let answer = () => {}
    const answered = new Promise<void>((resolve) => {
      answer = resolve
    })
    const asking = Effect.runPromise(
      inTurn(
        "spends",
        Effect.map(
          Effect.promise(() => answered),
          () => {
            isAsked = false
          }
        )
      )
    )
    ;(client.value as { value: unknown }).value = {
      subscribe: (jobId: string) =>
        Effect.suspend(() =>
          isAsked
            ? Effect.fail(new InvalidRequest({ message: "it has a handle" }))
            : Effect.succeed({
                subscribed: { job_id: jobId, agent: "a@1", current_status: "running" },
                events: Stream.never,
                chunks: Stream.never,
                result: Effect.never
              })
        ),
      list: () => Stream.empty
    }
    const job = follow("spends")
    answer()
    await asking
    await vi.waitFor(() => assert.isDefined(job.subscribed.value), { timeout: 30_000, interval: 20 })
    assert.isUndefined(job.problem.value)
    ;(client.value as { value: unknown }).value = undefined
  })

  it("have ended well when what they have streamed is empty", async () => {
    vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run))
    const { follow } = await import("../../src/programs/console/state/follow.js")
    const chunk = { result_id: "r", chunk_seq: 0, data: "", encoding: "utf8", more: false }
    ;(client.value as { value: unknown }).value = {
      subscribe: (jobId: string) =>
        Effect.succeed({
          subscribed: { job_id: jobId, agent: "a@1", current_status: "success" },
          events: Stream.make({
            kind: "result_chunk",
            ts: new Date(0).toISOString(),
            eventSeq: 1,
            body: chunk
          }),
          chunks: Stream.make(new Uint8Array()),
          completedAt: Effect.succeed("1970-01-01T00:00:06.000Z"),
          result: Effect.fail(new InvalidRequest({ message: "use result or chunks" }))
        }),
      list: () => Stream.empty
    }
    const job = follow("empty")
    await vi.waitFor(() => assert.isDefined(job.model.end), { timeout: 30_000, interval: 20 })
    const { end } = job.model
    assert.strictEqual(end?.status, "success")
    // Long after the last that it has said.
    assert.strictEqual(job.model.endedAt, 6_000)
    assert.strictEqual(((end as { readonly result?: unknown }).result as Streamed).content, "")
    ;(client.value as { value: unknown }).value = undefined
  })

  it("tell who has delegated to them when they end, and does not have to look", async () => {
    vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run))
    const { follow } = await import("../../src/programs/console/state/follow.js")
    let end = () => {}
    const ended = new Promise<void>((resolve) => {
      end = resolve
    })
    let lists = 0
    const handle = { agent: "a@1", current_status: "running" }
    ;(client.value as { value: unknown }).value = {
      subscribe: (jobId: string) =>
        jobId === "parent"
          ? Effect.succeed({
              subscribed: { ...handle, job_id: jobId },
              events: Stream.concat(Stream.fromIterable(delegations(["child"])), Stream.never),
              chunks: Stream.never,
              result: Effect.never
            })
          : jobId !== "child"
            ? Effect.never
            : Effect.succeed({
                subscribed: { ...handle, job_id: jobId },
                events: Stream.empty,
                chunks: Stream.execute(Effect.promise(() => ended)),
                completedAt: Effect.succeed("1970-01-01T00:00:06.000Z"),
                result: Effect.succeed(1)
              }),
      list: ({ parent_job_id: parent }: { readonly parent_job_id: string }) =>
        parent !== "parent"
          ? Stream.empty
          : lists++ === 0
            ? Stream.make({ job_id: "child", delegate_id: "child" })
            : Stream.never
    }
    const job = follow("parent")
    await vi.waitFor(() => assert.lengthOf(job.children.value, 1), { timeout: 30_000, interval: 20 })
    assert.strictEqual(job.model.spans[0]?.outcome, "open")
    end()
    await vi.waitFor(() => assert.strictEqual(job.model.spans[0]?.outcome, "ended"), {
      timeout: 30_000,
      interval: 20
    })
    assert.strictEqual(job.model.spans[0]?.endedAt, 6_000)
    ;(client.value as { value: unknown }).value = undefined
  })

  it.each(["running", "ended"])(
    "are looked for four deep below who is looked at, when they are %s",
    async (how) => {
      vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run))
      const { follow } = await import("../../src/programs/console/state/follow.js")
      const name = (depth: number) => `${how}-${depth}`
      const below = (jobId: string) => jobId.replace(/\d+$/, (depth) => String(Number(depth) + 1))
      ;(client.value as { value: unknown }).value = {
        subscribe: (jobId: string) =>
          Effect.succeed({
            subscribed: { agent: "a@1", current_status: how === "ended" ? "success" : how, job_id: jobId },
            events: Stream.concat(
              Stream.fromIterable(delegations([below(jobId)])),
              how === "ended" ? Stream.empty : Stream.never
            ),
            chunks: how === "ended" ? Stream.empty : Stream.never,
            completedAt: Effect.succeed("1970-01-01T00:00:06.000Z"),
            result: Effect.succeed(1)
          }),
        list: ({ parent_job_id: parent }: { readonly parent_job_id: string }) =>
          Stream.make({ job_id: below(parent), delegate_id: below(parent) })
      }
      const shown = (job: ReturnType<typeof follow>): ReadonlyArray<string> => [
        job.jobId,
        ...job.children.value.flatMap((child) => shown(child.job))
      ]
      const until = (job: ReturnType<typeof follow>, from: number, to: number) =>
        vi.waitFor(
          () =>
            assert.deepStrictEqual(
              shown(job),
              Array.from({ length: to - from + 1 }, (_, i) => name(from + i))
            ),
          { timeout: 30_000, interval: 20 }
        )
      await until(follow(name(0)), 0, 4)
      // One of them is looked at itself.
      const inner = follow(name(3))
      await until(inner, 3, 7)
      const last = follow(name(7))
      await until(last, 7, 11)
      ;(client.value as { value: unknown }).value = undefined
    }
  )

  it("hold no more together than the bounds, whatever is looked at, added and grows", () => {
    const bounds = { jobs: 6, bytes: 20 }
    const operation = fc.record({
      what: fc.constantFrom("look", "add", "grow"),
      id: fc.nat(12).map(String),
      other: fc.nat(12).map(String),
      bytes: fc.integer({ min: 1, max: 9 })
    })
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const jobs = new Map<string, { readonly jobId: string; bytes: number }>()
        const held = new Held<{ readonly jobId: string; bytes: number }>(bounds, (job) => {
          assert.isTrue(jobs.delete(job.jobId))
        })
        let looked: string | undefined
        for (const { bytes, id, other, what } of operations) {
          const known = held.get(id)
          if (what === "look") {
            looked = id
            if (known === undefined) {
              const job = { jobId: id, bytes: 0 }
              jobs.set(id, job)
              held.begin(job)
            } else held.look(id)
          } else if (what === "add") {
            if (known !== undefined) held.join(id, other)
            else if (held.add({ jobId: id, bytes: 0 }, other)) {
              const job = held.get(id)
              if (job !== undefined) jobs.set(id, job)
            }
          } else if (known !== undefined && held.grow(id, bytes)) known.bytes += bytes
          assert.isAtMost(held.size, bounds.jobs)
          assert.deepStrictEqual([...held.values()].map(({ jobId }) => jobId).sort(), [...jobs.keys()].sort())
          const all = [...held.values()].reduce((sum, job) => sum + job.bytes, 0)
          assert.isAtMost(all, bounds.bytes)
          if (looked !== undefined) assert.isDefined(held.get(looked))
        }
      })
    )
  })

  it("make way in the order in which they were looked at, whichever grows", () => {
    const held = new Held<{ readonly jobId: string; bytes: number }>({ jobs: 9, bytes: 10 }, () => {})
    for (const jobId of ["old", "middle", "new"]) held.begin({ jobId, bytes: 3 })
    const ids = () => [...held.values()].map(({ jobId }) => jobId)
    assert.isFalse(held.grow("old", 2))
    assert.deepStrictEqual(ids(), ["old", "middle", "new"])
    assert.isTrue(held.grow("middle", 2))
    assert.deepStrictEqual(ids(), ["middle", "new"])
  })

  it("that were cut for want of room are followed anew when they are looked at", async () => {
    vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run))
    const { follow } = await import("../../src/programs/console/state/follow.js")
    const sizes = new Map([
      ["background", 30_000_000],
      ["one", 60_000_000],
      ["two", 60_000_000]
    ])
    const begun: Array<string> = []
    let goOn = () => {}
    const others = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const chunk = { result_id: "r", chunk_seq: 0, data: "", encoding: "base64", more: false }
    ;(client.value as { value: unknown }).value = {
      subscribe: (jobId: string) =>
        // Those of the tests before are asked for again, too.
        Effect.flatMap(sizes.has(jobId) ? Effect.void : Effect.never, () => {
          begun.push(jobId)
          const bytes = new Uint8Array(sizes.get(jobId) ?? 0)
          const ended = { kind: "result_chunk", ts: new Date(0).toISOString(), eventSeq: 1, body: chunk }
          return Effect.succeed({
            subscribed: { job_id: jobId, agent: "a@1", current_status: "success" },
            events: Stream.make(ended),
            chunks:
              jobId === "background"
                ? Stream.fromEffect(
                    Effect.as(
                      Effect.promise(() => others),
                      bytes
                    )
                  )
                : Stream.make(bytes),
            completedAt: Effect.succeed("1970-01-01T00:00:06.000Z"),
            result: Effect.fail(new InvalidRequest({ message: "use result or chunks" }))
          })
        }),
      list: () => Stream.empty
    }
    const resultOf = async (jobId: string) => {
      const job = follow(jobId)
      await vi.waitFor(() => assert.isDefined(job.model.end), { timeout: 30_000, interval: 20 })
      return (job.model.end as { readonly result?: unknown }).result as Streamed
    }
    const background = follow("background")
    for (const jobId of ["one", "two"]) assert.isTrue((await resultOf(jobId)).isWhole)
    goOn()
    await vi.waitFor(() => assert.isDefined(background.model.end), { timeout: 30_000, interval: 20 })
    assert.isFalse(((background.model.end as { readonly result?: unknown }).result as Streamed).isWhole)
    assert.strictEqual(follow("background"), background)
    await vi.waitFor(
      () => {
        const { end } = background.model
        assert.isTrue(((end as { readonly result?: unknown } | undefined)?.result as Streamed)?.isWhole)
      },
      { timeout: 30_000, interval: 20 }
    )
    assert.deepStrictEqual(begun, ["background", "one", "two", "background"])
    ;(client.value as { value: unknown }).value = undefined
  })

  it("of a result keep the first pieces for which there is room, and count the rest", () => {
    let room = 10
    const pieces = new Pieces((bytes) => {
      if (bytes > room) return false
      room -= bytes
      return true
    })
    for (const size of [4, 5, 3, 1]) pieces.add(new Uint8Array(size))
    const { kept, size } = pieces.whole(false)
    assert.deepStrictEqual([kept, size, pieces.kept], [9, 13, 9])
  })
})
