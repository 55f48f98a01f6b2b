/** What must hold of a job however often its process has died, and what must be the same as without that. */
import * as BigDecimal from "effect/BigDecimal"
import * as Budget from "../protocol/Budget.js"
import type { Event } from "../protocol/Event.js"
import { joinChunks } from "../protocol/ResultChunks.js"
import * as Vendor from "../protocol/Vendor.js"
import type { StoredEvent } from "../services/store/Store.js"
import type { StoredJob } from "./StoredJobs.js"

/** An event as it is compared: in which step and attempt it was, and what it says. */
interface Said {
  readonly event: Event
  readonly step: { readonly key: string; readonly attempt: number } | undefined
}

/** What a job has said, told apart by where: the order of one step's events is nothing to another's. */
interface Told {
  /** Outside of steps, in order. */
  readonly outside: ReadonlyArray<string>
  /** Of delegations, which are steps: in any order. */
  readonly delegations: ReadonlyArray<string>
  /** In the last attempt of each step, in order. */
  readonly steps: ReadonlyMap<string, ReadonlyArray<string>>
  readonly streamed: string
  readonly end: string
}

/** How events are compared: what is returned of one, as JSON; `undefined` leaves it out. */
export type Comparable = (event: Event) => unknown

const isTerminal = ({ type }: StoredEvent): boolean => type === "job.result" || type === "job.error"

const ids = /\b([a-z]{2,5})_[0-9A-HJKMNP-TV-Z]{26}\b/g

/** Ids are others in each run. */
const withoutIds = (text: string): string => text.replace(ids, "$1_…")

const restarted = "runtime_restart"

/** Tells whether a job ended because its process did. */
const isLost = ({ events }: StoredJob): boolean => {
  const end = events.at(-1)
  return (
    end?.type === "job.error" &&
    (JSON.parse(end.payload) as { readonly details?: Record<string, unknown> | undefined }).details?.[
      "reason"
    ] === restarted
  )
}

/** Tells whether the runtime says it of itself when it has crashed, or counts what was spent in vain. */
const isOfTheRuntime = ({ body, kind }: Event): boolean => {
  if (kind === "status") return body.phase === "recovered" || body.phase === "credential_rotated"
  return kind === "metric" && body.name === "cost.budget.remaining"
}

/** Tells whether it says that a job is delegated to, or that this is refused. */
const isOfDelegation = (event: Event): boolean =>
  event.kind === "delegate" || (event.kind === "tool_result" && event.body.call_id.startsWith("del_"))

const saidIn = (job: StoredJob): ReadonlyArray<Said> => {
  const lost = new Set(job.children.filter(isLost).map(({ record }) => record.delegateId))
  return job.events.flatMap(({ payload, type }): ReadonlyArray<Said> => {
    if (type !== "job.event") return []
    const { [Vendor.inStep]: step, ...event } = JSON.parse(payload) as Event & {
      readonly [Vendor.inStep]?: Said["step"] | undefined
    }
    const said = event as Event
    // A child that was lost is told of once more when another takes its place.
    if (said.kind === "delegate" && lost.has(said.body.delegate_id)) return []
    return isOfTheRuntime(said) ? [] : [{ event: said, step }]
  })
}

const textOf = (value: unknown): string => withoutIds(JSON.stringify(value) ?? "undefined")

const endText = (end: StoredEvent | undefined): string => {
  if (end === undefined) return "no end"
  const { completed_at: _, ...said } = JSON.parse(end.payload) as Record<string, unknown>
  return `${end.type} ${textOf(said)}`
}

/** Returns what a job has said, in the form in which it is compared. */
const toldBy = (job: StoredJob, comparable: Comparable): Told => {
  const all = saidIn(job)
  const last = new Map<string, number>()
  for (const { event, step } of all) {
    const attempt = event.kind === Vendor.step ? (event.body as { attempt: number; key: string }) : step
    if (attempt !== undefined) last.set(attempt.key, Math.max(last.get(attempt.key) ?? 0, attempt.attempt))
  }
  const outside: Array<string> = []
  const steps = new Map<string, Array<string>>()
  const delegations: Array<string> = []
  const chunks: Array<{ readonly data: string; readonly encoding: string }> = []
  for (const { event, step } of all) {
    if (event.kind === Vendor.step || (step !== undefined && step.attempt !== last.get(step.key))) continue
    if (event.kind === "result_chunk") {
      chunks.push(event.body)
      continue
    }
    const compared = comparable(event)
    if (compared === undefined) continue
    if (isOfDelegation(event)) {
      delegations.push(textOf(compared))
      continue
    }
    const lane = step === undefined ? outside : (steps.get(step.key) ?? [])
    if (step !== undefined) steps.set(step.key, lane)
    lane.push(textOf(compared))
  }
  delegations.sort()
  return {
    outside,
    steps,
    delegations,
    streamed: textOf(joinChunks(chunks)),
    end: endText(job.events.at(-1))
  }
}

/** What differs, in words. */
export type Differences = Array<string>

const brief = (text: string): string => (text.length > 160 ? `${text.slice(0, 159)}…` : text)

const compareLists = (
  where: string,
  wanted: ReadonlyArray<string>,
  came: ReadonlyArray<string>,
  into: Differences
): void => {
  for (let i = 0; i < Math.max(wanted.length, came.length); i++) {
    if (wanted[i] === came[i]) continue
    into.push(
      `${where}, event ${i + 1}: expected ${brief(wanted[i] ?? "none")}, came ${brief(came[i] ?? "none")}`
    )
    return
  }
}

/** Outcomes by kind and key; what has none may have been cut off anywhere. */
const outcomesOf = ({ keys }: StoredJob): ReadonlyMap<string, string> =>
  new Map(
    keys.flatMap(({ key, kind, outcome }) =>
      // A request is known by an id; what it came to is the outcome of its input.
      outcome === undefined || kind === "request" ? [] : [[`${kind} ${key}`, withoutIds(outcome)] as const]
    )
  )

/** Children by the key under which they were delegated to. */
const childrenByKey = ({ children, keys }: StoredJob): ReadonlyMap<string, StoredJob> => {
  const byId = new Map(children.map((child) => [child.record.jobId, child]))
  return new Map(
    keys.flatMap(({ key, kind, outcome }) => {
      if (kind !== "delegate" || outcome === undefined) return []
      const child = byId.get((JSON.parse(outcome) as { ok?: string | undefined }).ok ?? "")
      return child === undefined ? [] : [[key, child] as const]
    })
  )
}

/** Notes what of a job is not what it is without a crash. */
export const compare = (
  wanted: StoredJob,
  came: StoredJob,
  comparable: Comparable,
  into: Differences,
  name = "the job"
): void => {
  const before = toldBy(wanted, comparable)
  const after = toldBy(came, comparable)
  if (before.end !== after.end)
    into.push(`${name}: expected it to end in ${brief(before.end)}, came ${brief(after.end)}`)
  if (before.streamed !== after.streamed) into.push(`${name}: its streamed result is another one`)
  compareLists(`${name}, outside of steps`, before.outside, after.outside, into)
  compareLists(`${name}, delegations`, before.delegations, after.delegations, into)
  const outcomes = outcomesOf(wanted)
  const others = outcomesOf(came)
  for (const key of new Set([...outcomes.keys(), ...others.keys()])) {
    const [expected = "none", got = "none"] = [outcomes.get(key), others.get(key)]
    if (expected !== got)
      into.push(`${name}, the outcome of ${key}: expected ${brief(expected)}, came ${brief(got)}`)
  }
  // Of what has no outcome nobody can say how far it had come.
  for (const key of new Set([...before.steps.keys(), ...after.steps.keys()]))
    if (outcomes.has(`step ${key}`))
      compareLists(`${name}, step ${key}`, before.steps.get(key) ?? [], after.steps.get(key) ?? [], into)
  const children = childrenByKey(came)
  for (const [key, child] of childrenByKey(wanted)) {
    const other = children.get(key)
    if (other !== undefined) compare(child, other, comparable, into, `${name} → ${key}`)
  }
}

/** Returns what a job and those below it have spent, by currency, as their events say. */
const spentBy = (job: StoredJob): Map<string, BigDecimal.BigDecimal> => {
  const spent = new Map<string, BigDecimal.BigDecimal>()
  const add = (currency: string, amount: BigDecimal.BigDecimal) =>
    spent.set(currency, BigDecimal.sum(spent.get(currency) ?? BigDecimal.make(0n, 0), amount))
  for (const { kind, payload } of job.events) {
    if (kind !== "metric") continue
    const { body } = JSON.parse(payload) as {
      body: { name: string; unit?: string | undefined; value: number }
    }
    const amount = Budget.amount(body.value)
    if (body.name.startsWith("cost.") && body.name !== "cost.budget.remaining" && amount !== undefined)
      add(body.unit ?? "", amount)
  }
  for (const child of job.children) for (const [currency, amount] of spentBy(child)) add(currency, amount)
  return spent
}

const checkSteps = (name: string, job: StoredJob, into: Differences): void => {
  const ended = new Set<string>()
  for (const { kind, payload, seq } of job.events) {
    const { [Vendor.inStep]: step, body } = JSON.parse(payload) as {
      readonly body?: { readonly key: string; readonly state?: string | undefined } | undefined
      readonly [Vendor.inStep]?: { readonly key: string } | undefined
    }
    const key = kind === Vendor.step ? body?.key : step?.key
    if (key === undefined) continue
    if (ended.has(key)) into.push(`${name}: event ${seq} is of step ${key}, which had ended before`)
    if (kind === Vendor.step && body?.state === "ended") ended.add(key)
  }
}

/** Notes what does not hold of a job that has ended: its numbers, its one end, its steps' one end, its budget. */
export const check = (job: StoredJob, into: Differences, name = "the job"): void => {
  const { events, record } = job
  for (const [i, { seq }] of events.entries())
    if (seq !== i + 1) into.push(`${name}: event ${seq} is at place ${i + 1} of its log`)
  const ends = events.filter(isTerminal)
  if (ends.length !== 1) into.push(`${name}: has ${ends.length} ends`)
  else if (ends[0] !== events.at(-1)) into.push(`${name}: goes on after its end`)
  checkSteps(name, job, into)
  const spent = spentBy(job)
  for (const [currency, granted] of Budget.parse(record.lease["cost.budget"] ?? [])) {
    const left = BigDecimal.subtract(granted, spent.get(currency) ?? BigDecimal.make(0n, 0))
    const stored = Budget.amount(record.budget?.[currency] ?? "")
    if (stored === undefined || !BigDecimal.equals(stored, left))
      into.push(
        `${name}: its events leave ${Budget.format(left)} ${currency}, its budget says ${record.budget?.[currency]}`
      )
  }
  for (const child of job.children) check(child, into, `${name} → ${child.record.agent}`)
}
