import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import type { JobEvent } from "../../src/promise.js"
import {
  Arcp,
  type ConnectOptions,
  Detached,
  Errors,
  isRetryable,
  TransportError
} from "../../src/promise.js"
import { Count, Picky } from "../support/agents.js"
import { Gated, host, silent } from "./host.js"

let runtime: Awaited<ReturnType<typeof host>>
beforeAll(async () => {
  runtime = await host()
})
afterAll(() => runtime.stop())

const connect = (options: Partial<ConnectOptions> = {}) =>
  Arcp.connect({
    token: "alice",
    reconnectDelay: () => 0,
    dialer: runtime.dialer,
    ...options
  } as ConnectOptions)

const all = async <A>(items: AsyncIterable<A>): Promise<Array<A>> => {
  const seen: Array<A> = []
  for await (const item of items) seen.push(item)
  return seen
}
const numbers = (events: ReadonlyArray<JobEvent>) =>
  events.flatMap((event) => (event.kind === "log" ? [Number(event.body.message)] : []))
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)
/** What a promise is rejected with. */
const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => assert.fail("it was not rejected"),
    (error: unknown) => error
  )

describe("Arcp", () => {
  it("gives events, and a result that the contract types", async () => {
    const arcp = await connect()
    const job = await arcp.submit(Count, { to: 3 })
    assert.match(job.jobId, /^job_/)
    assert.strictEqual(job.agent, "count@1.0.0")
    const events = await all(job.events)
    assert.deepStrictEqual(
      events.map(({ eventSeq, kind }) => [eventSeq, kind]),
      [
        [1, "status"],
        [2, "log"],
        [3, "log"],
        [4, "log"]
      ]
    )
    const result: number = await job.result
    assert.strictEqual(result, 3)
    assert.strictEqual(await job.result, 3)
    await arcp.close()
  })

  it("rejects with the protocol's errors and the contract's failures", async () => {
    const arcp = await connect()
    const unknown = await rejection(arcp.submit("nobody", {}))
    assert(unknown instanceof Errors.AgentNotAvailable)
    assert.deepStrictEqual([unknown.code, unknown.retryable], ["AGENT_NOT_AVAILABLE", false])
    assert.match(String(unknown), /^AgentNotAvailable: .*nobody/)
    const wrong = await rejection(arcp.submit(Count, { to: "x" } as never))
    assert(wrong instanceof Errors.InvalidRequest)
    const picky = await arcp.submit(Picky, "bad")
    assert.deepStrictEqual(await rejection(picky.result), { _tag: "NotThat", what: "bad" })
    const denied = await rejection(connect({ token: "nobody" }))
    assert(denied instanceof Errors.Unauthenticated)
    await arcp.close()
  })

  it("an unawaited rejection is no unhandled one, asked for or not", async () => {
    const unhandled: Array<unknown> = []
    const listener = (error: unknown) => void unhandled.push(error)
    process.on("unhandledRejection", listener)
    const arcp = await connect()
    const silent = await arcp.submit(Picky, "bad")
    await all(silent.events)
    const asked = await arcp.submit(Picky, "bad")
    const result = asked.result
    await all(asked.events)
    await arcp.ping()
    // Such rejections are reported once the microtasks are done.
    await new Promise((resolve) => setImmediate(resolve))
    process.off("unhandledRejection", listener)
    assert.deepStrictEqual(unhandled, [])
    assert.deepStrictEqual(await rejection(result), { _tag: "NotThat", what: "bad" })
    await arcp.close()
  })

  it("a loop that is left leaves the rest to the next one", async () => {
    const arcp = await connect()
    const job = await arcp.submit(Count, { to: 20 })
    const seen: Array<JobEvent> = []
    for (let to = 7; to <= 28; to += 7)
      for await (const event of job.events) {
        seen.push(event)
        if (seen.length === to) break
      }
    assert.deepStrictEqual(numbers(seen), upTo(20))
    assert.strictEqual(await job.result, 20)
    await arcp.close()
  })

  it("a reader that leaves while it waits is let go at once, and two at a time are refused", async () => {
    const arcp = await connect()
    const job = await arcp.submit("forever", {})
    const events = job.events[Symbol.asyncIterator]()
    assert.strictEqual((await events.next()).value.kind, "status")
    const pending = events.next()
    assert((await rejection(all(job.events))) instanceof Errors.InvalidRequest)
    assert.deepStrictEqual(await events.return?.(), { done: true, value: undefined })
    assert.deepStrictEqual(await pending, { done: true, value: undefined })
    await job.cancel("enough")
    assert.deepStrictEqual(await all(job.events), [])
    assert(((await rejection(job.result)) as Errors.Cancelled).code === "CANCELLED")
    await arcp.close()
  })

  it("takes what is read: more than is held comes from the runtime's log, through drops", async () => {
    const arcp = await connect({ held: { events: 10 } })
    const job = await arcp.submit(Count, { to: 500 })
    const seen: Array<JobEvent> = []
    for await (const event of job.events) {
      seen.push(event)
      if (seen.length % 97 === 0) await arcp.dropTransport()
    }
    assert.deepStrictEqual(numbers(seen), upTo(500))
    await arcp.close()
  })

  it("gives streamed results whole, and as bytes", async () => {
    const arcp = await connect()
    const input = { encoding: "utf8", parts: ["ab", "çd", "€"] }
    assert.strictEqual(await (await arcp.submit("stream", input)).result, "abçd€")
    const bytes = await all((await arcp.submit("stream", input)).chunks)
    assert.strictEqual(Buffer.concat(bytes).toString(), "abçd€")
    const job = await arcp.submit("stream", input)
    assert((await rejection(job.saveResult("result.txt"))) instanceof Errors.InvalidRequest)
    assert.strictEqual(await job.result, "abçd€")
    await arcp.close()
  })

  it("has what is only interesting as it is now", async () => {
    const arcp = await connect()
    const lease = { "cost.budget": ["USD:5"] }
    const job = await arcp.submit("spender", {}, { leaseRequest: lease })
    assert.deepStrictEqual(job.lease, lease)
    assert.strictEqual(await job.result, "done")
    assert.deepStrictEqual(job.progress.current, { current: 2, total: 2 })
    assert.strictEqual(job.budget.current.get("USD"), 2)
    assert.deepStrictEqual(await all(job.progress), [{ current: 2, total: 2 }])
    assert.deepStrictEqual(job.credentials.current, [])
    assert.strictEqual(arcp.status.current._tag, "Connected")
    const statuses: Array<string> = []
    for await (const { _tag } of arcp.status) {
      statuses.push(_tag)
      if (statuses.length === 1) void arcp.close()
    }
    assert.deepStrictEqual(statuses, ["Connected", "Closed"])
  })

  it("subscribes, lists, knows the agents, pings", async () => {
    await using arcp = await connect()
    await using other = await connect()
    const job = await arcp.submit("forever", {})
    const seen = await other.subscribe(job.jobId, { history: true })
    assert.strictEqual(seen.subscribed.current_status, "running")
    const listed = await all(other.list({ status: ["running"] }))
    assert(listed.some((entry) => entry.job_id === job.jobId))
    const more = await Promise.all([1, 2].map(() => arcp.submit("count", { to: 1 })))
    await Promise.all(more.map(({ result }) => result.catch(() => {})))
    const oldest = await all(other.list({}, { limit: 2 }))
    assert.deepStrictEqual(oldest, (await all(other.list())).slice(0, 2))
    assert.lengthOf(oldest, 2)
    assert(arcp.agents.some((agent) => agent.name === "count"))
    assert.isAtLeast(await arcp.ping(), 0)
    const refused = await rejection(other.cancel(job.jobId))
    assert(refused instanceof Errors.PermissionDenied)
    await job.cancel()
    assert((await rejection(seen.result)) instanceof Errors.Cancelled)
    assert.deepStrictEqual(
      (await all(seen.events)).map((event) => event.kind),
      ["status"]
    )
  })

  it("the next process goes on, and one key is one job", async () => {
    const kept = new Map<string, string>()
    const storage = {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: async (key: string, value: string) => void kept.set(key, value)
    }
    const first = await connect({ state: { storage } })
    const job = await first.submit(Count, { to: 9 }, { idempotencyKey: "nine" })
    for await (const event of job.events) if (event.eventSeq === 5) break
    await first.close()

    const second = await connect({ state: { storage } })
    assert.strictEqual(second.restored[0]?.idempotencyKey, "nine")
    assert.deepStrictEqual(
      second.restored.map(({ jobId }) => jobId),
      [job.jobId]
    )
    const attached = await second.attach(job.jobId, { contract: Count })
    assert.deepStrictEqual(numbers(await all(attached.events)), upTo(9).slice(3))
    assert.strictEqual((await attached.result) + 1, 10)
    const again = await second.submit(Count, { to: 9 }, { idempotencyKey: "nine" })
    assert.strictEqual(again.jobId, job.jobId)
    const other = await rejection(second.submit(Count, { to: 8 }, { idempotencyKey: "nine" }))
    assert(other instanceof Errors.DuplicateKey)
    assert((await rejection(second.attach(job.jobId))) instanceof Errors.JobNotFound)
    await second.close()
  })
})

describe("an AbortSignal", () => {
  const reason = new Error("never mind")
  const statusOf = async (arcp: Arcp) => (await all(arcp.list({ agent: "forever" }))).at(-1)?.status

  it("aborted before the submit, nothing is submitted", async () => {
    const arcp = await connect()
    const before = (await all(arcp.list())).length
    assert.strictEqual(
      await rejection(arcp.submit("forever", {}, { signal: AbortSignal.abort(reason) })),
      reason
    )
    assert.strictEqual((await all(arcp.list())).length, before)
    await arcp.close()
  })

  it("aborted before the job is accepted, no job is left", async () => {
    const arcp = await connect()
    const abort = new AbortController()
    const submitted = arcp.submit("forever", {}, { signal: abort.signal })
    abort.abort(reason)
    assert.strictEqual(await rejection(submitted), reason)
    while ((await all(arcp.list({ status: ["pending", "running"] }))).length > 0) await arcp.ping()
    await arcp.close()
  })

  it("aborted later, the job is cancelled", async () => {
    const arcp = await connect()
    const abort = new AbortController()
    const job = await arcp.submit("forever", {}, { signal: abort.signal })
    const looped = all(job.events)
    abort.abort(reason)
    assert((await rejection(job.result)) instanceof Errors.Cancelled)
    assert.strictEqual((await looped).length, 1)
    assert.strictEqual(await statusOf(arcp), "cancelled")
    await arcp.close()
  })

  it("is let go with the job's end, and when the job is detached from", async () => {
    const arcp = await connect()
    let listeners = 0
    const { signal } = new AbortController()
    const { addEventListener, removeEventListener } = signal
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners++
      addEventListener.apply(signal, args)
    }
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners--
      removeEventListener.apply(signal, args)
    }
    const ended = await arcp.submit(Count, { to: 1 }, { signal })
    const running = await arcp.submit("forever", {}, { signal })
    await ended.result
    await running.detach()
    await arcp.ping()
    assert.strictEqual(listeners, 0)
    await arcp.cancel(running.jobId)
    await arcp.close()
  })

  it("gives up what is not answered in time", async () => {
    const { dialer, stop } = await silent()
    const arcp = await connect({ dialer, requestTimeout: 20 })
    assert.deepInclude(await rejection(arcp.ping()), { code: "REQUEST_TIMEOUT", retryable: true })
    await arcp.close()
    await stop()
  })

  it("gives up connecting", async () => {
    const signal = AbortSignal.abort(reason)
    assert.strictEqual(await rejection(connect({ signal })), reason)
  })
})

describe("letting go", () => {
  it("detaching ends what waits here, and the job goes on", async () => {
    const arcp = await connect()
    const job = await arcp.submit(Gated, { before: 2, after: 2 })
    const events = job.events[Symbol.asyncIterator]()
    for (let i = 0; i < 4; i++) await events.next()
    const waiting = [job.result, events.next()].map(rejection)
    await job.detach()
    for (const error of await Promise.all(waiting)) assert(error instanceof Detached)
    assert((await rejection(all(job.events))) instanceof Detached)
    runtime.open()
    const again = await arcp.subscribe(job.jobId, { contract: Gated, history: true })
    assert.strictEqual(await again.result, 4)
    await arcp.close()
  })

  it("a result first asked for behind that is no unhandled rejection, whatever became of the job", async () => {
    const unhandled: Array<unknown> = []
    const note = (reason: unknown) => unhandled.push(reason)
    process.on("unhandledRejection", note)
    try {
      const arcp = await connect()
      const job = await arcp.submit(Picky, "bad")
      await all(job.events)
      await job.detach()
      assert((await rejection(job.result)) instanceof Detached)
      await arcp.close()
      await new Promise((resolve) => setImmediate(resolve))
      assert.deepStrictEqual(unhandled, [])
    } finally {
      process.off("unhandledRejection", note)
    }
  })

  it("closing ends loops and results with an error, never in silence", async () => {
    const arcp = await connect()
    const job = await arcp.submit("forever", {})
    const looped = rejection(all(job.events))
    const listed = arcp.list()[Symbol.asyncIterator]()
    await listed.next()
    const result = rejection(job.result)
    await arcp.close()
    await arcp.close()
    assert((await looped) instanceof TransportError)
    assert((await result) instanceof TransportError)
    const late = (await rejection(arcp.submit("forever", {}))) as TransportError
    assert.deepStrictEqual([late.code, late.retryable], ["TRANSPORT_ERROR", true])
    assert.isTrue(isRetryable(late))
  })

  it("a job that nothing refers to is detached from", async () => {
    setFlagsFromString("--expose-gc")
    const gc = runInNewContext("gc") as () => void
    const arcp = await connect()
    const jobId = await (async () => (await arcp.submit("forever", {})).jobId)()
    // As long as there is a handle, a history is refused.
    const free = () => arcp.subscribe(jobId, { history: true }).catch(() => undefined)
    let seen = await free()
    for (let i = 0; seen === undefined && i < 200; i++) {
      gc()
      await new Promise((resolve) => setImmediate(resolve))
      seen = await free()
    }
    assert.strictEqual(seen?.subscribed.current_status, "running")
    await arcp.cancel(jobId)
    await arcp.close()
  })

  it("a job of which something is only waited for stays", async () => {
    setFlagsFromString("--expose-gc")
    const gc = runInNewContext("gc") as () => void
    const arcp = await connect()
    const ids: Array<string> = []
    const submitted = async () => {
      const job = await arcp.submit("forever", {})
      ids.push(job.jobId)
      return job
    }
    const awaited = (async () => (await submitted()).result)()
    const events = (async () => all((await submitted()).events))()
    const settled = Promise.allSettled([awaited, events])
    while (ids.length < 2) await arcp.ping()
    for (let i = 0; i < 5; i++) {
      gc()
      await new Promise((resolve) => setImmediate(resolve))
    }
    for (const id of ids) await arcp.cancel(id)
    const [result, looped] = await settled
    assert(result.status === "rejected" && result.reason instanceof Errors.Cancelled)
    assert(looped.status === "fulfilled" && looped.value.length === 1)
    await arcp.close()
  })
})
