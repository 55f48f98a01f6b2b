/**
 * Odd arguments of public functions, for those who have no types: each is refused by an error that names the function, the
 * argument and what it has to be, before anything is done with it.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Session } from "../../src/promise/Session.js"
import { Arcp, type ConnectOptions, type Job } from "../../src/promise.js"
import * as Errors from "../../src/protocol/Errors.js"
import * as Agent from "../../src/services/agents/Agent.js"
import { Dialer } from "../../src/services/transport/Transport.js"
import { runtime } from "../support/Wire.js"

/** A call, and how the refusal begins. */
type Case = readonly [call: (...args: ReadonlyArray<never>) => unknown, says: string]

const odd: ReadonlyArray<unknown> = [
  null,
  3,
  Symbol("odd"),
  [],
  {},
  () => {},
  new Map(),
  Number.NaN,
  true,
  ""
]
const without = (...kinds: ReadonlyArray<string>) =>
  odd.filter(
    (value) => !kinds.includes(value === null ? "null" : Array.isArray(value) ? "list" : typeof value)
  )
/** Everything that is no text with something in it. */
const noText = odd.filter((value) => typeof value !== "string" || value === "")
const noObject = without("object")
const noFunction = without("function")
const badCounts = [-1, Number.NaN, Number.POSITIVE_INFINITY, 1.5, "x", null, {}]
const badDurations = [-1, Number.NaN, "soon", "-5 seconds", -5n, [Number.NaN, 0], {}, null, [], Symbol("odd")]
const unreadable = new Proxy(
  {},
  {
    get: () => {
      throw new Error("no look")
    }
  }
)

/** One argument at a time is odd: each of `values`, put where the call has its hole. */
const each = (
  says: string,
  values: ReadonlyArray<unknown>,
  call: (value: never) => unknown
): ReadonlyArray<Case> => values.map((value) => [() => call(value as never), says])

const refused = async ([call, says]: Case) => {
  let answer: unknown
  try {
    answer = await call()
  } catch (error) {
    assert.instanceOf(error, Errors.InvalidRequest, String(error))
    assert.include(error.message, `${says} `, error.message)
    return
  }
  assert.fail(`${says}: nothing was refused: ${typeof answer}`)
}

const first = async (items: AsyncIterable<unknown>) => {
  for await (const item of items) return item
  return undefined
}

/** Arguments of the methods of a session. */
const ofSession = (arcp: Session): Readonly<Record<string, ReadonlyArray<Case>>> => {
  const options = (says: string, call: (options: never) => unknown) => [
    ...each(says, noObject, call),
    ...each(says, [[]], call)
  ]
  return {
    submit: [
      ...each("submit: options has no leaseReqest; did you mean", [{ leaseReqest: {} }], (odd) =>
        arcp.submit("echo", {}, odd)
      ),
      ...each("submit: agent", noText, (agent) => arcp.submit(agent, {})),
      ...options("submit: options", (options) => arcp.submit("echo", {}, options)),
      ...each("submit: options", [unreadable], (options) => arcp.submit("echo", {}, options)),
      ...each("submit: options.leaseRequest", ["x", 3, [], null], (leaseRequest) =>
        arcp.submit("echo", {}, { leaseRequest })
      ),
      ...each("submit: options.leaseConstraints", ["x", 3, [], null], (leaseConstraints) =>
        arcp.submit("echo", {}, { leaseConstraints })
      ),
      ...each("submit: options.idempotencyKey", noText, (idempotencyKey) =>
        arcp.submit("echo", {}, { idempotencyKey })
      ),
      ...each("submit: options.maxRuntime", badDurations, (maxRuntime) =>
        arcp.submit("echo", {}, { maxRuntime })
      ),
      ...each("submit: options.traceId", noText, (traceId) => arcp.submit("echo", {}, { traceId })),
      ...each("submit: options.extensions", ["x", 3, [], null], (extensions) =>
        arcp.submit("echo", {}, { extensions })
      ),
      ...each("submit: options.signal", [null, 3, {}, []], (signal) => arcp.submit("echo", {}, { signal }))
    ],
    subscribe: [
      ...each("subscribe: jobId", [...noText, undefined], (jobId) => arcp.subscribe(jobId)),
      ...options("subscribe: options", (options) => arcp.subscribe("job_x", options)),
      ...each("subscribe: options.history", ["yes", 1, null], (history) =>
        arcp.subscribe("job_x", { history })
      ),
      ...each("subscribe: options.fromEventSeq", badCounts, (fromEventSeq) =>
        arcp.subscribe("job_x", { fromEventSeq })
      ),
      ...each("subscribe: options.contract", [3, "x", {}, null], (contract) =>
        arcp.subscribe("job_x", { contract })
      )
    ],
    attach: [
      ...each("attach: jobId", [...noText, undefined], (jobId) => arcp.attach(jobId)),
      ...options("attach: options", (options) => arcp.attach("job_x", options)),
      ...each("attach: options.contract", [3, "x", {}, null], (contract) =>
        arcp.attach("job_x", { contract })
      )
    ],
    list: each("list: filter has no stauts; did you mean", [{ stauts: ["running"] }], (filter) =>
      first(arcp.list(filter))
    ).concat(
      each("list: filter", [3, "x", [], null, () => {}], (filter) => first(arcp.list(filter))),
      [
        ...options("list: options", (options) => first(arcp.list({}, options))),
        ...each("list: options.limit", [0, -1, 1.5, "x", null], (limit) => first(arcp.list({}, { limit })))
      ]
    ),
    cancel: [
      ...each("cancel: jobId", [...noText, undefined], (jobId) => arcp.cancel(jobId)),
      ...each("cancel: reason", without("string"), (reason) => arcp.cancel("job_x", reason))
    ],
    answer: [
      ...each("answer: jobId", [...noText, undefined], (jobId) => arcp.answer(jobId, "inp_x", 1)),
      ...each("answer: inputId", [...noText, undefined], (inputId) => arcp.answer("job_x", inputId, 1)),
      ...each("answer: value", [undefined], (value) => arcp.answer("job_x", "inp_x", value)),
      ...options("answer: options", (options) => arcp.answer("job_x", "inp_x", 1, options)),
      ...each("answer: options.about", noText, (about) => arcp.answer("job_x", "inp_x", 1, { about }))
    ]
  }
}
/** These take nothing. */
const nullary = ["constructor", "restored", "agents", "ping", "resumeState", "dropTransport", "close"]

const ofJob = (job: Job): Readonly<Record<string, ReadonlyArray<Case>>> => ({
  of: each("of: event", [...odd, undefined, "x-vendor.a.b"], (event) => first(job.of(event))),
  saveResult: each("saveResult: path", [...noText, undefined, "a\0b"], (path) => job.saveResult(path)),
  cancel: each("cancel: reason", without("string"), (reason) => job.cancel(reason))
})

const connections = (dialer: NonNullable<ConnectOptions["dialer"]>): ReadonlyArray<Case> => {
  const connect = (options: unknown) => Arcp.connect(options as ConnectOptions)
  const option = (name: string, values: ReadonlyArray<unknown>) =>
    each(`connect: options.${name}`, values, (value) => connect({ dialer, token: "alice", [name]: value }))
  return [
    ...each("connect: options", [undefined, null, 3, "ws://x", [], unreadable], connect),
    ...each("connect: options.url", [undefined, ...noText], (url) => connect({ url })),
    ...each("connect: options.dialer", [null, 3, {}, [], "x"], (given) => connect({ dialer: given })),
    ...each("connect: options has no tokn; did you mean", [{ url: "ws://127.0.0.1:1", tokn: "t" }], connect),
    ...each("connect: options.ack has no event; did you mean", [{ event: 1 }], (ack) =>
      connect({ dialer, ack })
    ),
    ...option("name", noText),
    ...option("version", noText),
    ...option("features", ["all", 3, {}, [1], null]),
    ...option("held", [3, "x", null, []]),
    ...each("connect: options.held.events", [...badCounts, 0], (events) =>
      connect({ dialer, held: { events } })
    ),
    ...each("connect: options.held.bytes", [...badCounts, 0], (bytes) =>
      connect({ dialer, held: { bytes } })
    ),
    ...option("resume", [3, "x", null, []]),
    ...each("connect: options.resume.sessionId", [{}], (resume) => connect({ dialer, resume })),
    ...option("reconnectDelay", noFunction),
    ...option("ack", [3, "x", null, []]),
    ...each("connect: options.ack.events", [...badCounts, 0], (events) =>
      connect({ dialer, ack: { events } })
    ),
    ...each("connect: options.ack.interval", badDurations, (interval) =>
      connect({ dialer, ack: { interval } })
    ),
    ...option("requestTimeout", [...badDurations, 0, Number.POSITIVE_INFINITY]),
    ...option("state", [3, "x", null, []]),
    ...each("connect: options.state.storage", [undefined, null, 3, {}, []], (storage) =>
      connect({ dialer, state: { storage } })
    ),
    ...option("signal", [null, 3, {}, []]),
    ...option("headers", [null, 3, "x", [], { a: 1 }]),
    ...option("ca", noText),
    ...option("WebSocket", noFunction),
    ...option("connectTimeout", [...badDurations, 0, Number.POSITIVE_INFINITY]),
    ...option("maxFrameBytes", [...badCounts, 0]),
    ...option("allowInsecure", ["yes", 1, null])
  ]
}

/** Arguments of what an agent has, which are no bodies of events; those are checked as they are written. */
const ofAgent = (job: Agent.PromiseJob): Readonly<Record<string, ReadonlyArray<Case>>> => {
  const options = [3, "x", [], null]
  return {
    authorize: [
      ...each("authorize: capability", [...noText, undefined], (it) => job.authorize(it, "/x")),
      ...each("authorize: target", [...without("string"), undefined], (it) => job.authorize("fs.read", it)),
      ...each("authorize: options", options, (it) => job.authorize("fs.read", "/x", it)),
      ...each("authorize: options.callId", noText, (callId) => job.authorize("fs.read", "/x", { callId }))
    ],
    spend: [
      ...each("spend: cost", [3, "x", [], null, undefined], (it) => job.spend(it)),
      ...each("spend: cost.currency", noText, (currency) => job.spend({ amount: 1, currency })),
      ...each("spend: cost.name", noText, (name) => job.spend({ amount: 1, currency: "USD", name }))
    ],
    emit: [
      ...each("emit: event", [...without("string"), undefined], (it) => job.emit(it, 1)),
      ...each("emit: options", options, (it) => job.emit("x-vendor.a.b", 1, it)),
      ...each("emit: options.key", noText, (key) => job.emit("x-vendor.a.b", 1, { key }))
    ],
    delegate: [
      ...each("delegate: agent", [...without("string"), undefined], (it) => job.delegate(it, {})),
      ...each("delegate: options", options, (it) => job.delegate("other", {}, it)),
      ...each("delegate: options.lease", ["x", 3, [], null], (lease) => job.delegate("other", {}, { lease })),
      ...each("delegate: options has no lese; did you mean", [{ lese: {} }], (it) =>
        job.delegate("other", {}, it)
      ),
      ...each("delegate: options.retries", badCounts, (retries) => job.delegate("other", {}, { retries }))
    ],
    step: [
      ...each("step: key", [...noText, undefined], (it) => job.step(it, () => 1)),
      ...each("step: run", [...noFunction, undefined], (it) => job.step("k", it)),
      ...each("step: options", options, (it) => job.step("k", () => 1, it)),
      ...each("step: options.attempts", [...badCounts, 0], (attempts) =>
        job.step("k", () => 1, { attempts })
      ),
      ...each("step: options has no attemps; did you mean", [{ attemps: 3 }], (it) =>
        job.step("k", () => 1, it)
      ),
      ...each("step: options.pause", [...badDurations, Number.POSITIVE_INFINITY], (pause) =>
        job.step("k", () => 1, { pause })
      ),
      ...each("step: options.timeout", badDurations, (timeout) => job.step("k", () => 1, { timeout })),
      ...each("step: options.compensate", noFunction, (compensate) => job.step("k", () => 1, { compensate }))
    ],
    sleep: [
      ...each("sleep: key", [...noText, undefined], (it) => job.sleep(it, 1)),
      ...each("sleep: duration", [...badDurations, Number.POSITIVE_INFINITY, undefined], (it) =>
        job.sleep("k", it)
      )
    ],
    hold: each("hold: run", [...noFunction, undefined], (it) => job.hold(it)),
    input: [
      ...each("input: key", [...noText, undefined], (it) => job.input(it, { prompt: "?" })),
      ...each("input: options", [...options, undefined], (it) => job.input("k", it)),
      ...each("input: options.prompt", without("string"), (prompt) => job.input("k", { prompt })),
      ...each("input: options.schema", [3, "x", {}, null], (schema) =>
        job.input("k", { prompt: "?", schema })
      ),
      ...each("input: options.choices", [3, "x", {}, null], (choices) =>
        job.input("k", { prompt: "?", choices })
      ),
      ...each("input: options.expiresIn", badDurations, (expiresIn) =>
        job.input("k", { prompt: "?", expiresIn })
      )
    ],
    openResult: each("openResult: encoding", [...odd, "latin1"], (it) => job.openResult(it)),
    // Bodies of events.
    log: [
      ...each("bad log event: body.level:", [...odd, undefined], (it) => job.log(it, "x")),
      ...each("bad log event: body.message:", without("string"), (it) => job.log("info", it))
    ],
    thought: each("bad thought event: body.text:", without("string"), (it) => job.thought(it)),
    status: each("bad status event: body.phase:", without("string"), (it) => job.status(it)),
    metric: each("bad metric event: body:", [3, "x", [], null, undefined], (it) => job.metric(it)),
    toolCall: each("bad tool_call event: body:", [3, "x", [], null, undefined], (it) => job.toolCall(it)),
    toolResult: each("bad tool_result event: body:", [3, "x", [], null, undefined], (it) =>
      job.toolResult(it)
    ),
    artifact: each("bad artifact_ref event: body:", [3, "x", [], null, undefined], (it) => job.artifact(it)),
    progress: [
      ...each("bad progress event: body:", [3, "x", [], null, undefined], (it) => job.progress(it)),
      ...each("bad progress event: body.current:", [Number.NaN, -1, Number.POSITIVE_INFINITY], (current) =>
        job.progress({ current })
      )
    ]
  }
}
/** These are no functions, or take nothing. */
const notCalled = [
  "jobId",
  "sessionId",
  "principal",
  "agent",
  "traceId",
  "lease",
  "leaseConstraints",
  "deadline",
  "signal",
  "flush"
]

const all = (cases: Readonly<Record<string, ReadonlyArray<Case>>>) => Object.values(cases).flat()

let seen: ((job: Agent.PromiseJob) => Promise<void>) | undefined
const prober = (durable: boolean) =>
  Agent.fromPromise(durable ? "durable" : "plain", { version: "1.0.0", durable }, async (_, job) => {
    await seen?.(job)
    return Object.keys(job)
  })
const echo = Agent.fromPromise("echo", { version: "1.0.0" }, (input) => input)

const scope = Effect.runSync(Scope.make())
let dialer: NonNullable<ConnectOptions["dialer"]>
let arcp: Arcp
beforeAll(async () => {
  const layer = runtime([echo, prober(false), prober(true)])
  const services = await Effect.runPromise(Layer.buildWithScope(layer, scope))
  dialer = Layer.succeed(Dialer, Context.get(services, Dialer))
  arcp = await Arcp.connect({ dialer, token: "alice" })
})
afterAll(async () => {
  await arcp.close()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

describe("odd arguments", () => {
  it("of Arcp.connect", async () => {
    for (const one of connections(dialer)) await refused(one)
  })

  it("of a session, every method of it", async () => {
    const cases = ofSession(arcp)
    assert.sameMembers(Object.getOwnPropertyNames(Session.prototype), [...Object.keys(cases), ...nullary])
    for (const one of all(cases)) await refused(one)
    assert.isAbove(await arcp.ping(), 0)
  })

  it("of a job, every method of it", async () => {
    const job = await arcp.submit("echo", { still: "here" })
    const cases = ofJob(job)
    const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(job))
    assert.sameMembers(methods, [...Object.keys(cases), "constructor", "result", "detach", "cancelWith"])
    for (const one of all(cases)) await refused(one)
    assert.deepStrictEqual(await job.result, { still: "here" })
  })

  it.each(["plain", "durable"])("of what a %s agent has, every method of it", async (name) => {
    let names: ReadonlyArray<string> = []
    let failure: unknown
    seen = async (job) => {
      const cases = ofAgent(job)
      names = Object.keys(cases)
      try {
        for (const one of all(cases)) await refused(one)
      } catch (error) {
        failure = error
      }
    }
    const job = await arcp.submit(name, null)
    const has = (await job.result) as ReadonlyArray<string>
    if (failure !== undefined) throw failure
    assert.sameMembers([...has], [...names, ...notCalled])
  })

  it("a delay that throws, or is no number, gives the session up, and nothing hangs", async () => {
    const throwing = () => {
      throw new Proxy({}, { has: () => assert.fail() })
    }
    for (const reconnectDelay of [throwing, () => Number.NaN, () => "soon" as unknown as number, () => -1]) {
      const session = await Arcp.connect({ dialer, token: "alice", reconnectDelay })
      await session.dropTransport()
      const status: Array<string> = []
      for await (const { _tag } of session.status) {
        status.push(_tag)
        if (_tag === "Closed" || (_tag === "Connected" && status.length > 1)) break
      }
      assert.isNotEmpty(status)
      await session.close().catch(() => {})
    }
  })
})
