import { expect } from "vitest"
import { exact, text, total } from "./Decimal.js"
import type { Frame } from "./Frame.js"
import { WireClient } from "./WireClient.js"

/** The agent of this suite beside the shipped ones; and more sessions than its tables of cases open. */
export const scripted = [
  "--agents",
  "test/e2e/support/script-agent.mjs",
  "--limit",
  "maxSessionsPerPrincipal=10000"
]

export interface ToolError {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
  readonly details?: Record<string, unknown>
}

export interface Entry {
  readonly job_id: string
  readonly agent: string
  readonly status: string
  readonly parent_job_id: string | null
  readonly lease: Record<string, ReadonlyArray<string>>
  readonly lease_constraints?: { readonly expires_at?: string }
  readonly trace_id: string
}

export const bodies = (frames: ReadonlyArray<Frame>, kind: string): ReadonlyArray<Record<string, unknown>> =>
  frames
    .filter(({ type, payload }) => type === "job.event" && payload.kind === kind)
    .map(({ payload }) => payload.body ?? {})

/** The errors that denied operations left on the stream, in order. */
export const toolErrors = (frames: ReadonlyArray<Frame>) =>
  bodies(frames, "tool_result")
    .filter((body) => body["error"] !== undefined)
    .map((body) => ({ callId: String(body["call_id"]), error: body["error"] as ToolError }))

/** A denial as section 10 has it, on the stream or at the end of a job. */
export const expectError = (error: unknown, code: string): void => {
  expect(error).toMatchObject({ code, message: expect.any(String), retryable: code === "INTERNAL_ERROR" })
  expect((error as ToolError).message.length).toBeLessThanOrEqual(512)
}

/** What became of an operation that an agent tried: `allowed`, or the code it was refused with. */
export const verdict = (run: { readonly terminal: Frame; readonly events: ReadonlyArray<Frame> }): string => {
  const denied = toolErrors(run.events)[0]?.error.code ?? run.terminal.payload.code
  if (denied !== undefined) return denied
  const result = run.terminal.payload.result as { readonly error?: string | ToolError } | null | undefined
  const error = typeof result === "object" ? result?.error : undefined
  return error === undefined ? "allowed" : typeof error === "string" ? error : error.code
}

/** Submits and waits for the end; input that the agent refuses is an end too. */
export const attempt = async (
  client: WireClient,
  agent: string,
  input: unknown,
  more: Record<string, unknown> = {}
) => {
  const answer = await client.answer(client.submit(agent, input, more))
  const refused = answer.type === "job.error"
  const terminal = refused ? answer : await client.terminal(answer.job_id)
  const events = client.eventsOf(answer.job_id)
  return { terminal, events, verdict: verdict({ terminal, events }) }
}

export const subscribed = async (
  client: WireClient,
  job_id: string | undefined,
  payload: Record<string, unknown> = {}
): Promise<Frame> => {
  const frame = await client.answer(client.request("job.subscribe", { job_id, ...payload }, { job_id }))
  expect(frame.type, JSON.stringify(frame.payload)).toBe("job.subscribed")
  return frame
}

export const listed = async (client: WireClient): Promise<ReadonlyArray<Entry>> => {
  const frame = await client.answer(client.request("session.list_jobs", { limit: 1_000 }))
  expect(frame.type, JSON.stringify(frame.payload)).toBe("session.jobs")
  return frame.payload["jobs"] as ReadonlyArray<Entry>
}

export type Counters = Readonly<Record<string, number>>

/** A job's counters now, asked for by a session of its own; and its whole retained history. */
export const account = async (url: string, job_id: string | undefined, token = "tok-a") => {
  const client = await WireClient.open(url, { token })
  const answer = await subscribed(client, job_id, { history: true })
  const terminal = await client.terminal(job_id)
  const budget = answer.payload["budget"] as Counters
  return { answer, budget, terminal, events: client.eventsOf(job_id) }
}

/** The costs in `currency` on the stream, in order; never the runtime's own reports. */
export const costs = (frames: ReadonlyArray<Frame>, currency = "USD"): ReadonlyArray<unknown> =>
  bodies(frames, "metric")
    .filter(({ name, unit }) => /^cost\.(?!budget\.remaining$)/.test(String(name)) && unit === currency)
    .map(({ value }) => value)

/** The reports of what is left, in order. */
export const reports = (frames: ReadonlyArray<Frame>, currency = "USD"): ReadonlyArray<unknown> =>
  bodies(frames, "metric")
    .filter(({ name, unit }) => name === "cost.budget.remaining" && unit === currency)
    .map(({ value }) => value)

/** What `budget` must show after these costs. */
export const expectRemaining = (
  budget: Counters | undefined,
  currency: string,
  initial: string,
  spent: ReadonlyArray<unknown>
): void => {
  expect(text(exact(budget?.[currency]))).toBe(text(exact(initial) - total(spent)))
}

/**
 * Walks the stream of a job that spends one thing after the other, alone: every report of what is left is right,
 * none is missing that is due (5 % of the initial amount since the last one, or zero crossed), and there are
 * not more than there can be 5 % steps.
 */
export const expectReports = (events: ReadonlyArray<Frame>, currency: string, initial: string): void => {
  const start = exact(initial)
  const step = (change: bigint) => change * 20n >= start
  let left = start
  let reported = start
  let crossed = false
  let count = 0
  for (const { name, unit, value } of bodies(events, "metric")) {
    if (unit !== currency || !String(name).startsWith("cost.")) continue
    if (name === "cost.budget.remaining") {
      expect(text(exact(value)), "a report").toBe(text(left))
      reported = left
      crossed = false
      count++
    } else {
      expect(step(reported - left) || crossed, `no report at ${text(left)}, last one ${text(reported)}`).toBe(
        false
      )
      const before = left
      left -= exact(value)
      crossed = before > 0n && left <= 0n
    }
  }
  expect(step(reported - left) || crossed, `no report at the end, ${text(left)} left`).toBe(false)
  expect(count).toBeLessThanOrEqual(Number(((start - left) * 20n) / start) + 1)
}

/** The `job.accepted` of the jobs that were delegated, oldest first, of what arrived so far. */
export const children = (client: WireClient, parent?: string): ReadonlyArray<Frame> =>
  client.frames.filter(
    ({ type, payload }) =>
      type === "job.accepted" &&
      typeof payload["parent_job_id"] === "string" &&
      (parent === undefined || payload["parent_job_id"] === parent)
  )

export const nextChild = (client: WireClient, parent: string | undefined): Promise<Frame> =>
  client.next(({ type, payload }) => type === "job.accepted" && payload["parent_job_id"] === parent)

/** A lease that expires `ms` from now. */
export const expiresIn = (ms: number) => ({ expires_at: new Date(Date.now() + ms).toISOString() })

export type Lease = Readonly<Record<string, ReadonlyArray<string>>>

/** A lease that lets a job delegate to these. */
export const to = (...names: ReadonlyArray<string>): { readonly lease_request: Lease } => ({
  lease_request: { "agent.delegate": names }
})

/** Input of `delegate` that hands on `depth` times before `agent` runs. */
export const chain = (depth: number, agent: string, input: unknown, lease: Lease): Record<string, unknown> =>
  depth <= 1
    ? { agent, input, lease_request: lease }
    : { agent: "delegate", input: chain(depth - 1, agent, input, lease), lease_request: lease }
