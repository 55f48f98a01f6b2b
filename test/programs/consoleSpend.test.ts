/** What the console's list says of budgets. */
import { signal } from "@preact/signals"
import * as Effect from "effect/Effect"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { empty, ended } from "../../src/programs/console/model/JobModel.js"
import type { Entry } from "../../src/programs/console/model/JobTable.js"
import { left, wanted } from "../../src/programs/console/state/spend.js"
import { inTurn } from "../../src/programs/console/state/turns.js"

const { client, followed } = vi.hoisted(() => ({
  client: { value: undefined as unknown },
  followed: new Map<string, unknown>()
}))
vi.mock("../../src/programs/console/state/connection.js", () => {
  const made = signal<unknown>(undefined)
  client.value = made
  return { client: made }
})
vi.mock("../../src/programs/console/state/follow.js", () => ({
  known: (jobId: string) => followed.get(jobId)
}))

const entry = (job_id: string, last_event_seq: number): Entry => ({
  job_id,
  agent: "a@1.0.0",
  status: "running",
  lease: { "cost.budget": ["USD:5"] },
  parent_job_id: null,
  created_at: new Date(0).toISOString(),
  last_event_seq
})

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const serve = (answers: Array<string | undefined>) => {
  const asked: Array<string> = []
  ;(client.value as { value: unknown }).value = {
    subscribe: (jobId: string) =>
      Effect.suspend(() => {
        asked.push(jobId)
        const budget = answers.shift()
        return budget === undefined
          ? Effect.fail("away")
          : Effect.succeed({ subscribed: { budget: { USD: budget } } })
      })
  }
  return asked
}

const leftOf = (jobId: string) => left.value.get(jobId)?.get("USD")

describe("what is spent", () => {
  it("is asked for again when it could not be told, and is asked for once until it is", async () => {
    const asked = serve([undefined, "4"])
    for (let i = 0; i < 5; i++) wanted([entry("failed", 7)])
    await vi.advanceTimersByTimeAsync(9_000)
    wanted([entry("failed", 7)])
    await vi.advanceTimersByTimeAsync(0)
    assert.deepStrictEqual([asked, leftOf("failed")], [["failed"], undefined])
    await vi.advanceTimersByTimeAsync(1_000)
    wanted([entry("failed", 7)])
    await vi.advanceTimersByTimeAsync(0)
    assert.strictEqual(leftOf("failed"), 4)
    await vi.advanceTimersByTimeAsync(20_000)
    wanted([entry("failed", 7)])
    await vi.advanceTimersByTimeAsync(0)
    assert.strictEqual(asked.length, 2)
  })

  it("is asked for while nobody else has a handle on the job", async () => {
    let answer = () => {}
    const answered = new Promise<void>((resolve) => {
      answer = resolve
    })
    ;(client.value as { value: unknown }).value = {
      subscribe: () =>
        Effect.as(
          Effect.promise(() => answered),
          { subscribed: { budget: { USD: "2" } } }
        )
    }
    wanted([entry("opened", 1)])
    let isFollowed = false
    const following = Effect.runPromise(
      inTurn(
        "opened",
        Effect.sync(() => {
          isFollowed = true
        })
      )
    )
    await vi.advanceTimersByTimeAsync(100)
    assert.isFalse(isFollowed)
    answer()
    await vi.advanceTimersByTimeAsync(100)
    await following
    assert.strictEqual(leftOf("opened"), 2)
  })

  it("is by the events of a job that is followed, again and again until its end is known", async () => {
    serve([])
    const model = empty()
    const job = { model, subscribed: signal<unknown>(undefined) }
    followed.set("seen", job)
    const want = async () => {
      await vi.advanceTimersByTimeAsync(10_000)
      wanted([entry("seen", 9)])
      await vi.advanceTimersByTimeAsync(0)
      return leftOf("seen")
    }
    // Nothing of it has come.
    assert.isUndefined(await want())
    job.subscribed.value = { budget: { USD: "3" } }
    assert.strictEqual(await want(), 3)
    const spend = () => model.spent.push({ index: -1, at: 0, value: { currency: "USD", amount: 4 } })
    spend()
    assert.strictEqual(await want(), 1)
    ended(model, { status: "success", result: null })
    assert.strictEqual(await want(), 1)
    spend()
    assert.strictEqual(await want(), 1)
  })
})
