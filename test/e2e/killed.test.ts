/**
 * `kill -9` at random moments of a process with durable jobs of every shape. A few times in a whole run;
 * `ARCP_TEST_KILLS=300 npx vitest run --project websocket test/e2e/killed.test.ts` for hundreds.
 */
import { mkdirSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { type Frame, isTerminal } from "./support/Frame.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers()
const kills = Number(process.env["ARCP_TEST_KILLS"] ?? 6)
/** Kills while one set of jobs runs; then the next set is submitted, in the same session. */
const killsPerRound = 6
const count = 8
/** How often a job asks. */
const asks = 4

const agents = fileURLToPath(new URL("./support/killed-agents.mjs", import.meta.url))
const stepKind = "x-vendor.effect-arcp.step"
const requestKind = "x-vendor.effect-arcp.input_request"
const closedKind = "x-vendor.effect-arcp.input_closed"
const inputMessage = "x-vendor.effect-arcp.job.input"
const inStep = "x-vendor.effect-arcp.in_step"

interface Body {
  readonly key: string
  readonly state: string
  readonly attempt: number
  readonly message: string
  readonly name: string
  readonly data: string
  readonly chunk_seq: number
  readonly input_id: string
  readonly prompt: string
  readonly about: { readonly sha256: string }
}
const bodyOf = ({ payload }: Frame): Body => payload["body"] as unknown as Body
const isKind = (kind: string) => (frame: Frame) => frame.payload["kind"] === kind

/** Each step has ended once, and nothing of it comes after that; returns the keys. */
const expectStepsOnce = (events: ReadonlyArray<Frame>): ReadonlyArray<string> => {
  const ended: Array<string> = []
  for (const frame of events) {
    const told = isKind(stepKind)(frame) ? bodyOf(frame) : undefined
    const step = told ?? (frame.payload[inStep] as { readonly key: string } | undefined)
    if (step === undefined) continue
    expect(ended, `event ${frame.event_seq} of an ended step`).not.toContain(step.key)
    if (told?.state === "ended") ended.push(step.key)
  }
  return ended
}

const messages = (events: ReadonlyArray<Frame>) =>
  events
    .filter((frame) => isKind("log")(frame) && frame.payload[inStep] === undefined)
    .map((frame) => bodyOf(frame).message)

/** Answers what jobs ask, over whichever connection there is, as often as it takes; and lies about what that is about. */
class Answerer {
  private readonly asked = new Map<string, Frame>()
  private readonly sent = new Set<string>()
  /** What was said to answers, by whether they were right. */
  readonly said = { right: new Set<unknown>(), wrong: new Set<unknown>() }

  /** Answers what is open of what has come, once a connection. */
  look(client: WireClient): void {
    for (const frame of client.frames) {
      const { input_id } = bodyOf(frame) ?? {}
      if (isKind(requestKind)(frame)) this.asked.set(input_id, frame)
      if (isKind(closedKind)(frame)) this.asked.delete(input_id)
      const id = frame.payload["request_id"] ?? frame.payload.details?.["request_id"]
      if (this.sent.delete(`${id} right`))
        this.said.right.add(frame.payload.details?.["reason"] ?? frame.type)
      if (this.sent.delete(`${id} wrong`))
        this.said.wrong.add(frame.payload.details?.["reason"] ?? frame.type)
    }
    for (const frame of this.asked.values()) {
      const { about, input_id, prompt } = bodyOf(frame)
      const answer = (value: string, about_sha256: string) =>
        client.request(inputMessage, { input_id, value, about_sha256 }, { job_id: frame.job_id })
      this.sent.add(`${answer(prompt, "0".repeat(64))} wrong`)
      this.sent.add(`${answer(prompt, about.sha256)} right`)
      this.asked.delete(input_id)
    }
  }
  /** Another connection: whether what was answered over the last one is stored nobody knows. */
  again(seen: Iterable<Frame>): void {
    this.sent.clear()
    for (const frame of seen) {
      if (isKind(requestKind)(frame)) this.asked.set(bodyOf(frame).input_id, frame)
      if (isKind(closedKind)(frame)) this.asked.delete(bodyOf(frame).input_id)
    }
  }
}

const numbers = Array.from({ length: count }, (_, i) => i + 1)

/** Looks at a job of `whole` with its child. */
const expectWhole = (events: ReadonlyArray<Frame>) => {
  const keys = expectStepsOnce(events)
  expect([...keys].sort()).toEqual([...numbers.flatMap((i) => [`inner ${i}`, `outer ${i}`]), "nap"].sort())
  const [begins, ...more] = messages(events)
  expect(begins).toBe("begins")
  expect(more.at(-1)).toBe("streams")
  expect(more.slice(0, -1).sort()).toEqual(["keyed 1", "keyed 2", "keyed 3"])
  const chunks = events.filter(isKind("result_chunk")).map(bodyOf)
  expect(chunks.map((chunk) => chunk.chunk_seq)).toEqual(chunks.map((_, i) => i))
  expect(chunks.map(({ data }) => data).join("")).toBe(
    ["part", "brief", ..."0123456789"].map((text) => text.repeat(500)).join("")
  )
}

/** What is left of a budget is what the metrics of the job, and of the one below it, leave of it. */
const expectSpent = (granted: number, left: number, ...jobs: ReadonlyArray<ReadonlyArray<Frame>>) => {
  const paid = jobs
    .flat()
    .filter((frame) => isKind("metric")(frame) && bodyOf(frame).name === "cost.other").length
  expect(paid).toBeGreaterThanOrEqual(jobs.length * count)
  expect(left).toBeCloseTo(granted - paid * 0.01, 6)
}

it(
  "survives kill -9 at random moments: steps, events, costs, results and what is undone, each once and in order",
  async () => {
    verifies("durable-recovers", "durable-steps-once", "durable-spend", "restart-resume", "input-answered")
    const db = join(own.directory(), "arcp.db")
    const flags = [
      "--db",
      db,
      "--agents",
      agents,
      "--limit",
      "maxAttempts=100000",
      "--limit",
      "attemptPauseMs=1",
      "--limit",
      "unloadAfterMs=40"
    ]
    let server = await own.start(...flags)
    let client = await WireClient.open(server.url)
    const seen = new Map<number, Frame>()
    const gather = () => {
      for (const frame of client.frames) if (frame.event_seq !== undefined) seen.set(frame.event_seq, frame)
    }
    for (let killed = 0, round = 0; killed < kills; round++) {
      const folder = join(own.directory(), `round ${round}`)
      mkdirSync(folder)
      const input = { folder, count, ms: 60 }
      const lease_request = { "cost.budget": ["USD:5"], "agent.delegate": ["*"] }
      const wholes: Array<string | undefined> = []
      const undones: Array<string | undefined> = []
      const askers: Array<string | undefined> = []
      for (let i = 0; i < 2; i++) {
        wholes.push((await client.accept("whole", input, { lease_request })).job_id)
        undones.push((await client.accept("undone", input)).job_id)
        askers.push((await client.accept("asker", { ...input, count: asks, fails: i === 1 })).job_id)
      }
      const answerer = new Answerer()
      /** Answers while something is waited for, and is slow to. */
      const answering = async <A>(waited: Promise<A>): Promise<A> => {
        let isOver = false
        const over = waited.finally(() => {
          isOver = true
        })
        over.catch(() => {})
        while (!isOver) {
          await setTimeout(Math.random() * 200)
          if (client.closure === undefined) answerer.look(client)
        }
        return await over
      }
      for (let kill = 0; kill < killsPerRound && killed < kills; kill++, killed++) {
        await answering(setTimeout(Math.random() * 500))
        await server.kill()
        await client.closing()
        gather()
        server = await own.start(...flags)
        client = await WireClient.resume(server.url, client.session)
        answerer.again([...seen].sort(([a], [b]) => a - b).map(([, frame]) => frame))
      }
      const isOver = (jobId: string | undefined) =>
        [...seen.values()].some((frame) => frame.job_id === jobId && isTerminal(frame))
      const all = [...wholes, ...undones, ...askers]
      for (const jobId of all) if (!isOver(jobId)) await answering(client.terminal(jobId, 120_000))
      gather()
      const eventsOf = (jobId: string | undefined) =>
        [...seen].sort(([a], [b]) => a - b).flatMap(([, frame]) => (frame.job_id === jobId ? [frame] : []))
      // Nothing is missing of the session, and nothing came twice: a number has one frame.
      expect([...seen.keys()].sort((a, b) => a - b)).toEqual(Array.from(seen, (_, i) => i + 1))
      for (const jobId of all) {
        const events = eventsOf(jobId)
        expect(events.filter(isTerminal)).toHaveLength(1)
        expect(events.filter(isTerminal)[0]).toBe(events.at(-1))
      }
      for (const jobId of wholes) {
        expectWhole(eventsOf(jobId))
        const listed = await client.answer(
          client.request("session.list_jobs", { filter: { parent_job_id: jobId } })
        )
        const children = (listed.payload["jobs"] as ReadonlyArray<{ job_id: string; agent: string }>) ?? []
        const child = children.find(({ agent }) => agent === "part@1.0.0")
        expect([...expectStepsOnce(eventsOf(child?.job_id))].sort()).toEqual(numbers.map(String).sort())
        const subscribed = await client.answer(
          client.request("job.subscribe", { job_id: jobId }, { job_id: jobId })
        )
        const { USD } = subscribed.payload["budget"] as { USD: number }
        expectSpent(5, USD, eventsOf(jobId), eventsOf(child?.job_id))
      }
      const tries = [...new Set(readFileSync(join(folder, "tries"), "utf8").trim().split("\n"))]
      for (const jobId of undones) {
        const undoing = [...numbers].reverse().map((i) => `compensate:${i}`)
        expect(expectStepsOnce(eventsOf(jobId))).toEqual([...numbers.map(String), ...undoing])
        expect(tries.filter((name) => name.startsWith(`${jobId}-`))).toEqual(
          [...numbers, ...undoing].map((key) => `${jobId}-${key}`.replaceAll(":", "-"))
        )
      }
      expect([...answerer.said.right].sort()).toEqual([`${inputMessage}_accepted`])
      for (const reason of answerer.said.wrong) expect(reason).toBe("about")
      for (const [i, jobId] of askers.entries()) {
        const events = eventsOf(jobId)
        const asked = events.filter(isKind(requestKind)).map(bodyOf)
        expect(asked.map(({ prompt }) => prompt)).toEqual(numbers.slice(0, asks).map((n) => `${n}?`))
        expect(events.filter(isKind(closedKind)).map((frame) => bodyOf(frame).input_id)).toEqual(
          asked.map(({ input_id }) => input_id)
        )
        const undoing = i === 0 ? [] : numbers.slice(0, asks).reverse()
        expect(expectStepsOnce(events)).toEqual([
          ...numbers.slice(0, asks).flatMap((n) => [`${n}`, `nap ${n}`]),
          ...undoing.map((n) => `compensate:${n}`)
        ])
        if (i === 0) expect(events.at(-1)?.payload["result"]).toEqual(asked.map(({ prompt }) => prompt))
      }
      // At least once; with the idempotency key, once.
      const keys = readdirSync(folder).filter((name) => name.startsWith("job_"))
      expect(keys).toHaveLength(2 * (2 * count + 2 * count) + 3 * asks)
      expect([...tries].sort()).toEqual(keys.sort())
    }
  },
  60_000 + kills * 30_000
)
