/**
 * Places under the limits of concurrency, and the lines of jobs that wait for them. A job that was submitted takes a place of
 * its principal's and one of its agent's, and waits until both are free: oldest first, but for whoever can begin while an
 * older one cannot.
 *
 * Jobs of one principal and one agent wait for the same: they are a *lane*, of which only the first job matters. A lane
 * waits at one of its limits that is reached, and is looked at again when a place there comes free. So a place that
 * comes free costs O(log n), however many wait.
 *
 * A job that has been passed over often enough, because one of its two places was taken whenever the other was free, keeps
 * its principal's place until its agent's is free. That is the only place anybody keeps while waiting, and whoever has an
 * agent's place runs; so nobody waits for ever, and no two for each other.
 */
import { Heap } from "./Heap.js"

/** What takes a place, or waits for one. */
export interface Claim {
  readonly principal: string
  /** `name@version` */
  readonly agent: string
  /** A job that was delegated is in its parent's place of the principal, and waits for nothing. */
  readonly parentJobId?: string | undefined
}

/** A job that waits. */
export interface Waiter extends Claim {
  readonly jobId: string
  /** Epoch ms from which on it might have begun. */
  readonly readyAt: number
  /** It does not wait any more. */
  readonly gone: boolean
  /** Jobs of its agent that run at once; `undefined`: any number. */
  readonly concurrency: number | undefined
}

/** How often a job is passed over before it keeps its principal's place. */
const patience = 16

const comesBefore = (a: Waiter, b: Waiter): boolean =>
  a.readyAt < b.readyAt || (a.readyAt === b.readyAt && a.jobId < b.jobId)

/** A lane in a line, at the place of its first job. */
interface InLine<W extends Waiter> {
  readonly lane: Lane<W>
  readonly job: W
  /** The lane is at this place no longer when it has another ticket. */
  readonly ticket: number
}

const isFirst = <W extends Waiter>(a: InLine<W>, b: InLine<W>): boolean => comesBefore(a.job, b.job)

/** A limit: who has a place under it, and which lanes wait for one. */
class Limit<W extends Waiter> {
  taken = 0
  max = Number.POSITIVE_INFINITY
  /** Lanes that are about to be looked at, and may take a place. */
  coming = 0
  /** Jobs that are being stored, and will wait. */
  storing = 0
  /** Lanes that need a place here. */
  lanes = 0
  private waiting: Heap<InLine<W>> | undefined

  constructor(readonly key: string) {}

  get line(): Heap<InLine<W>> {
    this.waiting ??= new Heap(isFirst)
    return this.waiting
  }
  get isFree(): boolean {
    return this.taken < this.max
  }
  /** Nobody who comes now may pass. */
  get isClosed(): boolean {
    return !this.isFree || this.coming > 0 || this.storing > 0
  }
  get isIdle(): boolean {
    return this.taken === 0 && this.storing === 0 && this.lanes === 0
  }
}

/** Jobs of one principal and one agent that wait. */
class Lane<W extends Waiter> {
  readonly jobs = new Heap<W>(comesBefore)
  /** The line in which it is; `undefined`: it is coming. */
  line: Heap<InLine<W>> | undefined
  /** It is about to be looked at. */
  isComing = false
  ticket = 0
  /** It has a place of the principal's, for its first job. */
  keeps = false
  passed = 0
  private gone = 0

  constructor(
    readonly key: string,
    readonly principal: Limit<W>,
    readonly agent: Limit<W>
  ) {}

  /** The first of its jobs. */
  get head(): W | undefined {
    for (;;) {
      const { first } = this.jobs
      if (first?.gone !== true) return first
      this.jobs.pop()
      this.gone--
    }
  }
  /** One of its jobs does not wait any more: it is let go of when it comes first, or with many others. */
  lost(): void {
    this.gone++
    if (this.gone <= 64 || this.gone * 2 < this.jobs.size) return
    this.jobs.retain(({ gone }) => !gone)
    this.gone = 0
  }
}

/** Gives places to jobs, or lets them wait. */
export class Places<W extends Waiter> {
  private readonly principals = new Map<string, Limit<W>>()
  private readonly agents = new Map<string, Limit<W>>()
  private readonly lanes = new Map<string, Lane<W>>()
  /** Lanes that are to be looked at: one of their places has come free. */
  private readonly coming = new Heap<InLine<W>>(isFirst)
  /** Principals that have fewer places for a while. */
  private readonly narrowed = new Set<string>()

  constructor(
    /** Jobs of one principal that run at once, delegated ones not among them. */
    private readonly perPrincipal: number,
    /** Called when `next` may have a job. */
    private readonly onComing: () => void
  ) {}

  /** Tells whether a job that is submitted now has to wait. */
  mustWait({ agent, concurrency, principal }: Pick<Waiter, "agent" | "concurrency" | "principal">): boolean {
    const own = this.agents.get(agent)
    if (own !== undefined) own.max = concurrency ?? Number.POSITIVE_INFINITY
    return own?.isClosed === true || this.principals.get(principal)?.isClosed === true
  }

  /** Takes the places of a job that runs, whatever the limits are; returns what gives them back. */
  take(claim: Claim): () => void {
    const limits = this.limitsOf(claim)
    for (const limit of limits) limit.taken++
    return () => this.giveBack(limits)
  }

  /** A job is being stored, and will wait: who comes after it does too. Returns what ends that. */
  store(claim: Claim): () => void {
    const limits = this.limitsOf(claim)
    for (const limit of limits) limit.storing++
    return () => {
      for (const limit of limits) {
        limit.storing--
        this.forget(limit)
      }
    }
  }

  /** Puts a job in line. */
  add(job: W): void {
    const lane = this.laneOf(job)
    const { head } = lane
    lane.jobs.push(job)
    if (head === undefined) this.look(lane)
    else if (comesBefore(job, head)) this.put(lane, lane.line)
  }

  /** A job that was in line is marked as gone. */
  lost(claim: Claim): void {
    const lane = this.lanes.get(keyOf(claim))
    lane?.lost()
    if (lane?.head === undefined && lane !== undefined) this.drop(lane)
  }

  /** Returns the next job that may begin, with its places taken; `undefined` when there is none. */
  next(): W | undefined {
    for (;;) {
      const lane = this.takeComing()
      if (lane === undefined) return undefined
      const { agent, principal } = lane
      const hasPrincipal = lane.keeps || principal.isFree
      if (hasPrincipal && agent.isFree) {
        const older = this.olderThan(lane)
        if (older === undefined) return this.begin(lane)
        this.look(lane)
        this.look(older)
        continue
      }
      if (hasPrincipal && !lane.keeps && ++lane.passed > patience) {
        principal.taken++
        lane.keeps = true
      }
      this.put(lane, (hasPrincipal ? agent : principal).line)
      // What it cannot use another one may.
      this.wake(hasPrincipal ? principal : agent)
    }
  }

  /**
   * Puts a job from `next` back in line: its principal has no more places than those that are taken, until {@link widen}, or until one
   * of them comes free.
   */
  narrow(job: W): void {
    const principal = this.limitOf(this.principals, job.principal)
    principal.max = principal.taken - 1
    this.narrowed.add(job.principal)
    // In this order: a limit that nobody has to do with is forgotten, and what it is with it.
    if (!job.gone) this.add(job)
    this.release(job)
  }
  /** Gives principals the places again that they have. */
  widen(): void {
    for (const key of this.narrowed) {
      const limit = this.principals.get(key)
      if (limit === undefined) continue
      limit.max = this.perPrincipal
      this.wake(limit)
    }
    this.narrowed.clear()
  }

  /** Gives back the places of a job from `next`, whose run takes them again at once. */
  handOver(claim: Claim): void {
    for (const limit of this.limitsOf(claim)) limit.taken--
  }
  /** Gives back the places of a job from `next` that does not begin. */
  release(claim: Claim): void {
    this.giveBack(this.limitsOf(claim))
  }

  private begin(lane: Lane<W>): W {
    const { agent, principal } = lane
    const job = lane.jobs.pop() as W
    if (!lane.keeps) principal.taken++
    agent.taken++
    lane.keeps = false
    lane.passed = 0
    if (lane.head === undefined) this.drop(lane)
    else this.look(lane)
    this.wake(principal)
    this.wake(agent)
    return job
  }

  /** Puts a lane at the place of its first job in a line, or among those that are coming. */
  private put(lane: Lane<W>, line: Heap<InLine<W>> | undefined): void {
    lane.line = line
    ;(line ?? this.coming).push({ lane, job: lane.head as W, ticket: ++lane.ticket })
  }
  /** Lets a lane be looked at. */
  private look(lane: Lane<W>): void {
    this.setComing(lane, true)
    this.put(lane, undefined)
    this.onComing()
  }
  /** Takes the first lane out of a line. */
  private pop(line: Heap<InLine<W>>): Lane<W> | undefined {
    for (;;) {
      const place = line.pop()
      if (place === undefined) return undefined
      const { job, lane, ticket } = place
      if (ticket !== lane.ticket) continue
      if (lane.head === job) return lane
      // The job for which it was put here is gone: the next one has a later place.
      this.put(lane, lane.line)
    }
  }
  /** Takes out a lane that waits for one of the places that this one is about to take, and comes before it. */
  private olderThan({ agent, head, principal }: Lane<W>): Lane<W> | undefined {
    for (const { line } of [principal, agent]) {
      const first = this.pop(line)
      if (first === undefined) continue
      if (comesBefore(first.head as W, head as W)) return first
      this.put(first, line)
    }
    return undefined
  }
  private takeComing(): Lane<W> | undefined {
    const lane = this.pop(this.coming)
    if (lane !== undefined) this.setComing(lane, false)
    return lane
  }
  private setComing(lane: Lane<W>, isComing: boolean): void {
    if (lane.isComing === isComing) return
    lane.isComing = isComing
    for (const limit of [lane.principal, lane.agent]) limit.coming += isComing ? 1 : -1
  }
  private giveBack(limits: ReadonlyArray<Limit<W>>): void {
    for (const limit of limits) limit.taken--
    for (const limit of limits) {
      this.wake(limit)
      this.forget(limit)
    }
  }
  /** Places may be free: as many lanes are looked at. */
  private wake(limit: Limit<W>): void {
    // Most have none who wait.
    while (limit.lanes > 0 && limit.taken + limit.coming < limit.max) {
      const lane = this.pop(limit.line)
      if (lane === undefined) return
      this.look(lane)
    }
  }

  private limitsOf({ agent, parentJobId, principal }: Claim): ReadonlyArray<Limit<W>> {
    const own = this.limitOf(this.agents, agent)
    return parentJobId === undefined ? [this.limitOf(this.principals, principal), own] : [own]
  }
  private limitOf(limits: Map<string, Limit<W>>, key: string): Limit<W> {
    const known = limits.get(key)
    if (known !== undefined) return known
    const limit = new Limit<W>(key)
    if (limits === this.principals) limit.max = this.perPrincipal
    limits.set(key, limit)
    return limit
  }
  private laneOf(job: W): Lane<W> {
    const key = keyOf(job)
    const known = this.lanes.get(key)
    if (known !== undefined) return known
    const agent = this.limitOf(this.agents, job.agent)
    agent.max = job.concurrency ?? Number.POSITIVE_INFINITY
    const lane = new Lane<W>(key, this.limitOf(this.principals, job.principal), agent)
    lane.principal.lanes++
    lane.agent.lanes++
    this.lanes.set(key, lane)
    return lane
  }
  /** Forgets a lane in which nobody waits any more. */
  private drop(lane: Lane<W>): void {
    const { agent, principal } = lane
    this.setComing(lane, false)
    this.lanes.delete(lane.key)
    // Wherever it was in line it is no longer.
    lane.ticket = -1
    for (const limit of [principal, agent]) {
      limit.lanes--
      this.wake(limit)
      this.forget(limit)
    }
    if (lane.keeps) this.giveBack([principal])
  }
  private forget({ isIdle, key }: Limit<W>): void {
    if (!isIdle) return
    for (const limits of [this.principals, this.agents])
      if (limits.get(key)?.isIdle === true) limits.delete(key)
  }
}

const keyOf = ({ agent, principal }: Claim): string => `${agent}\n${principal}`
